"""Which kinds of files the parsers read, and what `data check` says of the others."""

from pathlib import Path

import layouts
import numpy as np
import pytest
from checking import check, convert, note, rename
from market_folder import make_market_folder
from PIL import Image

from reidkit.data import load_dataset
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.images import IMAGE_SUFFIXES, ORIENTATION
from reidkit.errors import DatasetError


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".BMP", ".Tif", ".JFIF"])
def test_every_suffix_is_read_in_the_market_layout(tmp_path, suffix):
    home = make_market_folder(tmp_path / "mine")
    before = load_dataset("market-layout", root=home).summary()
    for folder in home.iterdir():
        rename(folder, lambda name: Path(name).stem + suffix)
    assert load_dataset("market-layout", root=home).summary().equals(before)
    assert "unread_images" not in load_dataset("market-layout", root=home).info


@pytest.mark.parametrize("suffix", [".bmp", ".WEBP", ".tiff"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("dukemtmc", layouts.write_duke),
        ("cuhk03-detected", layouts.write_cuhk03_np),
        ("cuhk03-labeled", layouts.write_cuhk03_np),
        ("cuhk03-detected", layouts.write_cuhk03_mat),
        ("msmt17", layouts.write_msmt17),
        ("msmt17", lambda folder: layouts.write_msmt17(folder, "V2")),
    ],
)
def test_every_parser_reads_other_suffixes(tmp_path, name, write, suffix):
    write(tmp_path)
    before = load_dataset(name, root=tmp_path)
    convert(tmp_path, suffix)
    for file in tmp_path.glob("list_*.txt"):
        file.write_text(file.read_text().replace(".jpg", suffix))
    after = load_dataset(name, root=tmp_path)
    for split in ("train", "query", "gallery"):
        table, old = getattr(after, split), getattr(before, split)
        assert table[["pid", "camid"]].equals(old[["pid", "camid"]])
        assert table.path.str.endswith(suffix).all()
    assert check(after).broken.empty


@pytest.mark.parametrize("suffix", [".gif", ".HEIC", ".avif", ".jp2"])
@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test", "gt_bbox"])
def test_images_of_other_kinds_are_counted_and_a_problem(tmp_path, suffix, folder):
    layouts.write_market(tmp_path / "mine")
    first = sorted((tmp_path / "mine" / folder).glob("*.jpg"))[0]
    first.rename(first.with_suffix(suffix))
    (tmp_path / "mine" / folder / "._0001_c1.gif").write_bytes(b"left by a file manager")
    with pytest.warns(UserWarning, match=f"1 images are left out.*{first.stem}"):
        ds = load_dataset("market-layout", root=tmp_path / "mine")
    assert ds.info["unread_images"] == (str(first.with_suffix(suffix)),)
    report = check(ds)
    assert report.problems == [
        f"images that are not read: of another kind, or in a folder below: 1 ({first.stem}{suffix})"
    ]
    assert report.exit_code == 1


@pytest.mark.parametrize("where", ["more/{0}.jpg", "more/still/{0}.GIF", "{0}", "{0}.jpg_old"])
def test_images_in_folders_below_or_without_a_suffix_are_counted_too(tmp_path, where):
    layouts.write_market(tmp_path / "mine")
    folder = tmp_path / "mine" / "bounding_box_train"
    first = sorted(folder.glob("*.jpg"))[0]
    moved = folder / where.format(first.stem)
    moved.parent.mkdir(parents=True, exist_ok=True)
    first.rename(moved)
    (folder / "notes.txt").write_text("RIFF is no picture")
    (folder / "poses.json").write_text("{}")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.jpg").write_bytes(moved.read_bytes())
    with pytest.warns(UserWarning, match=f"1 images are left out.*{first.stem}"):
        ds = load_dataset("market-layout", root=tmp_path / "mine")
    assert ds.info["unread_images"] == (str(moved),) and check(ds).exit_code == 1


def test_msmt17_refuses_a_listed_image_of_another_kind(tmp_path):
    layouts.write_msmt17(tmp_path)
    text = (tmp_path / "list_query.txt").read_text()
    (tmp_path / "list_query.txt").write_text(text.replace(".jpg", ".gif"))
    with pytest.raises(DatasetError, match=r"list_query\.txt, line 1.*suffixes: \.jpg.*\.gif"):
        load_dataset("msmt17", root=tmp_path)


def test_the_same_name_with_two_suffixes_is_a_note(tmp_path):
    layouts.write_market(tmp_path / "mine")
    first = sorted((tmp_path / "mine" / "query").glob("*.jpg"))[0]
    Image.open(first).save(first.with_suffix(".bmp"))
    report = check(load_dataset("market-layout", root=tmp_path / "mine"))
    assert report.ok and note(report, "differ by the suffix only: 2")


def test_odd_images_are_counted_as_notes(tmp_path):
    layouts.write_market(tmp_path / "mine")
    train = sorted((tmp_path / "mine" / "bounding_box_train").glob("*.jpg"))
    for victim, rows in zip(train[:2], (10, 20)):
        rgba = np.dstack([np.asarray(Image.open(victim)), np.full((64, 32), 255, np.uint8)])
        rgba[:rows, :, 3] = 100
        Image.fromarray(rgba).save(victim.with_suffix(".png"))
        victim.unlink()
    Image.fromarray(np.full((64, 32), 30_000, np.uint16)).save(train[2].with_suffix(".tif"))
    train[2].unlink()
    Image.open(train[3]).quantize(8).save(train[3].with_suffix(".png"))
    train[3].unlink()
    report = check(load_dataset("market-layout", root=tmp_path / "mine"))
    assert report.ok
    assert note(report, "transparent pixels, put on white when read: 2 images")
    assert note(report, "16-bit: only the upper byte of each value is read: 1 images")
    assert note(report, "mode P, converted to RGB when read: 1 images")
    assert note(report, "mode RGBA, converted to RGB when read: 2 images")
    assert report.odd.transparent.sum() == 30 * 32 and note(report, "transparent pixels in all: 960")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("decode", [True, False])
def test_sizes_are_those_of_the_upright_picture(tmp_path, suffix, turned, decode):
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    stored = (48, 24) if turned < 5 else (24, 48)  # height, width
    layouts.picture(turned, stored).save(tmp_path / f"x{suffix}", exif=exif)
    facts = inspect_image(str(tmp_path / f"x{suffix}"), decode)
    assert (facts.height, facts.width) == (48, 24) and not facts.problem
