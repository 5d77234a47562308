"""Maps of another label set, masks, swapped folders: recognised by the statistics of a whole set of maps (case F17)."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from map_folders import FIGURES, figure, translated, write_figures, write_map
from market_folder import make_market_folder
from needs import need
from PIL import Image

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.data import load_dataset
from reidkit.errors import PriorError
from reidkit.priors import PriorTable, build_priors
from reidkit.priors.anatomy import PLACES, doubt_labels, doubt_masks, fitting_set, implausible
from reidkit.priors.build import default_file, image_paths
from reidkit.priors.census import LabelCensus, MaskCensus
from reidkit.priors.files import FileMaps
from reidkit.priors.labels import LABEL_SETS

SETS = list(LABEL_SETS)


def census(maps) -> LabelCensus:
    counts = LabelCensus()
    for labels in maps:
        counts.add(labels)
    return counts


def mask_census(maps, mode="L") -> MaskCensus:
    counts = MaskCensus()
    for values in maps:
        counts.add(values, mode)
    return counts


@pytest.fixture(scope="module")
def lip_maps(sidewalk_tiny) -> list[np.ndarray]:
    """Sidewalk's LIP maps, as its imperfect parser left them."""
    files = sorted((Path(sidewalk_tiny.root) / "parsing").rglob("*.png"))
    return [np.asarray(Image.open(file)) for file in files]


@given(seed=st.integers(0, 1000), n=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_the_census_agrees_with_pixels_counted_one_by_one(seed, n):
    rng = np.random.default_rng(seed)
    maps = [np.where(rng.random((6, 4)) < 0.3, rng.integers(0, 20, (6, 4)), 0).astype(np.uint8) for _ in range(n)]
    counts = census(maps)
    pixels, heights = np.zeros(256), np.zeros(256)
    for labels in maps:
        rows = [y for y in range(6) if labels[y].any()]
        for y in range(6):
            for label in labels[y]:
                pixels[label] += 1
                if rows:
                    heights[label] += (y + 0.5 - rows[0]) / (rows[-1] + 1 - rows[0])
    assert counts.maps == n and counts.bodies == sum(m.any() for m in maps)
    assert counts.lone == sum(len(set(m.flat) - {0}) == 1 for m in maps)
    assert np.array_equal(counts.pixels, pixels) and np.allclose(counts.heights, heights)


def test_every_label_has_a_place():
    assert {name for names in LABEL_SETS.values() for name in names} - {"background"} == set(PLACES)


@pytest.mark.parametrize("real", SETS)
@pytest.mark.parametrize("announced", SETS)
def test_sidewalk_in_three_label_sets_and_three_sizes(lip_maps, real, announced):
    for height, width in ((96, 32), (144, 48), (384, 128)):
        resized = [
            Image.fromarray(translated(real)[m]).resize((width, height), Image.Resampling.NEAREST)
            for m in lip_maps[::4]
        ]
        doubt = doubt_labels(census(map(np.asarray, resized)), announced)
        if announced == real:
            assert doubt is None
        else:
            assert f'label_set="{real}"' in doubt and f"--label-set {real}" in doubt and repr(announced) in doubt


def cut(labels: np.ndarray, upper: bool) -> np.ndarray:
    """The upper or the lower half of a body."""
    rows = np.flatnonzero(labels.any(axis=1))
    middle = (rows[0] + rows[-1]) // 2 if len(rows) else len(labels) // 2
    return labels[:middle] if upper else labels[middle:]


@pytest.mark.parametrize("part", ["from behind", "upper halves", "lower halves", "coats", "skirts", "no shoes", "hats"])
def test_true_maps_of_one_kind_of_picture_are_not_doubted(lip_maps, part):
    kinds = {
        "from behind": [m for m in lip_maps if 13 not in m],
        "upper halves": [cut(m, True) for m in lip_maps],
        "lower halves": [cut(m, False) for m in lip_maps],
        "coats": [m for m in lip_maps if 7 in m],
        "skirts": [m for m in lip_maps if 12 in m],
        "no shoes": [np.where(np.isin(m, (18, 19)), 0, m) for m in lip_maps],
        "hats": [m for m in lip_maps if 1 in m],
    }
    for real in SETS:
        assert len(kinds[part]) >= 20
        assert doubt_labels(census(translated(real)[m] for m in kinds[part]), real) is None


def test_true_maps_with_few_labels_are_not_doubted():
    from_behind = figure(2, 5, 9, 9)
    seated = figure(13, 5, 9, 18)
    seated[12:24, 3:13] = np.where(seated[12:24, 3:13] == 5, 9, seated[12:24, 3:13])  # the legs before the torso
    half_body = figure(13, 5, 9, 18)[:16]
    back_of_half_body = figure(2, 7, 9, 18)[:16]
    close = figure(13, 5, 9, 18)[:10]
    dressed, overall = figure(13, 6, 16, 19), figure(1, 10, 10, 18)
    for labels in (from_behind, seated, half_body, back_of_half_body, close, dressed, overall):
        assert doubt_labels(census([labels] * 50), "lip") is None


@pytest.mark.parametrize("real", SETS)
@pytest.mark.parametrize("announced", SETS)
def test_figures_in_three_label_sets(real, announced):
    counts = census([figure(*FIGURES[real])] * 6)
    assert fitting_set(counts) == real
    doubt = doubt_labels(counts, announced)
    assert doubt is None if real == announced else f'label_set="{real}"' in doubt


def test_noise_masks_and_empty_maps_are_no_parsing_maps():
    rng = np.random.default_rng(0)
    noise = doubt_labels(census(rng.integers(0, 20, (8, 40, 20)).astype(np.uint8)), "lip")
    assert "none of the label sets" in noise
    person = (figure(1, 1, 1, 1) > 0).astype(np.uint8)
    for label in (1, 5, 15, 255):
        assert "masks" in doubt_labels(census([person * label] * 5), "lip")
        assert "masks" in doubt_labels(census([np.full((9, 5), label, np.uint8)] * 5), "lip")  # one constant
    each_another = [np.full((9, 5), label, np.uint8) for label in range(1, 20)]
    assert "single label" in doubt_labels(census(each_another), "lip")
    empty = census([np.zeros((9, 5), np.uint8)] * 5)
    assert "found no body" in doubt_labels(empty, "lip", whole=True) and doubt_labels(empty, "lip") is None
    assert doubt_labels(census([person] * 3), "lip") is None  # three maps prove nothing


def test_the_reasons_can_be_read():
    seen = implausible(census([figure(*FIGURES["atr"])] * 4), "lip")
    ((reason, share),) = seen.items()
    assert reason.startswith("label 4 is 'sunglasses' but covers") and 0.3 < share < 0.6


def test_segmentation_maps_that_are_none():
    person = figure(*FIGURES["lip"])
    mask = (person > 0).astype(np.uint8)
    soft = np.random.default_rng(0).integers(0, 256, (5, 32, 16)).astype(np.uint8)
    faint = np.random.default_rng(0).integers(0, 100, (5, 32, 16)).astype(np.uint8)
    for maps, mode in (
        ([mask * 255] * 5, "L"),
        ([mask] * 5, "L"),
        ([mask] * 5, "1"),
        ([mask * 15] * 5, "P"),
        ([mask * 255] * 5, "P"),
        (soft, "L"),
        (faint, "L"),
        ([mask * 51] * 5, "L"),
        ([mask * 128, mask * 200] * 3, "L"),
        ([0 * mask] * 5, "L"),
        ([np.where(mask, 15, 255).astype(np.uint8)] * 5, "P"),  # Pascal VOC's "void" around the person
    ):
        assert doubt_masks(mask_census(maps, mode)) is None
    for maps, mode in (
        ([person] * 5, "L"),
        ([person] * 5, "P"),
        ([figure(*FIGURES["pascal"])] * 5, "P"),
        ([mask * 15] * 5, "L"),
        ([np.where(np.arange(16) > 1, mask, 255).astype(np.uint8)] * 5, "L"),  # 1 is the person, 255 void
    ):
        assert "hold labels" in doubt_masks(mask_census(maps, mode))
    assert "palette pictures" in doubt_masks(mask_census(soft, "P"))


@pytest.fixture
def ds(tmp_path):
    return load_dataset("market-layout", root=make_market_folder(tmp_path / "set"))


def build(ds, **keys) -> PriorTable:
    return build_priors(ds, "files", **{"grid": (8, 4), "progress": False, **keys})


@pytest.mark.parametrize("real", SETS)
@pytest.mark.parametrize("announced", SETS)
@pytest.mark.parametrize("palette", [False, True])
def test_build_refuses_maps_of_another_label_set(ds, real, announced, palette):
    write_figures(ds, ds.train, FIGURES[real], palette=palette)
    if real == announced:
        assert build(ds, label_set=announced).reliable.all()
        return
    with pytest.raises(PriorError, match=rf'(?s){announced}.*label_set="{real}".*--label-set {real}'):
        build(ds, label_set=announced)
    assert not default_file(ds, "files", (8, 4)).exists()  # nothing computed wrongly is kept


@pytest.mark.filterwarnings("ignore:the cached priors")
def test_build_refuses_masks_and_swapped_folders(ds):
    lip = figure(*FIGURES["lip"])
    for label in (1, 15, 255):
        write_figures(ds, ds.train, (label,) * 4)
        with pytest.raises(PriorError, match=r"masks, no parsing maps.*--parsing"):
            build(ds)
    for image in ds.train.path:
        write_map(ds.root / "parsing", ds.root, image, lip > 0)  # PNGs of one bit
    with pytest.raises(PriorError, match=r"masks, no parsing maps.*--parsing"):
        build(ds)
    for mask in (1, 15, 255):  # the maps of both folders exchanged
        write_figures(ds, ds.train, (mask,) * 4, segmentation=lip)
        with pytest.raises(PriorError, match=r"swapped.*--parsing.*--segmentation"):
            build(ds)
        keys = {"parsing_dir": ds.root / "segmentation", "segmentation_dir": ds.root / "parsing"}
        if mask != 15:
            assert build(ds, **keys, rebuild=True).reliable.all()
    write_figures(ds, ds.train, FIGURES["lip"], segmentation=lip)
    with pytest.raises(PriorError, match=r"hold labels.*--segmentation"):
        build(ds, rebuild=True)
    write_figures(ds, ds.train, (200, 90, 45, 133))  # a grey picture
    with pytest.raises(PriorError, match=r"label 200 is not in the label set 'lip'.*grey picture"):
        build(ds)


def test_a_wrong_part_of_a_large_set_is_refused_and_the_right_part_kept(tmp_path, monkeypatch):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set", train_ids=40))  # 160 images
    write_figures(ds, ds.train, FIGURES["lip"])
    write_figures(ds, ds.train[80:], FIGURES["atr"])
    read = []

    original = FileMaps.maps
    monkeypatch.setattr(FileMaps, "maps", lambda source, paths: (read.extend(paths), original(source, paths))[1])
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=80)
    assert len(read) == 160
    assert len(PriorTable.load(default_file(ds, "files", (8, 4)))) == 80  # the batch that was right
    read.clear()
    write_figures(ds, ds.train, FIGURES["atr"])
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=8)
    assert len(read) == 64  # refused long before the end


def test_rows_written_before_the_refusal_are_taken_back(tmp_path, monkeypatch):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set", train_ids=10))  # 40 images
    write_figures(ds, ds.train, FIGURES["lip"])
    out = default_file(ds, "files", (8, 4))
    build(ds)
    before = out.read_bytes()
    write_figures(ds, ds.train, FIGURES["atr"])
    monkeypatch.setattr("reidkit.priors.build.SAVE_SECONDS", -1)  # every batch is saved at once
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=8)
    assert dict(PriorTable.load(out).manifest) == dict(PriorTable.load(_copy(tmp_path, before)).manifest)
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=8, rebuild=True)
    assert dict(PriorTable.load(out).manifest) == dict(PriorTable.load(_copy(tmp_path, before)).manifest)


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_refused_build_leaves_a_file_of_other_settings_as_it_was(tmp_path, monkeypatch, rebuild):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set", train_ids=10))  # 40 images
    out = default_file(ds, "files", (8, 4))
    monkeypatch.setattr("reidkit.priors.build.SAVE_SECONDS", -1)  # every batch is saved at once
    write_figures(ds, ds.train, FIGURES["atr"])
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=8)
    assert not out.exists()
    build(ds, label_set="atr")
    before = out.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file is of other settings
        with pytest.raises(PriorError, match='label_set="atr"'):
            build(ds, batch_size=8, rebuild=rebuild)
    assert out.read_bytes() == before


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("mended", [False, True])
def test_a_refused_build_leaves_the_rows_that_others_added_meanwhile(tmp_path, monkeypatch, found, mended):
    """Before the last batch is read another process adds the query; or mends the maps and makes all rows anew."""
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set", train_ids=10))  # 40 images
    write_figures(ds, ds.query, FIGURES["lip"])
    out, original, calls, added = default_file(ds, "files", (8, 4)), FileMaps.maps, [], []
    if found:
        write_figures(ds, ds.train, FIGURES["lip"])
        build(ds)
    earlier = PriorTable.load(out) if found else None
    write_figures(ds, ds.train, FIGURES["atr"])

    def maps(source, paths):
        calls.append(paths)
        if len(calls) == 5:  # four batches of eight are in the file
            assert len(PriorTable.load(out)) == (40 if found else 32)
            if mended:
                write_figures(ds, ds.train, FIGURES["lip"])
            build(ds, splits=["train", "query"] if mended else ["query"])
            added.append(PriorTable.load(out))
            write_figures(ds, ds.train, FIGURES["atr"])
        return original(source, paths)

    monkeypatch.setattr("reidkit.priors.build.SAVE_SECONDS", -1)  # every batch is saved at once
    monkeypatch.setattr(FileMaps, "maps", maps)
    with pytest.raises(PriorError, match='label_set="atr"'):
        build(ds, batch_size=8)
    table = PriorTable.load(out)
    train, query = image_paths(ds, "train"), image_paths(ds, "query")
    assert set(table.paths) == {*query, *(train if found or mended else [])} and table.reliable.all()
    for paths, last in ((query, added[0]), (train, added[0] if mended else earlier)):
        if last is not None:
            assert table.subset(paths).manifest["fingerprint"] == last.subset(paths).manifest["fingerprint"]
    assert not list(out.parent.glob(".*"))


def _copy(folder: Path, content: bytes) -> Path:
    file = folder / "copy.npz"
    file.write_bytes(content)
    return file


def test_an_interrupted_build_keeps_nothing_of_wrong_maps(ds):
    write_figures(ds, ds.train, FIGURES["atr"])
    last = write_map(ds.root / "parsing", ds.root, ds.train.path.iloc[-1], figure(11, 4, 6, 9))
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(PriorError, match="does not decode"):
        build(ds, batch_size=4)
    assert not default_file(ds, "files", (8, 4)).exists()


def test_empty_maps_of_a_whole_set_are_refused_but_not_a_few_new_ones(ds):
    write_figures(ds, ds.train, FIGURES["lip"])
    build(ds)
    for image in ds.train.path[:5]:
        write_map(ds.root / "parsing", ds.root, image, np.zeros((32, 16), np.uint8), palette=True)
    assert build(ds).reliable.sum() == len(ds.train) - 5
    write_figures(ds, ds.train, (0, 0, 0, 0))
    with pytest.raises(PriorError, match="found no body"):
        build(ds)
