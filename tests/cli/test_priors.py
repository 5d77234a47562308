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
from reidkit.errors import PriorError
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
        (["--tool", "sidewalk", "--parsing", "/nowhere"], "parsing_dir (--parsing)"),
        (["--tool", "sidewalk", "--label-set", "atr"], "label_set (--label-set)"),
        (["--tool", "sidewalk", "--segmentation-model", "deeplab", "--parsing-model", "foo"], "torchvision+segformer"),
        (["--segmentation-model", "deeplab"], "only the prior tool 'torchvision+segformer'"),
        (["--tool", "torchvision+segformer", "--segmentation", "/nowhere"], "only the prior tool 'files'"),
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


def maps_of(ds):
    return {kind: ds.root / kind for kind in ("parsing", "segmentation")}


def moved(ds, tmp_path, places):
    """Move the maps elsewhere. places: {kind: path below tmp_path}"""
    for kind, place in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (ds.root / kind).rename(tmp_path / place)


@pytest.mark.parametrize(
    "named, lies",
    [
        ("maps", "maps/{kind}"),  # one level too high
        ("all", "all/maps/{kind}"),  # two levels
        ("maps/{kind}/bounding_box_train", "maps/{kind}"),  # one level too low
        ("maps/{kind}/bounding_box_train/x", "maps/{kind}"),  # two levels
        ("maps/set/{kind}", "maps/{kind}"),  # a folder that is not in between
        ("maps/{other}_1", "maps/{kind}_2"),  # beside it
    ],
)
def test_maps_a_level_or_two_away_are_named(ds, tmp_path, named, lies):
    """Of each kind its own folder, though the maps of both have the same names."""
    kinds = {"parsing": "segmentation", "segmentation": "parsing"}
    moved(ds, tmp_path, {kind: lies.format(kind=kind) for kind in kinds})
    options = []
    for kind, other in kinds.items():
        folder = tmp_path / named.format(kind=kind, other=other)
        folder.mkdir(parents=True, exist_ok=True)
        options += [f"--{kind}", folder]
    said = str(priors_build(ds, *options).exception)
    for kind in kinds:
        place = tmp_path / lies.format(kind=kind)
        assert f"the {kind} maps lie in {place}: name that folder (--{kind} {place}" in said


def test_a_misspelt_folder_of_maps(ds, tmp_path):
    moved(ds, tmp_path, {"parsing": "maps/parsing"})
    said = str(priors_build(ds, "--parsing", tmp_path / "maps" / "parsnig").exception)
    assert f"Did you mean {tmp_path / 'maps' / 'parsing'}?" in said
    said = str(priors_build(ds, "--parsing", tmp_path / "nowhere" / "at" / "all").exception)
    assert "no such folder of parsing maps" in said and "Did you mean" not in said


def test_what_lacks_maps_is_counted_by_split_and_kind(ds):
    gone = [(ds.train, 0, "segmentation"), (ds.train, 3, "segmentation"), (ds.query, 0, "parsing")]
    for table, row, kind in gone:
        (maps_of(ds)[kind] / Path(table.path[row]).relative_to(ds.root).with_suffix(".png")).unlink()
    said = str(priors_build(ds, "--splits", "train,query").exception)
    assert "3 of 26 images have no maps (train 2 of 24, query 1 of 2;" in said
    assert f"1 of these have no parsing map in {ds.root / 'parsing'}" in said
    assert f"2 of these have no segmentation map in {ds.root / 'segmentation'}" in said
    answer = priors_build(ds, "--splits", "train,query", "--missing", "unreliable")
    assert "without maps: train 2 of 24, query 1 of 2; the first is bounding_box_train/" in answer.output


def test_priors_of_another_grid_are_named_with_theirs(ds, tmp_path):
    assert priors_build(ds).exit_code == 0
    moved(ds, tmp_path, {"parsing": "gone"})
    with pytest.raises(PriorError) as caught:
        require_priors(ds, "files", grid=(24, 8))
    said = str(caught.value)
    assert "grid 24x8" in said and "files-8x4.npz (tool files, grid 8x4, 24 images)" in said
    assert "do not serve another: the feature map here has 24x8 cells" in said


@pytest.mark.parametrize(
    "out, file",
    [("mpn-0.1", "mpn-0.1.npz"), ("a.npz", "a.npz"), ("b.txt", "b.txt.npz"), ("folder", "folder/files-8x4.npz")],
)
def test_out_is_a_file_or_a_folder(ds, tmp_path, out, file):
    (tmp_path / "folder").mkdir()
    answer = priors_build(ds, "--out", tmp_path / out)
    assert answer.exit_code == 0 and len(PriorTable.load(tmp_path / file)) == 24
    assert str(tmp_path / file) in answer.output and (tmp_path / file).with_suffix(".png").is_file()


def test_python_refuses_the_options_of_another_tool_too(ds):
    for tool, options in (
        ("sidewalk", {"parsing_dir": "/nowhere"}),
        ("files", {"segmentation_model": "deeplab"}),
        ("torchvision+segformer", {"label_set": "atr"}),
    ):
        with pytest.raises(PriorError, match=next(iter(options))):
            build_priors(ds, tool, **options)
