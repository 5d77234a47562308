"""What of a folder is searched, what is counted, and what is refused."""

import os

import pytest
from own_pictures import person_image, save_person

from reidkit.errors import DatasetError
from reidkit.search.gallery import list_gallery


def test_nested_folders_sorted_others_counted(tmp_path):
    for name in ("b.png", "a/z.jpg", "a/b/c.PNG", "Z.jpeg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        person_image(1).save(path, "PNG")
    for name in ("notes.txt", "a/list.csv", "a/noext"):
        (tmp_path / name).write_text("x")
    (tmp_path / "photo.heic").write_bytes(b"x")
    found = list_gallery(tmp_path)
    assert [file.name for file in found.files] == ["Z.jpeg", "a/b/c.PNG", "a/z.jpg", "b.png"]
    assert found.ignored == 3 and found.own == 0 and list(found.unread) == ["photo.heic"]
    assert ".heic is a format that the kit does not read" in found.unread["photo.heic"]
    about = os.stat(tmp_path / "b.png")
    assert found.files[-1][1:] == (about.st_size, about.st_mtime_ns)


def test_hidden_files_links_and_the_kits_own_folders(tmp_path):
    save_person(tmp_path / "a" / "1.png", 1)
    for name in (
        ".hidden.png",
        ".index/2.png",
        "parsing/a/1.png",
        "segmentation/1.png",
        "dense/a/1.png",
        "cache/x.u8",
        "a/parsing/3.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        person_image(1).save(tmp_path / name, "PNG")
    (tmp_path / "a" / "back").symlink_to(tmp_path)  # a circle
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = list_gallery(tmp_path)
    assert [file.name for file in found.files] == ["a/1.png", "a/parsing/3.png"]
    assert found.own == 4 and "cannot be read" in found.unread["gone.png"]


def test_a_linked_folder_is_searched(tmp_path):
    save_person(tmp_path / "elsewhere" / "1.png", 1)
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "link").symlink_to(tmp_path / "elsewhere")
    assert [file.name for file in list_gallery(tmp_path / "g").files] == ["link/1.png"]


def test_what_is_no_gallery_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    for name, match in (
        ("nowhere", "does not exist"),
        ("file", "is a file, not a folder"),
        ("empty", r"holds no picture \(1 other files\)"),
    ):
        with pytest.raises(DatasetError, match=match) as error:
            list_gallery(tmp_path / name)
        assert name in str(error.value)
