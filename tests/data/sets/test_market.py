"""Market-1501's layout: what is read, what is ignored, what is refused."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from market_folder import FOLDERS, make_market_folder, write_image
from needs import need

need("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from reidkit.data import DATASETS, load_dataset
from reidkit.data.copies.label_check import check_files, check_labels
from reidkit.data.sets.market import ARCHIVE_NAMES, find_layout, is_stray, parse_name, read_folder
from reidkit.errors import DatasetError, UnknownNameError


@pytest.fixture
def market(tmp_path):
    return make_market_folder(tmp_path / "Market-1501-v15.09.15")


def test_reads_the_three_tables(market):
    ds = load_dataset("market1501", root=market)
    assert ds.name == "market1501" and ds.root == market
    assert ds.summary().to_dict("index") == {
        "train": {"ids": 6, "images": 24, "cameras": 2},
        "query": {"ids": 2, "images": 2, "cameras": 1},
        "gallery": {"ids": 2, "images": 6, "cameras": 2},  # junk and distractor are images, not identities
    }
    first = ds.train.iloc[0]
    assert Path(first.path) == market / "bounding_box_train" / "0002_c1s1_000000_01.jpg"
    assert (first.pid, first.camid) == (2, 1)
    assert {-1, 0} <= set(ds.gallery.pid) and ds.junk_pids == (-1,)
    assert ds.train_labels().tolist() == np.repeat(np.arange(6), 4).tolist()


@pytest.mark.parametrize("place", [".", "Market-1501", "Market-1501-v15.09.15/Market-1501-v15.09.15"])
def test_is_found_where_archives_unpack_to(tmp_path, place):
    make_market_folder(tmp_path / place)
    assert len(load_dataset("market1501", root=tmp_path).train) == 24


def test_any_folder_in_the_layout(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "my_campus"))
    assert ds.name == "my_campus" and len(ds.query) == 2


def test_stray_files_are_ignored(market):
    for name in ("Thumbs.db", ".DS_Store", "._0002_c1s1_000000_01.jpg", "readme.txt"):
        for folder in FOLDERS:
            (market / folder / name).write_bytes(b"x")
    write_image(market / "query" / "0101_C2S1_000007_00.JPG", np.random.default_rng(0))
    ds = load_dataset("market1501", root=market)
    assert (len(ds.train), len(ds.query), len(ds.gallery)) == (24, 3, 6)


def test_multi_query_boxes(market):
    assert "gt_bbox" not in load_dataset("market1501", root=market).info
    write_image(market / "gt_bbox" / "0101_c1s1_000001_00.jpg", np.random.default_rng(0))
    boxes = load_dataset("market1501", root=market).info["gt_bbox"]
    assert boxes[["pid", "camid"]].values.tolist() == [[101, 1]]


@pytest.mark.parametrize("name", ["person.jpg", "0002_x1s1_000000_01.jpg", "-2_c1.jpg", "0002_c.png", "0002_cé.jpg"])
def test_a_name_that_does_not_parse_is_named(market, name):
    (market / "query" / name).write_bytes(b"x")
    with pytest.raises(DatasetError) as caught:
        load_dataset("market1501", root=market)
    assert repr(name) in str(caught.value) and "0002_c1s1_000451_03.jpg" in str(caught.value)


def test_a_name_that_is_not_utf8(market):
    bad = bytes(market / "query") + b"/0002_c1\xff.jpg"
    try:
        Path(bad.decode(errors="surrogateescape")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(DatasetError) as caught:
        load_dataset("market1501", root=market)
    str(caught.value).encode()  # the message can be printed


def test_missing_and_empty_folders(tmp_path, market):
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset("market1501", root=tmp_path / "nowhere")
    for file in (market / "query").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match=r"no images .*query"):
        load_dataset("market1501", root=market)
    (market / "query").rmdir()
    with pytest.raises(DatasetError, match=r"lacks the folders \['query'\]"):
        load_dataset("market1501", root=market)


def test_the_error_of_find_layout_lists_both_sides(tmp_path):
    (tmp_path / "something").mkdir()
    with pytest.raises(DatasetError) as caught:
        find_layout(tmp_path, FOLDERS, ARCHIVE_NAMES, "market1501")
    for word in (*FOLDERS, *ARCHIVE_NAMES, str(tmp_path), "'something'"):
        assert word in str(caught.value)


def test_a_folder_named_like_an_image(market):
    (market / "query" / "0103_c1s1_000000_00.jpg").mkdir()
    with pytest.raises(DatasetError, match="is a folder"):
        load_dataset("market1501", root=market)


def test_test_identities_must_not_be_trained_on(market):
    write_image(market / "query" / "0002_c1s1_000001_00.jpg", np.random.default_rng(0))
    with pytest.raises(DatasetError, match=r"1 identities .*\[2\]"):
        load_dataset("market1501", root=market)
    with pytest.warns(UserWarning, match="1 identities"):
        load_dataset("market-layout", root=market)


def from_zero(market, folders):
    """Person 2 (train) and person 101 (query, gallery) of `folders` are called 0; the distractor is taken away."""
    (market / "bounding_box_test" / "0000_c2s1_000004_01.jpg").unlink()
    for folder in folders:
        for file in [*(market / folder).glob("0002_*"), *(market / folder).glob("0101_*")]:
            file.rename(file.with_name(f"0000{file.name[4:]}"))
    return market


def test_where_people_are_numbered_from_0_it_is_a_person(market):
    from reidkit.evaluation import queries_without_match

    from_zero(market, ["query", "bounding_box_test"])
    ds = load_dataset("market-layout", root=market)
    assert ds.nobody == {-1} and ds.summary().ids.tolist() == [6, 2, 2]
    assert not len(queries_without_match(ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid))
    assert not check_files(ds)["check"].str.contains("distractors").any()
    from_zero_too = market / "bounding_box_train" / "0000_c1s1_000000_01.jpg"
    write_image(from_zero_too, np.random.default_rng(0))
    with pytest.raises(DatasetError, match=r"1 identities .*\[0\]"):
        load_dataset("market1501", root=market)
    with pytest.warns(UserWarning, match=r"1 identities .*\[0\]"):
        ds = load_dataset("market-layout", root=market)
    labels = check_labels(ds).set_index("check")
    assert labels.loc["identities in train and in test", "examples"] == "0"


def test_identity_0_of_the_gallery_alone_is_a_distractor(market):
    ds = load_dataset("market1501", root=market)
    assert ds.nobody == {-1, 0}
    found = check_files(ds).set_index("check")
    assert found.loc["distractors in the gallery, never a match", "examples"] == "identity 0"
    for file in (market / "bounding_box_train").glob("0002_*"):
        file.rename(file.with_name(f"0000{file.name[4:]}"))
    with pytest.warns(UserWarning, match=r"1 identities .*\[0\]"):  # trained on, so no distractor
        assert load_dataset("market-layout", root=market).summary().ids.tolist() == [6, 2, 3]


def test_junk_is_no_identity_in_the_query_folder_either(market):
    write_image(market / "query" / "-1_c1s1_000001_00.jpg", np.random.default_rng(0))
    before = load_dataset("market-layout", root=market).summary().ids["query"]
    assert before == load_dataset("market-layout", root=market).query.pid.drop_duplicates().ge(0).sum()


def test_a_folder_that_cannot_be_read_is_named(market, monkeypatch):
    """For whoever runs this as root, the system's refusal is played."""
    real = os.scandir

    def refusing(path="."):
        if str(path).endswith("query"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetError, match=r"market1501: .*/query cannot be read: Permission denied"):
        load_dataset("market1501", root=market)
    (market / "bounding_box_train").rename(market / "train")  # pictures of no known layout
    with pytest.raises(DatasetError, match=r"the folder .*/query cannot be read: Permission denied"):
        load_dataset("folder", root=market, labels="none")


def test_the_home_folder_is_known_in_a_root(market, monkeypatch):
    monkeypatch.setenv("HOME", str(market.parent))
    ds = load_dataset("market-layout", root=f"~/{market.name}", cache_dir="~/kept")
    assert ds.root == market and ds.source["root"] == str(market) and ds.cache_dir == market.parent / "kept"


def test_junk_in_the_training_folder_is_left_out(market):
    write_image(market / "bounding_box_train" / "-1_c1s1_000001_00.jpg", np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset("market1501", root=market).train.pid.min() == 2


def test_unknown_names_and_options(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'market1501'"):
        load_dataset("market-1501", root=tmp_path)
    with pytest.raises(UnknownNameError, match=r"option of market1501 'size'"):
        load_dataset("market1501", root=tmp_path, size="tiny")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"sidewalk"}))
def test_every_set_says_what_is_missing(tmp_path, name):
    with pytest.raises(DatasetError, match=str(tmp_path)):
        load_dataset(name, root=tmp_path)


def test_read_folder_sorts_by_name(market):
    paths = read_folder(market / "bounding_box_test", "test").path.tolist()
    assert paths == sorted(paths) and all(Path(p).is_absolute() for p in paths)


@given(
    pid=st.one_of(st.just(-1), st.integers(0, 99999)),
    cam=st.integers(0, 99),
    tail=st.sampled_from(["", "s1_000451_03", "_f0046182", "s3_000001_00_extra", "_12.3"]),
    suffix=st.sampled_from([".jpg", ".JPG", ".jpeg", ".png", ".PnG"]),
    padded=st.booleans(),
)
def test_every_well_formed_name_parses(pid, cam, tail, suffix, padded):
    number = "-1" if pid == -1 else (f"{pid:04d}" if padded else str(pid))
    name = f"{number}_c{cam}{tail}{suffix}"
    assert parse_name(name) == (pid, cam) and not is_stray(name)


@given(st.text(max_size=40))
def test_any_other_name_is_none_or_well_formed(name):
    ids = parse_name(name)
    assert ids is None or (ids[0] >= -1 and ids[1] >= 0 and name.isascii() and not is_stray(name))
