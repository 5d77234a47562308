"""The check of a data set: a corpus of broken files, duplicates, label clashes, quarantine, report, work."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from checking import check
from needs import need
from PIL import Image, ImageFile

need("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.data import images, load_dataset
from reidkit.data.contact_sheet import contact_sheet
from reidkit.data.copies import check as check_module
from reidkit.data.copies import imagefile
from reidkit.data.copies.check import check_command, check_labels
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.copies.quarantine import quarantine_files, restore_command, restore_quarantine
from reidkit.data.sets.published import PUBLISHED, compare_counts
from reidkit.errors import DatasetError


def write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return layouts.encoded(exif=exif)


def corpus(folder: Path) -> dict[str, tuple[str, str, str]]:
    """kind -> (path, problem when decoded, note); '' where there is none."""
    jpeg, png = layouts.encoded(), layouts.encoded(kind="PNG")
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    made = {
        "fine jpeg": (jpeg, "", ""),
        "empty": (b"", "empty file", ""),
        "cut jpeg": (jpeg[:-60], "truncated", ""),
        "cut in the header": (jpeg[: len(jpeg) // 3], "damaged in its header", ""),
        "cut png": (png[: len(png) // 2], "truncated|damaged", ""),
        "damaged png": (bytes(damaged), "damaged|truncated", ""),
        "jpeg head only": (jpeg[:2], "not an image", ""),
        "web page": (b"<html>not found</html>", "not an image", ""),
        "zeros": (bytes(5000), "not an image", ""),
        "png named jpg": (png, "", "PNG data in a file named .jpg"),
        "exif": (with_exif(6), "", "EXIF orientation 6"),
        "upright exif": (with_exif(1), "", ""),
    }
    result = {k: (write(folder, f"{i:04d}_c1.jpg", d), p, n) for i, (k, (d, p, n)) in enumerate(made.items())}
    Image.new("CMYK", (32, 64)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((64, 32), 4000, np.uint16)).save(folder / "deep.png")
    Image.new("L", (32, 64)).save(folder / "grey.jpg")
    Image.new("1", (9000, 9000)).save(folder / "wide.png")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    odd_name = os.fsdecode(b"0001_c1_\xff\xfe.jpg")
    result |= {
        "cmyk": (str(folder / "cmyk.jpg"), "", "mode CMYK"),
        "16 bit": (str(folder / "deep.png"), "", "16-bit"),
        "grey": (str(folder / "grey.jpg"), "", "mode L"),
        "too many pixels": (str(folder / "wide.png"), "too large", ""),
        "folder": (str(folder / "folder.jpg"), "a folder", ""),
        "pipe": (str(folder / "pipe.jpg"), "not a plain file", ""),
        "dangling link": (str(folder / "dangling.jpg"), "missing", ""),
        "missing": (str(folder / "none.jpg"), "missing", ""),
        "name is not UTF-8": (write(folder, odd_name, jpeg), "", ""),
        "NUL in the name": ("a\0.jpg", "unreadable", ""),
    }
    return result


@pytest.mark.parametrize("decode", [True, False])
def test_every_kind_of_file_gets_its_verdict(tmp_path, decode):
    only_by_decoding = {"damaged png"}
    for kind, (path, problem, note) in corpus(tmp_path).items():
        facts = inspect_image(path, decode)
        if kind in only_by_decoding and not decode:
            assert facts.problem == ""
        elif problem:
            assert any(p in facts.problem for p in problem.split("|")), (kind, facts.problem)
        else:
            assert facts.problem == "", (kind, facts.problem)
            assert (facts.width, facts.height) == ((64, 32) if kind == "exif" else (32, 64))
            assert (note in facts.note) if note else not facts.note, (kind, facts.note)


def test_bomb_header_and_unreadable_file(tmp_path, monkeypatch):
    header = bytearray(layouts.encoded(kind="PNG"))
    header[16:24] = (200_000).to_bytes(4, "big") * 2  # IHDR: 40 gigapixels
    import zlib

    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    assert "too large" in inspect_image(write(tmp_path, "bomb.png", bytes(header))).problem
    path = write(tmp_path, "locked.jpg", layouts.encoded())

    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)  # permissions do not stop root
    assert "Permission denied" in inspect_image(path).problem
    monkeypatch.undo()
    monkeypatch.setattr(imagefile, "MAX_BYTES", 100)
    assert "too large" in inspect_image(path).problem


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # random EXIF bytes
@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]),
    st.booleans(),
)
def test_no_bytes_make_it_raise(tmp_path_factory, data, magic, decode):
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(magic + data)
    facts = inspect_image(str(path), decode)
    assert facts.problem or facts.width > 0


def test_sound_miniature(market, tmp_path):
    report = check(market)
    assert report.broken.empty and report.duplicates.empty and report.odd.empty
    assert len(report.problems) == len(report.counts[~report.counts.ok])  # only: a miniature is no Market-1501
    assert report.sizes.values.tolist() == [[64, 32, 28]]  # 12 train, 4 query, 10 gallery, 2 gt_bbox
    cameras = report.cameras.set_index(["split", "camid"])
    assert cameras.loc[("train", 1), "images"] == 6 and cameras.loc[("train", 1), "ids"] == 2
    own = check(replace(market, name="my-set"))
    assert own.ok and own.exit_code == 0 and "the copy is sound" in str(own)
    folder = own.save(tmp_path / "report")
    assert {p.name for p in folder.iterdir()} >= {"report.txt", "broken.csv", "contact_sheet.png", "cameras.csv"}
    assert Image.open(folder / "contact_sheet.png").size == own.sheet.size


@pytest.mark.parametrize("decode", [True, False])
def test_broken_images_are_listed_with_their_split(market, decode):
    victim = market.query.path[1]
    Path(victim).write_bytes(layouts.encoded()[:-60])
    report = check(market, decode=decode, workers=2)
    assert report.broken[["path", "split"]].values.tolist() == [[victim, "query"]]
    assert report.exit_code == 1 and "truncated" in str(report)


def test_quarantine_moves_and_restores(market, tmp_path):
    victims = [market.query.path[1], market.train.path[0]]
    for i, victim in enumerate(victims):
        Path(victim).write_bytes(b"broken %d" % i)
    report = check(market, quarantine=tmp_path / "q")
    assert report.quarantined == 2 and not any(Path(v).exists() for v in victims)
    assert (tmp_path / "q" / "query" / Path(victims[0]).name).read_bytes() == b"broken 0"
    again = load_dataset("market1501", root=tmp_path)
    assert len(again.query) == 3 and check(again, quarantine=tmp_path / "q").broken.empty
    assert restore_quarantine(tmp_path / "q") == 2
    assert [Path(v).read_bytes() for v in victims] == [b"broken 0", b"broken 1"]
    with pytest.raises(DatasetError, match="no quarantine folder"):
        restore_quarantine(tmp_path / "q")


def test_quarantine_never_overwrites(market, tmp_path):
    path = market.train.path[0]
    assert quarantine_files([(path, "bad")], market.root, tmp_path / "q") == 1
    Path(path).write_bytes(b"second")
    assert quarantine_files([(path, "bad"), (path + "x", "gone")], market.root, tmp_path / "q") == 1
    assert len([p for p in (tmp_path / "q").rglob("*.jpg")]) == 2
    Path(path).write_bytes(b"third")
    with pytest.raises(DatasetError, match="exists again"):
        restore_quarantine(tmp_path / "q")
    with pytest.raises(DatasetError, match="inside an image folder"):
        quarantine_files([(path, "bad")], market.root, Path(path).parent / "q")


def test_a_quarantine_that_cannot_be_written_is_one_line(market, tmp_path):
    (tmp_path / "q" / "quarantine.csv").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"cannot move broken images to .*quarantine\.csv"):
        quarantine_files([(market.train.path[0], "bad")], market.root, tmp_path / "q")
    assert Path(market.train.path[0]).exists()


@pytest.mark.parametrize("name", ["msmt17", "cuhk03-detected"])
def test_sets_with_list_files_load_without_quarantined_images(tmp_path, name):
    home, linked, moved = (tmp_path / place for place in ("home", "linked", "moved"))
    (layouts.write_msmt17 if name == "msmt17" else layouts.write_cuhk03_mat)(home)
    ds = load_dataset(name, root=home)
    Path(ds.train.path[2]).write_bytes(b"broken")
    assert check_command(name, home, quarantine=True, out=tmp_path / "out") == 1
    linked.symlink_to(ds.root)
    for place in (home, linked):
        assert len(load_dataset(name, root=place).train) == len(ds.train) - 1
    ds.root.rename(moved)
    assert len(load_dataset(name, root=moved).train) == len(ds.train) - 1
    restore_quarantine(moved / "quarantine")
    assert len(load_dataset(name, root=moved).train) == len(ds.train)


def test_the_restore_command(market, tmp_path, capsys):
    from typer.testing import CliRunner

    from reidkit.cli import app

    assert str(market.root).startswith(str(tmp_path))
    with pytest.raises(DatasetError, match="nothing is in quarantine"):
        restore_command("market1501", tmp_path)
    victim = Path(market.query.path[1])
    victim.write_bytes(b"broken")
    assert check_command("market1501", tmp_path, quarantine=True) == 1 and not victim.exists()
    done = CliRunner().invoke(app, ["data", "restore", "market1501", "--root", str(tmp_path)])
    assert done.exit_code == 0 and done.output == "market1501: 1 files moved back\n"
    assert victim.read_bytes() == b"broken"
    for path in market.query.path:
        Path(path).write_bytes(b"broken")
    assert check_command("market1501", tmp_path, quarantine=True) == 1
    with pytest.raises(DatasetError, match="name its own folder"):  # without queries nothing loads
        restore_command("market1501", tmp_path)
    assert restore_command("market1501", market.root) == len(market.query)


def test_restoring_loses_nothing(market, tmp_path):
    path, quarantine = Path(market.train.path[0]), market.root / "quarantine"
    assert quarantine_files([(str(path), "bad")], market.root, quarantine) == 1
    path.write_bytes(b"second")
    assert quarantine_files([(str(path), "bad")], market.root, quarantine) == 1
    with pytest.raises(DatasetError, match="twice"):  # the second would overwrite the first
        restore_quarantine(quarantine)
    next(p for p in quarantine.rglob("*.jpg") if p.read_bytes() != b"second").unlink()
    moved = market.root.rename(market.root.with_name("elsewhere"))
    assert restore_quarantine(moved / "quarantine") == 1
    moved.rename(market.root)
    assert path.read_bytes() == b"second"
    apart = tmp_path / "apart"  # outside of the data set, which its manifest names by its place
    assert quarantine_files([(str(path), "bad")], market.root, apart) == 1
    renamed = apart.rename(tmp_path / "renamed")
    with pytest.raises(DatasetError, match="moved or renamed"):
        restore_quarantine(renamed)
    renamed.rename(apart)
    assert restore_quarantine(apart) == 1 and path.read_bytes() == b"second"
    (quarantine / "quarantine.csv").write_text("some,table\n1,2\n")
    with pytest.raises(DatasetError, match="damaged"):
        restore_quarantine(quarantine)


def test_duplicates_across_train_and_test(market):
    train, query, gallery = (Path(getattr(market, s).path[0]) for s in ("train", "query", "gallery"))
    assert market.gallery.pid[0] != market.gallery.pid[9]
    query.write_bytes(train.read_bytes())  # a leak
    Path(market.gallery.path[9]).write_bytes(gallery.read_bytes())  # one picture, two people
    Path(market.train.path[5]).write_bytes(Path(market.train.path[4]).read_bytes())  # a copy
    report = check(replace(market, name="my-set"))
    kinds = report.duplicates.groupby("kind").path.apply(set).to_dict()
    assert kinds == {
        "train/test": {str(train), str(query)},
        "two people": {str(gallery), market.gallery.path[9]},
        "copy": {market.train.path[4], market.train.path[5]},
    }
    assert report.exit_code == 1 and len(report.problems) == 1 and "in train and in test" in report.problems[0]


def test_label_checks_by_hand(market):
    train = pd.DataFrame({"path": list("abc"), "pid": [1, 1, 2], "camid": [1, 2, 1]})
    query = pd.DataFrame({"path": list("de"), "pid": [2, 5], "camid": [1, 1]})
    gallery = pd.DataFrame({"path": list("fghi"), "pid": [2, 5, 0, -1], "camid": [2, 1, 4, 0]})
    table = check_labels(replace(market, train=train, query=query, gallery=gallery)).set_index("check")
    assert table["examples"].to_dict() == {
        "identities in train and in test": "2",
        "camera numbers below 1": "0",
        "queries without a match in another camera": "5",
        "unused camera numbers": "3",
        "training identities seen by one camera only": "2",
        "unused identity numbers": "3, 4",
    }
    assert table.is_problem.tolist() == [True, False, False, False, False, False]


def test_published_counts():
    assert set(PUBLISHED) == {"market1501", "dukemtmc", "cuhk03-detected", "cuhk03-labeled", "msmt17", "occluded-duke"}
    totals = {n: sum(s.images for s in splits.values()) for n, splits in PUBLISHED.items()}
    assert totals["msmt17"] == 126_441 and totals["dukemtmc"] == 36_411  # as their papers state them
    assert totals["cuhk03-detected"] == 14_097 and totals["cuhk03-labeled"] == 14_096
    assert totals["market1501"] == 32_668 + 3_368  # detected boxes, and the hand-drawn queries


def test_counts_that_agree_with_the_published_ones(market, monkeypatch):
    def rows(people, n):
        return pd.DataFrame(
            {"path": map(str, range(n)), "pid": np.resize(people, n), "camid": np.resize(np.arange(6) + 1, n)}
        )

    gallery = pd.concat([rows(np.arange(1, 751), 15000), rows([0], 913), rows([-1], 3819)])
    full = replace(
        market, train=rows(np.arange(800, 1551), 12936), query=rows(np.arange(1, 751), 3368), gallery=gallery
    )
    table = compare_counts(full)
    assert table.ok.all() and (table.found == table.published).all()
    one_less = compare_counts(replace(full, train=full.train.iloc[1:]))
    assert one_less[~one_less.ok][["split", "quantity", "found"]].values.tolist() == [["train", "images", 12935]]


def test_contact_sheet_has_a_row_a_camera_and_repeats(market):
    Path(market.train.path[0]).write_bytes(b"broken")
    sheet = contact_sheet(market.train, columns=4, thumb=(32, 16))
    assert sheet.size == (120 + 4 * 20 + 4, 28 + 2 * 36 + 4)
    again = contact_sheet(market.train, columns=4, thumb=(32, 16))
    assert np.array_equal(np.asarray(sheet), np.asarray(again))
    assert not np.array_equal(
        np.asarray(sheet), np.asarray(contact_sheet(market.train, columns=4, thumb=(32, 16), seed=5))
    )


def test_command_prints_saves_and_returns_the_code(tmp_path, capsys, monkeypatch):
    layouts.write_market(tmp_path / "market1501")
    assert check_command("market1501", tmp_path, decode=False) == 1
    out = capsys.readouterr().out
    assert "published are 12,936" in out and "camera" in out and "contact sheet" in out
    assert (tmp_path / "checks" / "market1501" / "broken.csv").read_text().strip() == "path,split,problem"
    monkeypatch.setitem(PUBLISHED, "market1501", {})
    assert check_command("market1501", tmp_path, decode=False) == 0


def test_report_with_names_that_are_not_utf8(tmp_path):
    home = layouts.write_msmt17(tmp_path)
    raw = b"0000_007_01_0303morning_\xff\xfe_0.jpg"
    (home / "train" / "0000" / os.fsdecode(raw)).write_bytes(b"broken")
    with (home / "list_val.txt").open("ab") as file:
        file.write(b"0000/" + raw + b" 0\n")
    report = check(load_dataset("msmt17", root=tmp_path))
    str(report).encode("utf-8")
    folder = report.save(tmp_path / "out")
    assert raw in (folder / "broken.csv").read_bytes()


def test_sidewalk_is_sound(sidewalk_tiny):
    report = check(sidewalk_tiny)
    assert report.broken.empty and not (report.duplicates.kind == "train/test").any()
    assert report.counts.published.isna().all()


@pytest.mark.parametrize("decode", [False, True])
def test_a_file_is_opened_once_and_headers_need_no_pixels(tmp_path, monkeypatch, decode):
    """`reidkit bench cache` says how many headers a second that makes."""
    paths = [write(tmp_path, f"{i:04d}_c1.jpg", layouts.encoded(i)) for i in range(20)]
    opened, decoded, load = Counter(), [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: (image.tile and decoded.append(1)) or load(image))
    monkeypatch.setattr(images, "open", lambda path, *mode: opened.update([path]) or open(path, *mode), raising=False)
    assert (check_module._inspect(paths, decode, 2, False).problem == "").all()
    assert opened == Counter(map(str, paths)) and len(decoded) == (len(paths) if decode else 0)


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "cuhk03-detected", "msmt17"])
def test_sidewalk_in_a_real_layout_keeps_people_and_cameras(sidewalk_tiny, tmp_path, name):
    layouts.write_from(sidewalk_tiny, tmp_path / name.replace("-detected", "-np"), name)
    ds = load_dataset(name, root=tmp_path)
    report = check(ds)
    assert report.broken.empty and not (report.duplicates.kind == "train/test").any()
    for split in ("train", "query", "gallery"):
        got, wanted = getattr(ds, split), getattr(sidewalk_tiny, split)
        assert sorted(got.groupby(["pid", "camid"]).size()) == sorted(wanted.groupby(["pid", "camid"]).size())
        assert sorted(got.camid) == sorted(wanted.camid) and got.pid.nunique() == wanted.pid.nunique()
        if name != "msmt17":  # its lists number people anew
            assert sorted(got.pid) == sorted(wanted.pid)
    assert ds.num_train_ids == sidewalk_tiny.num_train_ids
