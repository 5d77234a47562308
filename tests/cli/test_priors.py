"""`reidkit priors build` as a user types it."""

from pathlib import Path

import numpy as np
import pytest
from map_folders import FIGURES, write_figures
from market_folder import make_market_folder
from PIL import Image
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data import load_dataset
from reidkit.data.lip import LIP_COLOURS
from reidkit.priors import PriorTable, default_file, open_source, prior_sheet, require_priors
from reidkit.priors.build import build_priors
from reidkit.priors.sheet import _verdict


@pytest.fixture
def ds(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set"))
    for table in (ds.train, ds.query):
        write_figures(ds, table, FIGURES["lip"])
    return ds


def priors_build(ds, *options: object):
    """The answer of the command on grid 8x4."""
    typed = ["priors", "build", "market-layout", "--root", ds.root, "--grid", "8x4", "--no-progress", *options]
    return CliRunner().invoke(app, [str(word) for word in typed])


def test_counts_and_files_are_on_the_screen(ds):
    answer = priors_build(ds, "--splits", "train, query")
    assert answer.exit_code == 0
    assert "grid 8x4, train, query: 26 images, 26 reliable (100.0%), 0 not reliable, 0 of them" in answer.output
    file = default_file(ds, "files", (8, 4))
    assert str(file) in answer.output and len(PriorTable.load(file)) == 26
    with Image.open(file.with_suffix(".png")) as sheet:
        assert np.asarray(sheet).std() > 20
    (ds.root / "parsing" / Path(ds.train.path[0]).relative_to(ds.root).with_suffix(".png")).unlink()
    answer = priors_build(ds, "--missing", "unreliable")
    assert "24 images, 23 reliable (95.8%), 1 not reliable, 1 of them without maps" in answer.output
    answer = priors_build(ds)
    assert answer.exit_code and "--missing unreliable" in str(answer.exception)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--splits", "train,qeury"], "query"),
        (["--splits", ""], "train"),
        (["--tool", "file"], "files"),
        (["--missing", "skip"], "unreliable"),
        (["--label-set", "lap"], "lip"),
        (["--grid", "8x0"], "24x8"),
        (["--grid", "²x3"], "24x8"),
    ],
)
def test_unknown_words_are_refused_before_any_work(ds, monkeypatch, options, said):
    monkeypatch.setattr("reidkit.priors.files.FileMaps.__post_init__", lambda *_: pytest.fail("a folder was opened"))
    answer = priors_build(ds, *options)
    assert answer.exit_code and said in str(answer.exception) and not (ds.root / "priors").exists()


def test_names_are_checked_before_a_data_set_is_rendered(tmp_path):
    for options in (["--tool", "sidewlak"], ["--missing", "x"], ["--label-set", "x"], ["--grid", "x"]):
        answer = CliRunner().invoke(app, ["priors", "build", "sidewalk", "--root", str(tmp_path), *options])
        assert answer.exit_code and not list(tmp_path.iterdir())


def test_cache_dir_and_out(ds, tmp_path):
    (ds.root / "priors").write_text("this folder cannot be made")
    answer = priors_build(ds)
    assert answer.exit_code and "--cache-dir DIR" in str(answer.exception) and "--out FILE" in str(answer.exception)
    assert priors_build(ds, "--cache-dir", tmp_path / "cache").exit_code == 0
    cached = load_dataset("market-layout", root=ds.root, cache_dir=tmp_path / "cache")
    require_priors(cached, "files", grid=(8, 4))
    assert default_file(cached, "files", (8, 4)).is_file()
    answer = priors_build(ds, "--out", tmp_path / "deep" / "mine.npz")
    assert answer.exit_code == 0 and len(PriorTable.load(tmp_path / "deep" / "mine.npz")) == 24
    assert (tmp_path / "deep" / "mine.png").is_file()
    assert f"looks for priors in {default_file(ds, 'files', (8, 4))}" in answer.output


def test_the_wrong_label_set_in_command_line_spelling(ds):
    write_figures(ds, ds.train, FIGURES["atr"])
    answer = priors_build(ds)
    assert answer.exit_code and "--label-set atr" in str(answer.exception)
    assert priors_build(ds, "--label-set", "atr").exit_code == 0


def test_warnings_come_without_source_lines(ds):
    assert priors_build(ds).exit_code == 0
    answer = priors_build(ds, "--segmentation", ds.root / "parsing")
    assert answer.exit_code and "hold labels" in str(answer.exception)
    assert "reidkit: warning: the cached priors" in answer.output and "built anew" in answer.output
    assert ".py:" not in answer.output and "UserWarning" not in answer.output


def test_few_reliable_priors_are_said_aloud(ds):
    write_figures(ds, ds.train, (13, 5, 5, 5))  # legs hidden
    assert "less than half are reliable" in priors_build(ds).output


def test_the_sheet_gives_reasons_and_a_legend(ds):
    write_figures(ds, ds.train[:8], (0, 5, 9, 18))
    write_figures(ds, ds.train[8:16], (13, 5, 5, 5))
    missing = ds.root / "parsing" / Path(ds.train.path[0]).relative_to(ds.root).with_suffix(".png")
    missing.unlink()
    table = build_priors(ds, "files", grid=(8, 4), missing="unreliable", progress=False)
    source = open_source(ds, "files")
    verdicts = [_verdict(table, row, source.maps([table.paths[row]])[0] if row else None, 0.5) for row in range(24)]
    assert verdicts == [
        "not reliable: no maps",
        *["not reliable: no head"] * 7,
        *["not reliable: no leg"] * 8,
        *["quality 0.50"] * 8,
    ]
    sheet = np.asarray(prior_sheet(ds, table, source=source))
    plain = np.asarray(prior_sheet(ds, table))

    def patches(picture, label):
        """Pixels of a label's colour in the lowest lines, where the legend is."""
        return (picture[-40:] == LIP_COLOURS[label]).all(axis=2).sum()

    assert all(patches(sheet, label) > 20 for label in (5, 9, 13, 18))
    assert not patches(sheet, 12) and not patches(plain, 5)
