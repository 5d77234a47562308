"""Where data sets live when nobody says where: one place for every working directory, and nothing rendered twice."""

import os
import subprocess
import sys

import pytest
from needs import need
from paths import REPO

from reidkit.data import load_dataset, place


def test_the_environment_names_the_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_DATA", "elsewhere")
    assert place.data_root() == tmp_path / "elsewhere" and str(place.shown_root()) == "elsewhere"
    monkeypatch.setenv("REIDKIT_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place.data_root() == tmp_path / "home" / "sets"


def test_the_repository_s_own_data_else_the_working_directory_s(monkeypatch, tmp_path):
    monkeypatch.delenv("REIDKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert place.data_root() == place.shown_root() == REPO / "data"
    monkeypatch.chdir(REPO)
    assert place.data_root() == REPO / "data" and str(place.shown_root()) == "data"
    monkeypatch.setattr(place, "KIT", tmp_path / "site-packages")  # a kit installed without its repository
    monkeypatch.chdir(tmp_path)
    assert place.data_root() == tmp_path / "data" and str(place.shown_root()) == "data"


def test_a_typed_root_is_what_is_typed(sidewalk_tiny, data_root, monkeypatch):
    monkeypatch.chdir(data_root.parent)
    assert load_dataset("sidewalk", root=data_root.name, size="tiny").root.resolve() == sidewalk_tiny.root.resolve()
    monkeypatch.setenv("REIDKIT_DATA", str(data_root))
    ds = load_dataset("sidewalk", size="tiny")
    assert ds.root == sidewalk_tiny.root and ds.source["root"] == str(data_root)


@pytest.mark.parametrize("where", ["repository", "notebooks", "elsewhere"])
def test_a_kernel_sees_the_same_data_wherever_it_starts(where, sidewalk_tiny, data_root, tmp_path, monkeypatch):
    client, nbformat = need("nbclient"), need("nbformat")
    folder = {"repository": REPO, "notebooks": REPO / "notebooks", "elsewhere": tmp_path}[where]
    before = sorted(folder.iterdir())
    monkeypatch.setenv("REIDKIT_DATA", str(data_root))
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    code = (
        "import os\nfrom reidkit.data import data_root, load_dataset\n"
        "print(load_dataset('sidewalk', size='tiny').root)\nos.environ.pop('REIDKIT_DATA')\nprint(data_root())"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    printed = "".join(o.text for o in notebook.cells[0].outputs if o.name == "stdout").split()
    assert printed == [str(sidewalk_tiny.root), str(REPO / "data")]
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("command", [["sidewalk", "render"], ["data", "check", "sidewalk"]])
def test_a_command_from_elsewhere_renders_no_second_set(command, sidewalk_tiny, data_root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPO), "REIDKIT_DATA": str(data_root)}
    words = [sys.executable, "-m", "reidkit.cli", *command, "--size", "tiny"]
    words += ["--out", str(tmp_path / "report")] if command[0] == "data" else []
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"report"}
    assert "rendered" not in done.stdout or str(sidewalk_tiny.root) in done.stdout
