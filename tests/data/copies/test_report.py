"""Where the report of `data check` goes, on any disk, and what it says it cannot see."""

import os
import warnings

import layouts
import pytest
from checking import check
from typer.testing import CliRunner

from reidkit import files
from reidkit.cli import app
from reidkit.data import load_dataset
from reidkit.data.copies import check as check_module
from reidkit.data.copies.check import check_command
from reidkit.errors import DatasetError


@pytest.fixture
def blocked(tmp_path):
    """A data set beside which no folder `checks` can be made (permissions do not stop root)."""
    home = layouts.write_market(tmp_path / "mine")
    (home / "checks").write_text("a file in the way")
    return home


def test_the_report_is_printed_where_it_cannot_be_saved(blocked, capsys, monkeypatch):
    order = []
    for function in ("_cannot_write", "_inspect"):
        real = getattr(check_module, function)
        monkeypatch.setattr(check_module, function, lambda *a, f=function, r=real: order.append(f) or r(*a))
    assert check_command("market-layout", blocked) == 0
    assert order == ["_cannot_write", "_inspect"]
    out = capsys.readouterr().out
    assert "the copy is sound" in out and "images per camera" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("tables and contact sheet were not saved") and str(blocked / "checks") in last
    assert "--out" in last and "--cache-dir" in last


@pytest.mark.parametrize("option", ["--out", "--cache-dir"])
def test_another_folder_for_the_report(blocked, tmp_path, option):
    command = ["data", "check", "market-layout", "--root", str(blocked), option, str(tmp_path / "o")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    saved = list((tmp_path / "o").rglob("report.txt"))
    assert len(saved) == 1 and "the copy is sound" in saved[0].read_text()
    if option == "--cache-dir":
        ds = load_dataset("market-layout", root=blocked, cache_dir=tmp_path / "o")
        assert saved[0].parent == ds.derived("checks")


def test_a_disk_that_fills_up_while_saving_keeps_the_old_report(tmp_path, capsys, monkeypatch):
    home = layouts.write_market(tmp_path / "mine")
    assert check_command("market-layout", home) == 0
    folder = home / "checks" / "market-layout"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 9
    victim = next((home / "query").iterdir())
    victim.write_bytes(victim.read_bytes()[:60])  # a new report would be another one

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    assert check_command("market-layout", home) == 1
    assert "not saved: " in (out := capsys.readouterr().out) and "No space left" in out and "make room" in out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_quarantine_on_a_disk_that_cannot_be_written_to(tmp_path, monkeypatch):
    home = layouts.write_market(tmp_path / "mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(check_module, "check_dataset", lambda *a: pytest.fail("checked first"))
    with pytest.raises(DatasetError, match="quarantine"):
        check_command("market-layout", home, quarantine=True)


def test_the_report_says_what_it_cannot_see(tmp_path, monkeypatch):
    ds = load_dataset("market-layout", root=layouts.write_market(tmp_path / "mine"))
    assert "without a warning" in str(check(ds))
    assert "headers" in check(ds, decode=False).unseen
    monkeypatch.setattr(check_module, "hears_complaints", lambda: False)
    assert "no decoder that warns" in str(check(ds))


def test_a_damaged_jpeg_is_a_problem_of_the_check(tmp_path):
    home = layouts.write_market(tmp_path / "mine")
    victim = sorted((home / "query").glob("*.jpg"))[0]
    data = bytearray(victim.read_bytes())
    middle = (data.rindex(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 60] = bytes(60)
    victim.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(load_dataset("market-layout", root=home))
    assert report.exit_code == 1 and report.broken.path.tolist() == [str(victim)] and "damaged" in report.problems[0]
