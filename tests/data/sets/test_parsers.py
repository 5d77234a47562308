"""Parsers of the real data sets on miniature copies of their layouts."""

import shutil
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from needs import need
from PIL import Image

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.data import load_dataset
from reidkit.data.sets import cuhk03, msmt17
from reidkit.data.sets.cuhk03 import extract_mat, load_cuhk03
from reidkit.data.sets.duke import build_occluded_duke, load_dukemtmc, load_occluded_duke
from reidkit.data.sets.msmt17 import load_msmt17, read_list
from reidkit.errors import DatasetError, UnknownNameError
from reidkit.locks import locked


def images(ds):
    return {s: len(getattr(ds, s)) for s in ("train", "query", "gallery")}


def test_market_keeps_junk_distractors_and_multi_query_boxes(tmp_path):
    layouts.write_market(tmp_path / "Market-1501-v15.09.15" / "Market-1501-v15.09.15")
    ds = load_dataset("market1501", root=tmp_path)
    assert images(ds) == {"train": 12, "query": 4, "gallery": 10}
    assert set(ds.gallery.pid) == {-1, 0, 1, 5} and ds.junk_pids == (-1,)
    assert ds.summary().loc["gallery", "ids"] == 2
    boxes = ds.info["gt_bbox"]
    assert list(boxes.pid) == [1, 1] and list(boxes.camid) == [1, 1]
    assert set(boxes.pid) <= set(ds.query.pid)


@pytest.mark.parametrize("place", [".", "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID"])
def test_duke_wherever_archives_put_it(tmp_path, place):
    layouts.write_duke(tmp_path / place)
    ds = load_dukemtmc(tmp_path)
    assert ds.name == "dukemtmc" and images(ds) == {"train": 8, "query": 4, "gallery": 9}
    assert sorted(set(ds.train.camid)) == [1, 8] and ds.junk_pids == ()
    assert list(ds.gallery[ds.gallery.distractor].pid) == [7139]
    assert ds.summary().loc["gallery", "ids"] == 3  # distractors are counted, as in the published 1,110


def test_duke_says_that_it_was_withdrawn():
    for function in (load_dukemtmc, load_occluded_duke):
        text = " ".join(function.__doc__.split())
        assert "2019" in text and "consent" in text


def test_occluded_duke_from_lists(tmp_path):
    duke = layouts.write_duke(tmp_path / "DukeMTMC-reID")
    lists = layouts.write_occluded_lists(tmp_path / "lists")
    ds = build_occluded_duke(tmp_path, lists, tmp_path / "Occluded_Duke", progress=False)
    assert images(ds) == {"train": 7, "query": 1, "gallery": 4}
    moved = Path(ds.query.path[0])
    assert moved.read_bytes() == (duke / "bounding_box_test" / moved.name).read_bytes()
    assert load_dataset("occluded-duke", root=tmp_path).train.equals(ds.train)
    with pytest.raises(DatasetError, match="already holds"):
        build_occluded_duke(tmp_path, lists, tmp_path / "Occluded_Duke", progress=False)


def test_occluded_duke_keeps_nothing_of_a_call_with_other_lists(tmp_path):
    layouts.write_duke(tmp_path / "DukeMTMC-reID")
    lists = layouts.write_occluded_lists(tmp_path / "lists")
    left = tmp_path / "Occluded_Duke.building" / "bounding_box_train"
    left.mkdir(parents=True)
    (left / "0099_c1_f0000001.jpg").write_bytes(b"of another list")
    (left / "0001_c1_f0000001.jpg.part").write_bytes(b"half of a copy")
    ds = build_occluded_duke(tmp_path, lists, tmp_path / "Occluded_Duke", progress=False)
    assert images(ds) == {"train": 7, "query": 1, "gallery": 4}
    (lists / "train.list").write_bytes("é\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"train.list cannot be read as a list of names"):
        build_occluded_duke(tmp_path, lists, tmp_path / "again", progress=False)


@pytest.mark.parametrize(
    ("entry", "message"), [("../0001_c1_f1.jpg", "plain image name"), ("0001_c9_f1.jpg", "not in the")]
)
def test_occluded_duke_refuses_odd_lists(tmp_path, entry, message):
    layouts.write_duke(tmp_path / "DukeMTMC-reID")
    lists = layouts.write_occluded_lists(tmp_path / "lists")
    (lists / "query.list").write_text(entry + "\n")
    with pytest.raises(DatasetError, match=message):
        build_occluded_duke(tmp_path, lists, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_cuhk03_folders(tmp_path):
    layouts.write_cuhk03_np(tmp_path / "cuhk03-np")
    detected = load_dataset("cuhk03-detected", root=tmp_path)
    labeled = load_dataset("cuhk03-labeled", root=tmp_path)
    assert images(detected) == {"train": 13, "query": 4, "gallery": 9}
    assert images(labeled) == {"train": 13, "query": 4, "gallery": 8}
    assert "/detected/" in detected.train.path[0] and "/labeled/" in labeled.train.path[0]
    assert detected.junk_pids == ()
    assert images(load_cuhk03(tmp_path / "cuhk03-np" / "labeled", "labeled")) == images(labeled)
    with pytest.raises(DatasetError, match="cuhk03-detected"):
        load_cuhk03(tmp_path / "cuhk03-np" / "labeled", "detected")  # never the other boxes by accident
    with pytest.raises(UnknownNameError, match="detected"):
        load_cuhk03(tmp_path, "detectd")


def test_cuhk03_mat_gives_the_pixels_that_went_in(tmp_path):
    arrays = layouts.write_cuhk03_mat(tmp_path / "cuhk03" / "cuhk03_release")
    for boxes in ("detected", "labeled"):
        ds = load_cuhk03(tmp_path, boxes, progress=False)
        assert ds.root == tmp_path / "cuhk03"
        assert images(ds) == {"train": 9, "query": 4, "gallery": 15}  # 3 people, 10 images, two without the last
        assert set(ds.train.pid) == {1} and set(ds.query.pid) == set(ds.gallery.pid) == {2, 3}
        assert ds.num_train_ids == 1 and set(ds.gallery.camid) == {1, 2} and set(ds.gallery.pair) == {1, 2}
        for row in pd.concat([ds.train, ds.query, ds.gallery]).itertuples():
            name = Path(row.path).name
            assert np.array_equal(np.asarray(Image.open(row.path)), arrays[f"{boxes}/{name}"])
            assert (row.pair, row.camid) == (int(name.split("_")[0]), int(name.split("_")[2]))


def test_cuhk03_extraction_goes_on_where_it_stopped(tmp_path, monkeypatch):
    layouts.write_cuhk03_mat(tmp_path)
    written = []
    real = cuhk03._write_image

    def breaks_after_five(array, target):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(target.name)
        real(array, target)

    monkeypatch.setattr(cuhk03, "_write_image", breaks_after_five)
    with pytest.raises(KeyboardInterrupt):
        extract_mat(tmp_path / "cuhk-03.mat", "detected", tmp_path / "images_detected", progress=False)
    assert not (tmp_path / "images_detected").exists()
    rest = []
    monkeypatch.setattr(cuhk03, "_write_image", lambda a, t: (rest.append(t.name), real(a, t)))
    out = extract_mat(tmp_path / "cuhk-03.mat", "detected", tmp_path / "images_detected", progress=False)
    assert len(list(out.iterdir())) == 28 == len(rest) + 5 and not set(rest) & set(written)


def test_a_process_that_finds_another_one_extracting_takes_what_that_wrote(tmp_path):
    layouts.write_cuhk03_mat(tmp_path)
    out = tmp_path / "images_detected"
    code = "import sys; from reidkit.data.sets.cuhk03 import extract_mat; extract_mat(*sys.argv[1:], progress=False)"
    with locked(tmp_path / ".images_detected.lock", ""):
        command = [sys.executable, "-c", code, str(tmp_path / "cuhk-03.mat"), "detected", str(out)]
        other = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert f"another process writes {out}; waiting for it" in other.stderr.readline()
        out.mkdir()
        (out / "1_001_1_01.png").write_bytes(b"ours")
    assert other.wait() == 0 and [p.name for p in out.iterdir()] == ["1_001_1_01.png"]
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.lock"))


def test_where_images_of_a_mat_cannot_be_written_is_said_first(tmp_path, monkeypatch):
    layouts.write_cuhk03_mat(tmp_path)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(cuhk03, "_write_image", lambda *a: pytest.fail("an image was extracted"))
    for out in (tmp_path / "file", tmp_path / "file" / "images_detected"):
        with pytest.raises(DatasetError, match=r"file is a file|cannot write the images of .*cuhk-03.mat"):
            extract_mat(tmp_path / "cuhk-03.mat", "detected", out, progress=False)
    with pytest.raises(DatasetError, match=r"other.mat cannot be read: No such file"):
        extract_mat(tmp_path / "other.mat", "detected", tmp_path / "images_detected", progress=False)


def test_cuhk03_mat_errors_name_the_file(tmp_path):
    layouts.write_cuhk03_mat(tmp_path)
    mat = tmp_path / "cuhk-03.mat"
    whole = mat.read_bytes()
    mat.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cuhk-03\.mat .*cut off"):
        load_cuhk03(tmp_path, progress=False)
    mat.write_bytes(b"MATLAB 5.0 MAT-file, not HDF5")
    with pytest.raises(DatasetError, match=r"v7\.3"):
        load_cuhk03(tmp_path, progress=False)
    mat.unlink()
    with pytest.raises(DatasetError, match=r"only .*config_detected\.mat is there"):
        load_cuhk03(tmp_path)
    (tmp_path / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"no")
    (tmp_path / "images_detected").mkdir()
    with pytest.raises(DatasetError, match="protocol file"):
        load_cuhk03(tmp_path)


def test_cuhk03_protocol_without_an_image(tmp_path):
    layouts.write_cuhk03_mat(tmp_path)
    ds = load_cuhk03(tmp_path, progress=False)
    Path(ds.train.path[3]).unlink()
    with pytest.raises(DatasetError, match=r"1 of them are not in .*1_001_1_04\.png"):
        load_cuhk03(tmp_path, progress=False)


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("place", ["MSMT17_{}", ".", "msmt17/MSMT17_{}"])
def test_msmt17(tmp_path, version, place):
    home = layouts.write_msmt17(tmp_path / place.format(version), version)
    ds = load_msmt17(tmp_path)
    assert ds.root == home and ds.info["version"] == version
    assert images(ds) == {"train": 5, "query": 2, "gallery": 4}
    assert list(ds.train.part) == ["train"] * 4 + ["val"]
    assert set(ds.train.pid) == {1, 2} and set(ds.query.pid) == set(ds.gallery.pid) == {3, 4}
    assert set(ds.query.label) == {0, 1} and set(ds.train.camid) == {1, 15}
    assert ds.summary().loc["gallery"].tolist() == [2, 4, 2]  # label 0 is a person, not a distractor
    assert all(Path(p).is_file() for p in ds.gallery.path)


def test_msmt17_errors(tmp_path):
    with pytest.raises(DatasetError, match=r"list_train\.txt"):
        load_msmt17(tmp_path)
    home = layouts.write_msmt17(tmp_path / "MSMT17_V1")
    listing = home / "list_query.txt"
    text = listing.read_text()
    for line, message in [
        ("0000/0000_000_01_x.jpg zero", "line 3"),
        ("../../etc/0000_000_01_x.jpg 0", "line 3"),
        ("/etc/0000_000_01_x.jpg 0", "line 3"),
        ("0000/portrait.jpg 0", "expected"),
        ("0000/0000_999_01_0303morning_0000_0.jpg 0", "is not in"),
    ]:
        listing.write_text(text + line + "\n")
        with pytest.raises(DatasetError, match=message):
            load_msmt17(tmp_path)
    listing.write_text("\n")
    with pytest.raises(DatasetError, match="lists no images"):
        load_msmt17(tmp_path)
    listing.unlink()
    with pytest.raises(DatasetError, match=r"lacks list_query\.txt"):
        load_msmt17(tmp_path)


def test_msmt17_lists_with_windows_ends_and_a_byte_order_mark(tmp_path):
    home = layouts.write_msmt17(tmp_path)
    before = load_msmt17(tmp_path).train
    text = (home / "list_train.txt").read_text()
    (home / "list_train.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_msmt17(tmp_path).train.equals(before)


@settings(max_examples=60, deadline=None)
@given(
    label=st.integers(0, 9999),
    index=st.integers(0, 999),
    camera=st.integers(1, 15),
    tail=st.from_regex(r"[\w.-]{0,20}", fullmatch=True),
)
def test_msmt17_lines_round_trip(label, index, camera, tail):
    name = f"{label:04d}/{label:04d}_{index:03d}_{camera:02d}_{tail}.jpg"
    relative, got_label, got_camera = msmt17._parse_line(f"{name} {label}\n", "here")
    assert (str(relative), got_label, got_camera) == (name, label, camera)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_msmt17_any_line_parses_safely_or_is_refused(line):
    if not line.strip():
        return
    try:
        relative, label, camera = msmt17._parse_line(line, "here")
    except DatasetError as error:
        assert "here" in str(error)
    else:
        assert ".." not in relative.parts and not relative.is_absolute() and label >= 0 and camera >= 0


pids = st.lists(st.integers(1, 1400), min_size=2, max_size=8, unique=True)


@settings(max_examples=15, deadline=None)
@given(
    people=pids,
    cameras=st.integers(1, 9),
    litter=st.sets(st.sampled_from(["Thumbs.db", ".DS_Store", "readme.txt", "._0001_c1.jpg"])),
)
def test_random_trees_come_back_as_written(tmp_path_factory, people, cameras, litter):
    root = tmp_path_factory.mktemp("tree")
    half = len(people) // 2
    wanted = {}
    for folder, group, frame in zip(layouts.MARKET_SPLITS, (people[:half], people[half:], people[half:]), (0, 1, 2)):
        (root / folder).mkdir()
        names = {f"{p:04d}_c{c}_f{frame:07d}.jpg": (p, c) for p in group for c in range(1, cameras + 1)}
        for name in [*names, *litter]:
            (root / folder / name).write_bytes(b"x")  # parsers read names only
        wanted[folder] = names
    ds = load_dukemtmc(root)
    for folder, table in zip(layouts.MARKET_SPLITS, (ds.train, ds.query, ds.gallery)):
        got = {Path(r.path).name: (r.pid, r.camid) for r in table.itertuples()}
        assert got == wanted[folder]
    shutil.rmtree(root)


def test_names_that_are_not_utf8(tmp_path):
    home = layouts.write_msmt17(tmp_path)
    raw = b"0000_007_01_0303morning_\xff\xfe_0.jpg"
    (home / "train" / "0000" / raw.decode(errors="surrogateescape")).write_bytes(layouts.encoded())
    with (home / "list_val.txt").open("ab") as file:
        file.write(b"0000/" + raw + b" 0\n")
    table = read_list(home / "list_val.txt", home / "train")
    assert Path(table.path.iloc[-1]).is_file()
