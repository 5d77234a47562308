"""What `data check` says of identities, cameras, kinds of files and disks, and which folders the parsers read."""

import os
import resource
import warnings
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from market_folder import make_market_folder
from PIL import Image
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.data import load_dataset
from reidkit.data.contact_sheet import MAX_CAMERAS, contact_sheet
from reidkit.data.copies import check as check_module
from reidkit.data.copies.check import check_command, check_dataset, find_duplicates
from reidkit.data.copies.label_check import check_files, check_labels, queries_without_match
from reidkit.data.images import IMAGE_SUFFIXES
from reidkit.data.sets import published
from reidkit.errors import DatasetError
from reidkit.training import recipe_for, train


def check(ds, **options):
    return check_dataset(ds, progress=False, **options)


def rename(folder: Path, change) -> None:
    """Give every image of a folder the name change(name)."""
    for path in sorted(folder.glob("*.*")):
        path.rename(path.with_name(change(path.name)))


def convert(folder: Path, suffix: str) -> None:
    """Write the images of a folder again, as another kind of file."""
    kind = {".bmp": "BMP", ".webp": "WEBP", ".tiff": "TIFF"}[suffix.lower()]
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".tmp"), kind)
        path.unlink()
        path.with_suffix(".tmp").rename(path.with_suffix(suffix))


def note(report, text: str) -> list[str]:
    return [line for line in str(report).split("problems")[0].splitlines() if text in line]


# ---- kinds of files (F02) --------------------------------------------------------------------------------------------


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
    assert report.problems == [f"images of a kind that the kit does not read: 1 ({first.stem}{suffix})"]
    assert report.exit_code == 1


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


# ---- identities and cameras (F07, F09, F22) --------------------------------------------------------------------------


def tables(market, train, query, gallery):
    def table(rows):
        return pd.DataFrame([(f"/x/{i}", *row) for i, row in enumerate(rows)], columns=["path", "pid", "camid"])

    return replace(market, train=table(train), query=table(query), gallery=table(gallery))


@pytest.fixture
def market(tmp_path):
    layouts.write_market(tmp_path / "market1501")
    return load_dataset("market1501", root=tmp_path)


@pytest.mark.parametrize("top", [10_000_000_000, 10**17])
def test_large_numbers_need_no_memory(market, top):
    pids = range(top, top + 3)
    ds = tables(market, [(p, top + 7) for p in pids], [(top + 50, top + 7)], [(top + 50, top + 9)])
    table = check_labels(ds).set_index("check")
    assert table.loc["unused identity numbers", "count"] == top + 50 - 4
    assert table.loc["unused identity numbers", "examples"] == "1, 2, 3, 4, 5 ..."
    assert table.loc["unused camera numbers", "count"] == top + 9 - 2
    assert not table.is_problem.any()


def test_unused_numbers_equal_the_slow_way(market):
    rng = np.random.default_rng(0)
    for _ in range(20):
        pids = [int(p) for p in rng.integers(1, 40, 6)]
        cams = [int(c) for c in rng.integers(1, 9, 6)]
        ds = tables(market, list(zip(pids, cams)), [(50, 1)], [(50, 2)])
        got = check_labels(ds).set_index("check").reindex(["unused identity numbers", "unused camera numbers"])
        for row, used in zip(got.itertuples(), ({*pids, 50}, {*cams, 1, 2})):
            lacking = [n for n in range(1, max(used)) if n not in used]
            shown = ", ".join(map(str, lacking[:5])) + " ..." * (len(lacking) > 5)
            assert (row.count, row.examples) == (len(lacking), shown) if lacking else row.count != row.count


def test_ten_digit_identities_on_disk(tmp_path):
    """The whole command, under a limit of memory that the old way broke."""
    layouts.write_market(tmp_path / "mine")
    for folder in (tmp_path / "mine").iterdir():
        rename(folder, lambda n: n if n.startswith(("-1", "0000", "Thumbs")) else f"168155{n}")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), hard))
    try:
        assert check_command("market-layout", tmp_path / "mine", out=tmp_path / "out") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_numbers_past_64_bits_are_refused_by_name(tmp_path):
    layouts.write_market(tmp_path / "mine")
    first = sorted((tmp_path / "mine" / "query").glob("*.jpg"))[0]
    first.rename(first.with_name("99999999999999999999_c1s1_000001_01.jpg"))
    with pytest.raises(DatasetError, match="99999999999999999999_c1s1"):
        load_dataset("market-layout", root=tmp_path / "mine")


def slow_alone(ds) -> list[str]:
    """Paths of queries without a match, by the words of the protocol."""
    alone = []
    for q in ds.query.itertuples():
        hits = [
            g for g in ds.gallery.itertuples() if g.pid == q.pid and g.camid != q.camid and g.pid not in ds.junk_pids
        ]
        if not hits:
            alone.append(q.path)
    return alone


def test_queries_without_match_equal_the_slow_way(market):
    rng = np.random.default_rng(1)
    for _ in range(30):
        rows = [[(int(p), int(c)) for p, c in zip(rng.integers(-1, 5, n), rng.integers(0, 3, n))] for n in (3, 6, 8)]
        ds = tables(market, *rows)
        assert queries_without_match(ds).path.tolist() == slow_alone(ds)


def test_one_camera_is_a_problem(tmp_path):
    layouts.write_market(tmp_path / "mine", cams=1)
    for file in (tmp_path / "mine" / "bounding_box_test").glob("0000_*"):
        file.unlink()  # a distractor by a second camera
    report = check(load_dataset("market-layout", root=tmp_path / "mine"))
    assert report.exit_code == 1 and "the copy is sound" not in str(report)
    said = "without a match in another camera: all of them, as all test images are of one camera: 2 (1, 5)"
    assert said in str(report)


def test_two_cameras_but_no_match_is_a_problem_and_some_matches_are_not(market):
    none = tables(market, [(9, 1), (9, 2)], [(1, 1), (2, 2)], [(1, 1), (2, 2), (3, 1), (3, 2)])
    table = check_labels(none).set_index("check")
    problem = table[table.index.str.contains("without a match")]
    assert problem["count"].tolist() == [2] and problem.is_problem.all() and "one camera" not in problem.index[0]
    some = check_labels(tables(market, [(9, 1), (9, 2)], [(1, 1), (2, 2)], [(1, 1), (2, 1)])).set_index("check")
    assert not some.loc["queries without a match in another camera", "is_problem"]


def test_cameras_from_zero_are_a_note_and_can_be_trained_on(tmp_path):
    home = make_market_folder(tmp_path / "mine", train_ids=8, cameras=3)
    for folder in home.iterdir():
        rename(folder, lambda n: n.replace("_c1", "_c0").replace("_c2", "_c1").replace("_c3", "_c2"))
    ds = load_dataset("market-layout", root=home)
    report = check(ds)
    assert report.ok and note(report, "camera numbers below 1: 1 (0)")
    below = check_labels(replace(ds, query=ds.query.assign(camid=-1))).set_index("check")
    assert below.loc["camera numbers below 1", "is_problem"]
    result = train(
        "ide",
        ds,
        recipe_for("ide", "smoke", {}),
        tmp_path / "run",
        seed=0,
        device="cpu",
        preset="smoke",
        progress=False,
    )
    assert result["metrics"]["test"]["queries"] == 2


def test_junk_and_distractors_are_counted(market, tmp_path):
    table = check_files(market).set_index("check")
    assert table["count"].to_dict() == {
        "junk images in the gallery, ignored when ranking": 1,
        "distractors in the gallery, never a match": 1,
    }
    assert not table.is_problem.any() and note(check(market), "never a match: 1 (identity 0)")
    layouts.write_duke(tmp_path / "duke")
    duke = check_files(load_dataset("dukemtmc", root=tmp_path / "duke")).set_index("check")
    assert duke.loc["distractors in the gallery, never a match", "examples"] == "identity 7139"


def test_hand_drawn_boxes_may_be_copies_of_their_person(market):
    box = Path(market.info["gt_bbox"].path[0])
    for split, raised in (("query", False), ("gallery", False), ("train", True)):
        original = getattr(market, split)
        pid = market.info["gt_bbox"].pid[0]
        same = original[original.pid == pid]
        box.write_bytes(Path((same if len(same) else original).path.iloc[0]).read_bytes())
        report = check(replace(market, name="my-set"))
        assert report.duplicates.empty is not raised and report.ok is not raised
    rows = [("d", "t", 7, "train"), ("d", "b", 7, "gt_bbox"), ("e", "q", 1, "query"), ("e", "c", 2, "gt_bbox")]
    found = find_duplicates(pd.DataFrame(rows, columns=["digest", "path", "pid", "split"]))
    assert found.kind.unique().tolist() == ["two people"] and set(found.path) == {"q", "c"}


def test_many_cameras_make_no_endless_page(market):
    table = pd.concat([market.train.assign(camid=c) for c in range(200)], ignore_index=True)
    page = contact_sheet(table, columns=2, thumb=(8, 4))
    assert page.height == 28 + MAX_CAMERAS * 12 + 4


def test_a_published_name_with_other_counts_shows_the_differences(tmp_path, capsys):
    layouts.write_market(tmp_path / "campus")
    ds = load_dataset("market1501", root=tmp_path / "campus")
    assert ds.label == "campus" and not published.compare_counts(ds).ok.all()
    assert check_command("market1501", tmp_path / "campus", decode=False) == 1
    assert "published are 12,936" in capsys.readouterr().out


# ---- where the report goes (F13) -------------------------------------------------------------------------------------


@pytest.fixture
def blocked(tmp_path):
    """A data set beside which no folder `checks` can be made (permissions do not stop root)."""
    home = layouts.write_market(tmp_path / "mine")
    (home / "checks").write_text("a file in the way")
    return home


def test_the_report_is_printed_where_it_cannot_be_saved(blocked, capsys, monkeypatch):
    order = []
    for function in ("_cannot_write", "_inspect"):
        real = getattr(check_module, function)
        monkeypatch.setattr(check_module, function, lambda *a, f=function, r=real: order.append(f) or r(*a))
    assert check_command("market-layout", blocked) == 0
    assert order == ["_cannot_write", "_inspect"]
    out = capsys.readouterr().out
    assert "the copy is sound" in out and "images per camera" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("tables and contact sheet were not saved") and str(blocked / "checks") in last
    assert "--out" in last and "--cache-dir" in last


@pytest.mark.parametrize("option", ["--out", "--cache-dir"])
def test_another_folder_for_the_report(blocked, tmp_path, option):
    command = ["data", "check", "market-layout", "--root", str(blocked), option, str(tmp_path / "o")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    saved = list((tmp_path / "o").rglob("report.txt"))
    assert len(saved) == 1 and "the copy is sound" in saved[0].read_text()
    if option == "--cache-dir":
        ds = load_dataset("market-layout", root=blocked, cache_dir=tmp_path / "o")
        assert saved[0].parent == ds.derived("checks")


def test_a_disk_that_fills_up_while_saving(tmp_path, capsys, monkeypatch):
    home = layouts.write_market(tmp_path / "mine")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(check_module.CheckReport, "save", full)
    assert check_command("market-layout", home) == 0
    assert "not saved: " in (out := capsys.readouterr().out) and "No space left" in out


def test_quarantine_on_a_disk_that_cannot_be_written_to(tmp_path, monkeypatch):
    home = layouts.write_market(tmp_path / "mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(check_module, "check_dataset", lambda *a: pytest.fail("checked first"))
    with pytest.raises(DatasetError, match="quarantine"):
        check_command("market-layout", home, quarantine=True)


def test_the_report_says_what_it_cannot_see(tmp_path, monkeypatch):
    ds = load_dataset("market-layout", root=layouts.write_market(tmp_path / "mine"))
    assert "without a warning" in str(check(ds))
    assert "headers" in check(ds, decode=False).unseen
    monkeypatch.setattr(check_module, "hears_complaints", lambda: False)
    assert "no decoder that warns" in str(check(ds))


def test_a_damaged_jpeg_is_a_problem_of_the_check(tmp_path):
    home = layouts.write_market(tmp_path / "mine")
    victim = sorted((home / "query").glob("*.jpg"))[0]
    data = bytearray(victim.read_bytes())
    middle = (data.rindex(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 60] = bytes(60)
    victim.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(load_dataset("market-layout", root=home))
    assert report.exit_code == 1 and report.broken.path.tolist() == [str(victim)] and "damaged" in report.problems[0]
