"""Files are whole or not there, whoever dies and whatever the disk says."""

import errno
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from reidkit import files
from reidkit.errors import CheckpointError, DatasetError, ReIDKitError
from reidkit.files import read_json, replacing, reserve, write_json, write_text
from reidkit.locks import locked

DEAD = 2**22 + 1  # no Linux has so high a process number


def python(code: str, *arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_folder_that_is_called_like_home_gets_its_table(tmp_path, monkeypatch):
    """pandas takes a leading ~ for the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with replacing("~/a.csv") as temporary:
        pd.DataFrame({"a": [1]}).to_csv(temporary, index=False)
    assert (tmp_path / "~" / "a.csv").read_text() == "a\n1\n" and not (tmp_path / "home").exists()


def test_a_new_file_and_its_folder(tmp_path):
    write_text(tmp_path / "a" / "b" / "x.txt", "größe\n")
    assert (tmp_path / "a" / "b" / "x.txt").read_bytes() == "größe\n".encode()
    write_json(tmp_path / "x.json", {"b": [1, 2], "a": None})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": null,\n  "b": [\n    1,\n    2\n  ]\n}\n'
    assert read_json(tmp_path / "x.json", missing="-") == {"a": None, "b": [1, 2]}
    assert sorted(os.listdir(tmp_path)) == ["a", "x.json"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="mine"), replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path and path.read_text() == "old"
        raise ValueError("mine")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError, match=r"other\.jpg"), replacing(path):
        (tmp_path / "other.jpg").read_bytes()  # not the fault of the file that is written
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("x")
        with replacing(tmp_path / "x.safetensors") as temporary:
            save_file({"a": torch.ones(3)}, temporary)  # writes 0600
            temporary.chmod(0o600)
        with replacing(tmp_path / "x.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, a=np.ones(3))
    finally:
        os.umask(before)
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert expected == 0o666 & ~umask
    assert [stat.S_IMODE((tmp_path / f"x.{s}").stat().st_mode) for s in ("safetensors", "npz")] == [expected] * 2
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 1, 1]


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (events.append(("fsync", os.fstat(fd).st_ino)), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (events.append(("rename", os.stat(a).st_ino)), rename(a, b)))
    write_text(tmp_path / "x", "text")
    inode = (tmp_path / "x").stat().st_ino
    assert events == [("fsync", inode), ("rename", inode)]


def test_leftovers_of_dead_processes_go(tmp_path):
    mine = f"@{files.MACHINE}.7"
    dead = [
        f".last.ckpt.{DEAD}.tmp",
        f".last.ckpt.{DEAD}{mine}.tmp",
        f".x.{os.getpid()}{mine}99.tmp",
        f".x.{10**9}.tmp",
    ]
    kept = [
        f".x.{os.getppid()}{mine}.tmp",
        f".x.{DEAD}@another-machine.7.tmp",
        ".x.tmp",
        "x.123.tmp",
        f".x.{DEAD}.tmpx",
    ]
    for name in dead + kept:
        (tmp_path / name).write_text("half")
    (tmp_path / f".folder.{DEAD}.tmp").mkdir()
    with replacing(tmp_path / "x") as first:
        first.write_text("first")
        write_text(tmp_path / "y", "second")  # a file that is being written is no leftover
        assert first.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, f".folder.{DEAD}.tmp", "x", "y"])


def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path):
    (tmp_path / "x").write_text("old")
    code = (
        "import sys; from reidkit.files import replacing\n"
        "with replacing(sys.argv[1]) as t: t.write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    child = python(code, tmp_path / "x")
    assert child.stdout.readline() == "ready\n"
    write_text(tmp_path / "y", "beside it")
    assert len(os.listdir(tmp_path)) == 3  # the child lives: its file is not touched
    child.kill()
    child.communicate()
    write_text(tmp_path / "y", "again")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"] and (tmp_path / "x").read_text() == "old"


def test_threads_and_processes_write_one_file(tmp_path):
    path = tmp_path / "x.json"
    code = (
        "import sys; from reidkit.files import write_json\n"
        "for i in range(20): write_json(sys.argv[1], {'who': sys.argv[2] * 5000, 'i': i})"
    )
    children = [python(code, path, who) for who in "ab"]
    write = lambda who: [write_json(path, {"who": who * 5000}) for _ in range(20)]  # noqa: E731
    threads = [threading.Thread(target=write, args=who) for who in "cd"]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads) or any(c.poll() is None for c in children):
        if path.exists():
            assert len(set(read_json(path, missing="-")["who"])) == 1  # never half of one
    assert [c.returncode for c in children] == [0, 0], [c.communicate()[1] for c in children]
    assert os.listdir(tmp_path) == ["x.json"]


WRITERS = {
    "text": "from reidkit.files import write_text; write_text(path, 'a' * 3_000_000)",
    "torch": "import torch; from reidkit.files import replacing\n"
    "with replacing(path) as t: torch.save({'a': torch.randn(800_000)}, t)",
    "safetensors": "import torch; from safetensors.torch import save_file; from reidkit.files import replacing\n"
    "with replacing(path) as t: save_file({'a': torch.randn(800_000)}, t)",
    "csv": "import pandas as pd, numpy as np; from reidkit.files import replacing\n"
    "with replacing(path) as t: pd.DataFrame(np.random.rand(200_000, 2)).to_csv(t)",
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, kind):
    """A limit on the size of files stands for the full disk: the writers meet both in the same place."""
    path = tmp_path / "run" / "file"
    path.parent.mkdir()
    path.write_text("old")
    code = (
        "import sys; path = sys.argv[1]; from reidkit.errors import ReIDKitError\n"
        f"try:\n    exec({WRITERS[kind]!r})\nexcept ReIDKitError as e: print(e)"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731
    out, err = python(code, path, preexec_fn=limit).communicate()
    assert re.fullmatch(rf"cannot write {path}: File too large; .*raise the limit.*\n", out), out + err
    assert path.read_text() == "old" and os.listdir(path.parent) == ["file"]


def test_a_full_disk_is_noticed_before_the_work(tmp_path):
    """One that still makes files, of no bytes."""
    code = (
        "import sys; from reidkit.files import check_writable; from reidkit.errors import ReIDKitError\n"
        "try: check_writable(sys.argv[1])\nexcept ReIDKitError as e: print(e)"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    out, err = python(code, tmp_path / "new" / "x", preexec_fn=limit).communicate()
    assert out.startswith(f"cannot write {tmp_path / 'new' / 'x'}: File too large"), out + err
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize(
    "number, advice",
    [
        (errno.ENOSPC, "make room"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "check the path and the disk"),
    ],
)
def test_what_the_disk_says_and_what_to_do(tmp_path, monkeypatch, number, advice):
    def refuse(fd):
        raise OSError(number, os.strerror(number))

    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(DatasetError, match=advice) as found:
        write_text(tmp_path / "x", "new", error=DatasetError)
    assert str(tmp_path / "x") in str(found.value) and os.strerror(number) in str(found.value)
    assert (tmp_path / "x").read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.json", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(ReIDKitError, match="cannot write"):
            write_json(path, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_read_json_says_what_is_wrong(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(CheckpointError, match=r"^not there$"):
        read_json(path, missing="not there")
    with pytest.raises(DatasetError, match=r"^not there$"):
        read_json(path / "deeper.json", missing="not there", error=DatasetError)
    for content, match in [
        (b'{"a": ', "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1, 2]", r"no JSON object but b'\[1, 2\]'"),
        (b"", "cannot be read as JSON"),
        (b" " * 5000, "more than 4,000 bytes"),
    ]:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=match) as found:
            read_json(path, missing="-", limit=4000 if content[:1] == b" " else files.JSON_BYTES)
        assert str(path) in str(found.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(tmp_path, missing="-")
    path.write_text(json.dumps({"a": 1}))
    assert read_json(path, missing="-", limit=8) == {"a": 1}


def test_a_lock_is_waited_for_and_freed_by_death(tmp_path):
    lock = tmp_path / "made" / ".x.lock"
    code = (
        "import sys; from reidkit.locks import locked\n"
        "with locked(sys.argv[1], 'somebody else is at it'):\n"
        "    print('in', flush=True); sys.argv[2] == 'stay' and sys.stdin.read()"
    )
    first = python(code, lock, "stay")
    assert first.stdout.readline() == "in\n"
    second = python(code, lock, "go")
    assert second.stderr.readline() == "somebody else is at it\n" and second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert second.communicate(timeout=600)[0] == "in\n" and second.returncode == 0
    first.communicate()
    assert os.listdir(lock.parent) == []


def test_room_is_taken_at_once_or_refused(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    assert path.stat().st_blocks == 0
    reserve(path)
    assert path.stat().st_size == 1 << 20 and path.stat().st_blocks * 512 >= 1 << 20


def test_one_at_a_time(tmp_path):
    """Ten threads take turns, although each removes the file that the others wait for."""
    inside, most = [], []

    def work():
        with locked(tmp_path / "lock", "waiting"):
            inside.append(1)
            most.append(len(inside))
            os.sched_yield()  # the others get their chance to break in
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert most == [1] * 10 and os.listdir(tmp_path) == []


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.json", tmp_path / "there" / "target.json"
    link.symlink_to(target)
    for value in ({"a": 1}, {"a": 2}):  # it leads to nothing at first
        files.check_writable(link)
        files.write_json(link, value)
        assert link.is_symlink() and json.loads(target.read_text()) == value
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link.json", "target.json", "there"]


def test_pipes_and_devices_are_refused_and_left_alone(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path in (pipe, link):
        for write in (files.check_writable, lambda p: files.write_text(p, "x")):
            with pytest.raises(ReIDKitError, match=f"cannot write .*{path.name}: it is a pipe or a device"):
                write(path)
    assert pipe.is_fifo() and link.is_symlink()
