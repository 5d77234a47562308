"""Unpacking: what comes out is what went in, all of it or nothing; attacks write nothing; a disk is no damage."""

import bz2
import errno
import gzip
import io
import os
import resource
import runpy
import subprocess
import sys
import tarfile
import tracemalloc
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

from reidkit.data.copies import archives, formats
from reidkit.data.copies.archives import Limits, safe_name, unpack
from reidkit.data.copies.prepare import prepare_dataset
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
    report = unpack(archive, tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == FILES
    assert (report.files, report.total_bytes) == (3, 3005)
    assert sorted(os.listdir(tmp_path)) == ["misnamed.bin", "out"]  # no working folder is left
    with pytest.raises(DatasetError, match="already holds"):
        unpack(archive, tmp_path / "out", progress=False)


def refused(archive: Path, match: str, **options) -> None:
    """Extraction fails with this message, and nothing lies outside or at the destination."""
    before = set(os.listdir(archive.parent))
    with pytest.raises(DatasetError, match=match):
        unpack(archive, archive.parent / "deep" / "out", progress=False, **options)
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
    unpack(archive, tmp_path / "fine", progress=False)  # under the floor: text files compress well


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
        unpack(archive, tmp_path / "out")


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


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_flipped_bits_in_a_compressed_tar(tmp_path, mode):
    """The checksum is at the very end, behind the mark at which a tar reader stops."""
    archive = pack_tar(tmp_path / "a", {f"{i}.jpg": os.urandom(5000) for i in range(8)}, mode)
    whole = archive.read_bytes()
    for at in [*range(20, len(whole) - 9, 1511), len(whole) - 6]:
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        refused(archive, "damaged|no zip, tar|cut off|outside|header asks|ratio")
    archive.write_bytes(whole)
    unpack(archive, tmp_path / "out", progress=False)


def test_damage_in_a_plain_tar(tmp_path):
    """Nothing but the images themselves can tell."""
    files = {f"{i}.png": layouts.encoded(i, "PNG") for i in range(5)} | {"a.jpg": b"alpha", "2.txt": b"\x89PNG"}
    archive = pack_tar(tmp_path / "a.tar", files, "w")
    whole = archive.read_bytes()
    start = whole.index(files["3.png"])
    flipped = start + len(files["3.png"]) // 2
    archive.write_bytes(whole[:flipped] + bytes([whole[flipped] ^ 16]) + whole[flipped + 1 :])
    refused(archive, r"2 images cannot be decoded, the first is 3\.png")
    unpack(archive, tmp_path / "as published", decode=False, progress=False)
    header = start - 512
    archive.write_bytes(whole[:header] + b"X" + whole[header + 1 :])
    refused(archive, "list of files breaks off")  # not taken for the end


def test_folders_and_litter_count(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.jpg"))
        for i in range(20):
            info = tarfile.TarInfo(f"folder/{i}")
            info.type = tarfile.DIRTYPE
            file.addfile(info)
    refused(tmp_path / "a.tar.gz", "more than 10 files", limits=Limits(files=10))
    litter = {f"__MACOSX/{i}": bytes(10**5) for i in range(20)}
    refused(pack_zip(tmp_path / "a.zip", {"a.jpg": b"x"} | litter), "more than 10 files", limits=Limits(files=10))
    refused(tmp_path / "a.zip", "1,000,000 bytes", limits=Limits(total_bytes=1_000_000))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:  # one file hides behind others that do not compress
        file.writestr("a.jpg", os.urandom(200_000), zipfile.ZIP_STORED)
        file.writestr("b.jpg", bytes(2_000_000), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "b.zip", "ratio over 50", limits=Limits(ratio=50, ratio_floor=1 << 20))


def _header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_is_not_believed(tmp_path, kind):
    """300 MB of a name, in 0.3 MB of archive."""
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(_header("long", kind, 300 << 20))
        for _ in range(300):
            file.write(b"a" * (1 << 20))
        file.write(_header("a.jpg", tarfile.REGTYPE, 0) + bytes(1024))
    tracemalloc.start()
    refused(tmp_path / "a.tar.gz", "header asks for more bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_zeros_without_end(tmp_path):
    """Nothing but padding behind the last file; and global headers that would add up."""
    with bz2.open(tmp_path / "a.tar.bz2", "wb") as file:
        file.write(_header("a.jpg", tarfile.REGTYPE, 0) + bytes(20 << 20))
    refused(tmp_path / "a.tar.bz2", "ratio over 100", limits=Limits(ratio_floor=1 << 20))
    with gzip.open(tmp_path / "b.tar.gz", "wb") as file:
        for i in range(40):
            record = b"%d k%d=" % (300_000, i)
            record += b"v" * (299_999 - len(record)) + b"\n"
            file.write(_header("g", tarfile.XGLTYPE, 300_032) + record + bytes(32))
            file.write(_header(f"{i}.jpg", tarfile.REGTYPE, 0))
        file.write(bytes(1024))
    refused(tmp_path / "b.tar.gz", "ratio over 100", limits=Limits(ratio_floor=1 << 20))


def python(code: str, *arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("name", PACKERS)
def test_a_disk_that_refuses_is_no_damage(tmp_path, name):
    """A limit on the size of files stands for the full disk."""
    archive = PACKERS[name](tmp_path / name, {"small.jpg": b"x", "large.jpg": os.urandom(100_000)})
    code = (
        f"import sys; from {archives.__name__} import unpack; from reidkit.errors import DatasetError\n"
        "try: unpack(sys.argv[1], sys.argv[2], progress=False)\nexcept DatasetError as e: print(e)"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    out, err = python(code, archive, tmp_path / "out", preexec_fn=limit).communicate()
    assert out.startswith(f"cannot unpack {archive} to {tmp_path / 'out'}") and "File too large" in out, out + err
    assert "damaged" not in out and "download" not in out and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_what_the_disk_says(tmp_path, monkeypatch, number):
    archive = pack_zip(tmp_path / "a.zip", FILES)

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number), "some/file")

    for owner, function in (
        (Path, "mkdir"),
        (archives, "locked"),
        (zipfile.ZipFile, "open"),
        (archives.os, "replace"),
        (formats, "reader_of"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, refuse)
            with pytest.raises(DatasetError, match=rf"cannot unpack .*some/file.*{os.strerror(number)}") as found:
                unpack(archive, tmp_path / "out", progress=False)
        assert "damaged" not in str(found.value) and os.listdir(tmp_path) == ["a.zip"]


# unpacks, and waits for a line of input after the first file
HALTING = f"""
import sys
from {archives.__package__} import archives, formats
extract = formats._extract
def halting(*arguments):
    extract(*arguments)
    print("one file", flush=True)
    formats._extract = extract
    sys.stdin.readline()
formats._extract = halting
print(archives.unpack(sys.argv[1], sys.argv[2], may_exist=True, progress=False))
"""


def test_two_processes_unpack_to_one_place(tmp_path):
    files = {f"set/{i}.jpg": os.urandom(500) for i in range(10)}
    archive = pack_tar(tmp_path / "a.tar.gz", files)
    first = python(HALTING, archive, tmp_path / "out", stdin=subprocess.PIPE)
    assert first.stdout.readline() == "one file\n"
    rest = [python(HALTING, archive, tmp_path / "out", stdin=subprocess.DEVNULL) for _ in range(2)]
    assert all("waiting for it" in child.stderr.readline() for child in rest)
    outputs = [child.communicate("go on\n" if child is first else None, timeout=120) for child in (first, *rest)]
    assert [child.returncode for child in (first, *rest)] == [0, 0, 0], outputs
    assert ["one file" in out for out, _ in outputs[1:]] == [False, False]  # they found it done
    assert tree(tmp_path / "out") == files and sorted(os.listdir(tmp_path)) == ["a.tar.gz", "out"]


def test_a_killed_run_leaves_no_half_folder(tmp_path):
    files = {f"set/{i}.jpg": os.urandom(500) for i in range(10)}
    archive = pack_tar(tmp_path / "a.tar.gz", files)
    victim = python(HALTING, archive, tmp_path / "out", stdin=subprocess.PIPE)
    assert victim.stdout.readline() == "one file\n"
    waiting = python(HALTING, archive, tmp_path / "out", stdin=subprocess.DEVNULL)
    assert "waiting for it" in waiting.stderr.readline()
    victim.kill()
    victim.communicate()
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and tree(tmp_path / "out") == files
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "out"]


def test_leftovers_of_another_archive_are_not_mixed_in(tmp_path):
    (tmp_path / "out.unpacking" / "files").mkdir(parents=True)
    (tmp_path / "out.unpacking" / "files" / "stranger.jpg").write_bytes(b"x")
    unpack(pack_zip(tmp_path / "a.zip", FILES), tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == FILES and sorted(os.listdir(tmp_path)) == ["a.zip", "out"]


def test_a_half_unpacked_folder_is_not_taken_for_whole(tmp_path):
    archive = zipped(layouts.write_market(tmp_path / "in" / "Market-1501-v15.09.15"), tmp_path / "a.zip")
    home = tmp_path / "data" / "market1501"
    (whole,) = prepare_dataset("market1501", archive, tmp_path / "data", progress=False)
    image = Path(whole.train.path[0])
    aside = image.rename(home / image.name)  # moved within the folder, as into a quarantine
    prepare_dataset("market1501", archive, tmp_path / "data", progress=False)
    aside.write_bytes(b"cut off")
    with pytest.raises(DatasetError, match=rf"lacks 1 of the .* files of .*a\.zip, the first is {image.name}"):
        prepare_dataset("market1501", archive, tmp_path / "data", progress=False)
    archive.unlink()  # nothing to compare with: the counts tell
    (rest,) = prepare_dataset("market1501", archive, tmp_path / "data", progress=False)
    assert len(rest.train) == len(whole.train) - 1


def test_links_to_an_empty_folder_are_followed(tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "big disk")
    unpack(pack_zip(tmp_path / "a.zip", FILES), tmp_path / "out", progress=False)
    assert (tmp_path / "out").is_symlink() and tree(tmp_path / "big disk") == FILES


def test_keep_and_litter(tmp_path):
    archive = pack_zip(tmp_path / "a.zip", {**FILES, "__MACOSX/set/._a.jpg": b"fork", "set/@eaDir/a.jpg": b"thumb"})
    unpack(archive, tmp_path / "out", keep=lambda n: n.endswith(".jpg"), progress=False)
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
