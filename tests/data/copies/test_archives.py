"""Unpacking: what comes out is what went in, attacks write nothing, and a killed run goes on."""

import io
import os
import runpy
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import layouts
import pytest
from needs import need
from paths import REPO

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.data.copies import archives
from reidkit.data.copies.archive_formats import safe_name
from reidkit.data.copies.archives import Limits, StagingFolder, extract_archive
from reidkit.errors import DatasetError

FILES = {"set/a.jpg": b"alpha", "set/sub/b.jpg": os.urandom(3000), "set/empty.txt": b""}


def pack_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def pack_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def pack_7z(path: Path, files: dict[str, bytes]) -> Path:
    py7zr = need("py7zr")
    with py7zr.SevenZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(data, name)
    return path


PACKERS = {"x.zip": pack_zip, "x.tar.gz": pack_tar, "x.tar": lambda p, f: pack_tar(p, f, "w"), "x.7z": pack_7z}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", PACKERS)
def test_round_trip(tmp_path, name):
    archive = PACKERS[name](tmp_path / name, FILES)
    archive = archive.rename(tmp_path / "misnamed.bin")  # the format is read from the bytes
    report = extract_archive(archive, tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == FILES
    assert (report.files, report.total_bytes, report.resumed) == (3, 3005, 0)
    assert sorted(os.listdir(tmp_path)) == ["misnamed.bin", "out"]  # no working folder is left
    with pytest.raises(DatasetError, match="already holds"):
        extract_archive(archive, tmp_path / "out", progress=False)


def refused(archive: Path, match: str, **options) -> None:
    """Extraction fails with this message, and nothing lies outside or at the destination."""
    before = set(os.listdir(archive.parent))
    with pytest.raises(DatasetError, match=match):
        extract_archive(archive, archive.parent / "deep" / "out", progress=False, **options)
    left = tree(archive.parent / "deep") if (archive.parent / "deep").exists() else {}
    assert not (archive.parent / "deep" / "out").exists()
    assert all(name.startswith("out.unpacking/") for name in left)
    assert set(os.listdir(archive.parent)) - before <= {"deep"}


EVIL_NAMES = [
    "../evil.jpg",
    "a/../../evil.jpg",
    "/tmp/evil.jpg",
    "C:\\evil.jpg",
    "..\\..\\evil.jpg",
    "n" * 300 + ".jpg",
]


@pytest.mark.parametrize("evil", EVIL_NAMES)
@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_paths_that_escape(tmp_path, pack, evil):
    refused(pack(tmp_path / "a", {"good.jpg": b"x", evil: b"x"}), "outside the destination")


def test_7z_path_that_escapes(tmp_path):
    py7zr = need("py7zr")
    archive = pack_7z(tmp_path / "a.7z", {"good.jpg": b"x", "xx_evil.jpg": b"x"})
    with py7zr.SevenZipFile(archive, "w") as file:
        file.writestr(b"x", "xx/evil.jpg")
        file.header.files_info.files[-1]["filename"] = "../evil.jpg"  # what a hand-made archive would hold
    refused(archive, "outside the destination|damaged")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_tar_links_and_devices(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        link = tarfile.TarInfo("folder")
        link.type, link.linkname = kind, "/tmp"
        file.addfile(link)
        info = tarfile.TarInfo("folder/evil.jpg")
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    refused(tmp_path / "a.tar", "a link to '/tmp'|a device or a pipe")


def test_zip_symlink_and_encryption(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        info = zipfile.ZipInfo("folder")
        info.external_attr = (0o120777) << 16
        file.writestr(info, "/tmp")
    refused(tmp_path / "link.zip", "a link or a device")
    data = bytearray(pack_zip(tmp_path / "locked.zip", {"a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag that says "encrypted"
    (tmp_path / "locked.zip").write_bytes(data)
    refused(tmp_path / "locked.zip", "encrypted")


def test_7z_symlink(tmp_path):
    py7zr = need("py7zr")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/tmp")
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as file:
        file.writeall(tmp_path / "in", "set")
    (tmp_path / "in" / "link").unlink()
    refused(tmp_path / "a.7z", "a link or a socket")


@pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_7z])
def test_bombs(tmp_path, pack):
    archive = pack(tmp_path / "bomb", {f"{i}.jpg": bytes(400_000) for i in range(5)})
    refused(archive, "ratio over 50", limits=Limits(ratio=50, ratio_floor=1 << 20))
    refused(archive, "more than 500,000 files or 1,000,000 bytes", limits=Limits(total_bytes=1_000_000))
    refused(archive, "more than 3 files", limits=Limits(files=3))
    extract_archive(archive, tmp_path / "fine", progress=False)  # under the floor: text files compress well


def test_a_zip_that_lies_about_sizes(tmp_path):
    data = bytearray(pack_zip(tmp_path / "lie.zip", {"a.jpg": bytes(100_000)}).read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")  # declared size: 10 bytes
    (tmp_path / "lie.zip").write_bytes(data)
    refused(tmp_path / "lie.zip", "damaged|declares")


def test_members_that_collide(tmp_path):
    refused(pack_zip(tmp_path / "a.zip", {"x": b"1", "x/y": b"2"}), "inside another file")
    refused(pack_zip(tmp_path / "b.zip", {"x": b"1", "./x": b"2"}), "second one with its name")
    refused(pack_zip(tmp_path / "c.zip", {}), "holds no files")


@pytest.mark.parametrize("name", PACKERS)
def test_damaged_archives(tmp_path, name):
    archive = PACKERS[name](tmp_path / name, FILES)
    whole = archive.read_bytes()
    for data, match in [
        (whole[:1024] if name == "x.tar" else whole[: len(whole) * 2 // 3], "damaged|no zip|cut off"),
        (b"<html>sign in</html>", "no zip, tar or 7z"),
        (b"", "no zip, tar or 7z"),
    ]:
        archive.write_bytes(data)
        refused(archive, match)
    archive.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        extract_archive(archive, tmp_path / "out")


def test_flipped_bit_is_noticed(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.jpg", b"A" * 1000)
    archive.write_bytes(archive.read_bytes().replace(b"A" * 1000, b"A" * 999 + b"B"))
    refused(archive, "damaged")


def test_only_this_many_bytes_free(tmp_path, monkeypatch):
    archive = pack_zip(tmp_path / "a.zip", FILES)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    refused(archive, "more bytes")


@pytest.mark.parametrize("name", PACKERS)
def test_a_killed_run_goes_on(tmp_path, monkeypatch, name):
    files = {f"set/{i:03d}.jpg": os.urandom(500 + i) for i in range(20)}
    archive = PACKERS[name](tmp_path / name, files)
    finish, done = StagingFolder.finish, []

    def killed_after_seven(self, member):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(member.name)
        finish(self, member)

    monkeypatch.setattr(StagingFolder, "finish", killed_after_seven)
    with pytest.raises(KeyboardInterrupt):
        extract_archive(archive, tmp_path / "out", progress=False)
    monkeypatch.setattr(StagingFolder, "finish", finish)
    assert not (tmp_path / "out").exists()
    staged = tmp_path / "out.unpacking" / "files" / done[0]
    staged.write_bytes(b"cut")  # a file that lost its end is written again
    report = extract_archive(archive, tmp_path / "out", progress=False)
    assert report.resumed == 6 and tree(tmp_path / "out") == files


def test_leftovers_of_another_archive_are_not_mixed_in(tmp_path):
    (tmp_path / "out.unpacking" / "files").mkdir(parents=True)
    (tmp_path / "out.unpacking" / "files" / "stranger.jpg").write_bytes(b"x")
    extract_archive(pack_zip(tmp_path / "a.zip", FILES), tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == FILES


def test_keep_and_litter(tmp_path):
    archive = pack_zip(tmp_path / "a.zip", {**FILES, "__MACOSX/set/._a.jpg": b"fork"})
    extract_archive(archive, tmp_path / "out", keep=lambda n: n.endswith(".jpg"), progress=False)
    assert set(tree(tmp_path / "out")) == {"set/a.jpg", "set/sub/b.jpg"}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("./\\:\0"), max_size=40))
def test_safe_names_stay_inside(key):
    try:
        name = safe_name(key)
    except DatasetError:
        return
    target = os.path.normpath(os.path.join("/base/dest", name))
    assert target == "/base/dest" or target.startswith("/base/dest/")
    assert safe_name(name) == name and "\0" not in name


def run(script: str, *arguments: str) -> int:
    """The exit code of a data script."""
    path = REPO / "data_scripts" / script
    old, sys.argv = sys.argv, [script, *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = old
    return end.value.code


def zipped(folder: Path, archive: Path) -> Path:
    return pack_zip(
        archive,
        {p.relative_to(folder.parent).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()},
    )


@pytest.mark.parametrize(
    ("script", "write", "top"),
    [
        ("market1501.py", layouts.write_market, "Market-1501-v15.09.15"),
        ("dukemtmc.py", layouts.write_duke, "DukeMTMC-reID"),
        ("msmt17.py", layouts.write_msmt17, "MSMT17_V1"),
        ("cuhk03.py", layouts.write_cuhk03_np, "cuhk03-np"),
        ("occluded_duke.py", layouts.write_duke, "Occluded_Duke"),
    ],
)
def test_scripts_unpack_and_compare_counts(tmp_path, capsys, script, write, top):
    archive = zipped(write(tmp_path / "in" / top), tmp_path / "a.zip")
    for _ in range(2):  # the second call finds the folder and only compares
        assert run(script, "--archive", archive, "--root", tmp_path / "data") == 1  # a miniature is not the whole set
        assert "COUNTS DIFFER" in capsys.readouterr().out
    assert run(script) == 0
    assert "official page of" in capsys.readouterr().out
    assert run(script, "--archive", tmp_path / "none.zip", "--root", tmp_path / "empty") == 1
    assert "none.zip" in capsys.readouterr().err


def test_cuhk03_script_with_mat_files(tmp_path, capsys):
    home = tmp_path / "in" / "cuhk03_release"
    layouts.write_cuhk03_mat(home)
    protocols = []
    for file in sorted(home.glob("*config*.mat")):
        protocols.append(file.rename(tmp_path / file.name))
    archive = zipped(home, tmp_path / "cuhk03_release.zip")
    root = tmp_path / "data"
    assert run("cuhk03.py", "--archive", archive, "--root", root, "--protocol", *protocols) == 1
    assert "cuhk03-labeled" in capsys.readouterr().out
    assert len(list((root / "cuhk03" / "images_detected").iterdir())) == 28


def test_occluded_duke_script_with_lists(tmp_path, capsys):
    duke = layouts.write_duke(tmp_path / "DukeMTMC-reID")
    lists = layouts.write_occluded_lists(tmp_path / "lists")
    assert run("occluded_duke.py", "--duke", duke, "--lists", lists, "--root", tmp_path / "data") == 1
    assert "occluded-duke" in capsys.readouterr().out
    assert run("occluded_duke.py", "--duke", duke) == 2
