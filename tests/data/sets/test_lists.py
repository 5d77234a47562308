"""List files of published sets that say a thing twice, or two things of one image."""

import layouts
import pytest
from needs import need

from reidkit.data.sets.cuhk03 import load_cuhk03
from reidkit.data.sets.duke import build_occluded_duke
from reidkit.data.sets.msmt17 import load_msmt17
from reidkit.errors import DatasetError


@pytest.mark.parametrize("name", ["list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"])
def test_an_image_twice_in_a_list_of_msmt17(tmp_path, name):
    home = layouts.write_msmt17(tmp_path)
    lines = (home / name).read_text().splitlines()
    (home / name).write_text(
        "\n".join([*lines, "", lines[0].replace("/", "//")]) + "\n"
    )  # the same path, spelt otherwise
    with pytest.raises(DatasetError, match=rf"{name}, line {len(lines) + 2}: 0.* is in line 1 too"):
        load_msmt17(tmp_path)


def test_an_image_in_both_training_lists_of_msmt17(tmp_path):
    home = layouts.write_msmt17(tmp_path)
    line = (home / "list_train.txt").read_text().splitlines()[2]
    (home / "list_val.txt").write_text((home / "list_val.txt").read_text() + line + "\n")
    with pytest.raises(DatasetError, match=r"1 images are in list_train\.txt and in list_val\.txt .*0001_000_01"):
        load_msmt17(tmp_path)


def test_a_label_of_msmt17_that_is_not_its_names(tmp_path):
    home = layouts.write_msmt17(tmp_path)
    text = (home / "list_gallery.txt").read_text()
    (home / "list_gallery.txt").write_text(text.replace(".jpg 0", ".jpg 1", 1))
    with pytest.raises(
        DatasetError, match=r"list_gallery\.txt, line 1: 0000/0000_001.* labelled 1, and its name says 0"
    ):
        load_msmt17(tmp_path)


def test_an_image_twice_in_a_list_of_occluded_duke(tmp_path):
    layouts.write_duke(tmp_path / "DukeMTMC-reID")
    lists = layouts.write_occluded_lists(tmp_path / "lists")
    (lists / "query.list").write_bytes(b"0002_c1_f0000002.jpg\r\n" * 2)
    with pytest.raises(DatasetError, match=r"query\.list, entry 2: 0002_c1_f0000002\.jpg is entry 1 too"):
        build_occluded_duke(tmp_path, lists, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def set_of(config, key, values):
    config[key] = values


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["labels"].__setitem__(3, 7), "1_001_1_04.png is labelled 7, and other images of its person 1"),
        (lambda c: c["filelist"].__setitem__(4, c["filelist"][3]), "has 1_001_1_04.png twice, as entries 4 and 5"),
        (
            lambda c: set_of(c, "query_idx", [*c["query_idx"], c["query_idx"][0]]),
            "name 1 images twice .first: entry 10 ",
        ),
        (lambda c: set_of(c, "gallery_idx", [*c["gallery_idx"], [1]]), "name 1 images twice .first: entry 1 of"),
        (
            lambda c: (set_of(c, "gallery_idx", [*c["gallery_idx"], [1]]), set_of(c, "train_idx", c["train_idx"][1:])),
            r"1 identities are in the training set and in the test set \(\[1\]",
        ),
    ],
)
def test_a_protocol_of_cuhk03_that_contradicts_itself(tmp_path, change, message):
    layouts.write_cuhk03_mat(tmp_path)
    load_cuhk03(tmp_path, progress=False)
    file, io = tmp_path / "cuhk03_new_protocol_config_detected.mat", need("scipy.io")
    config = {key: value for key, value in io.loadmat(file).items() if not key.startswith("__")}
    change(config)
    io.savemat(file, config)
    with pytest.raises(DatasetError, match=message):
        load_cuhk03(tmp_path, progress=False)
