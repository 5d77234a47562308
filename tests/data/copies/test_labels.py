"""What `data check` says of identities and cameras."""

import resource
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from checking import check, note, rename
from market_folder import make_market_folder

from reidkit.data import load_dataset
from reidkit.data.contact_sheet import MAX_CAMERAS, contact_sheet
from reidkit.data.copies.check import check_command, find_duplicates
from reidkit.data.copies.label_check import check_files, check_labels, queries_without_match
from reidkit.data.sets import published
from reidkit.errors import DatasetError
from reidkit.training import recipe_for, train


def tables(market, train, query, gallery):
    def table(rows):
        return pd.DataFrame([(f"/x/{i}", *row) for i, row in enumerate(rows)], columns=["path", "pid", "camid"])

    return replace(market, train=table(train), query=table(query), gallery=table(gallery))


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
