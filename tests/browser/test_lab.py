"""`make lab`: the server starts, as root too, shows the whole repository, and is open to nobody without the token."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from needs import need
from paths import REPO
from servers import LIMIT, TOKEN, serving

MAKE = ["make", "-o", ".venv/.installed", "lab", f"PY={sys.executable}"]  # without the installation


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address, what was printed) of a server that `make lab` started, without a browser."""
    need("jupyterlab")
    if shutil.which("make") is None:
        pytest.skip("no make here")
    home = tmp_path_factory.mktemp("lab")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(home / name.lower()) for name in names} | {"JUPYTER_TOKEN": TOKEN}
    script = 'exec "$@" LAB="--no-browser --ServerApp.port_retries=0 $PORT"'
    port = 'for PORT; do :; done; set -- "${@:1:$#-1}"; '  # `serving` appends --port=N
    command = ["bash", "-c", port + script, "lab", *MAKE]
    log = home / "server.log"
    with serving(command, f"/api/status?token={TOKEN}", log, cwd=REPO, env=environment) as address:
        yield address, log.read_text()


def get(address: str, token: str = TOKEN) -> str:
    """What the server answers."""
    request = urllib.request.Request(address, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        return answer.read().decode()


def test_notebook_00_is_served_and_the_sources_are_in_sight(server):
    address, printed = server
    assert "jupyter-config-data" in get(f"{address}/lab/tree/notebooks/00_start_here.ipynb")
    source = json.loads(get(f"{address}/api/contents/reidkit/models/mpn.py?type=file&format=text"))
    assert source["content"] == (REPO / "reidkit" / "models" / "mpn.py").read_text()
    notebook = json.loads(get(f"{address}/api/contents/notebooks/00_start_here.ipynb?content=0"))
    assert notebook["type"] == "notebook"
    assert f"Serving notebooks from local directory: {REPO}" in printed


def test_nobody_without_the_token(server):
    address, printed = server
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{address}/api/contents/README.md", "wrong")
    assert refused.value.code == 403
    assert "open to this machine only (127.0.0.1), with the token" in printed and "ssh -L" in printed


@pytest.mark.parametrize(("user", "allowed"), [("0", True), ("1000", False)])
def test_root_is_allowed_and_told_and_others_need_nothing(user, allowed, tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (tmp_path / "id").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    printed = {}
    for ip in ("127.0.0.1", "0.0.0.0"):
        words = [*MAKE[:-1], "PY=echo STARTED", f"IP={ip}"]
        done = subprocess.run(words, cwd=REPO, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed[ip] = done.stdout
        (started,) = re.findall(r"^STARTED (.*)$", done.stdout, flags=re.M)
        assert ("--allow-root" in started) == allowed and f"--ip={ip}" in started
        assert started.endswith(" notebooks/00_start_here.ipynb") and f"root_dir={REPO} " in started
        assert ("make: you are root" in done.stdout) == allowed
    assert "to this machine only" in printed["127.0.0.1"] and "every computer" not in printed["127.0.0.1"]
    assert "every computer that reaches 0.0.0.0" in printed["0.0.0.0"] and "machine only" not in printed["0.0.0.0"]
