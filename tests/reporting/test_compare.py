"""Two runs, two variants, two tables: numbers against slow references, and what is refused or told."""

import json
import shutil
from itertools import product
from math import isnan

import numpy as np
import pandas as pd
import pytest
from seeded_runs import train_runs
from slow_ranking import reference

from reidkit.errors import CheckpointError, ReIDKitError, UnknownNameError
from reidkit.reporting.compare import compare_results, compare_runs, compare_systems, paired_interval
from reidkit.reporting.compare_text import comparison_text
from reidkit.reporting.results import COLUMNS, collect_pair, collect_results
from reidkit.training import evaluate_run, load_run

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), ("mpn-s0", "baseline-s0", "cgpn-s0", "mpn-s1"))


@pytest.fixture(scope="module")
def found(runs, sidewalk_tiny):
    """MPN and the baseline on the levels mild and strong, by mAP."""
    return compare_runs(runs / "mpn-s0", runs / "baseline-s0", sidewalk_tiny, levels=["mild", "strong"], **QUIET)


# ---- the interval over people ----------------------------------------------------------------------------------------

PEOPLE = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5]  # six people with one to four queries
DIFFERENCES = np.array([0.31, 0.22, 0.27, -0.42, 0.08, 0.13, 0.05, 0.55, 0.41, -0.02, -0.11, 0.19])


def test_interval_against_every_possible_draw():
    """All 6^6 draws of six people, each with all of its queries, one after the other."""
    own = [DIFFERENCES[np.equal(PEOPLE, p)] for p in range(6)]
    means = [np.concatenate([own[p] for p in draw]).mean() for draw in product(range(6), repeat=6)]
    for confidence in (0.95, 0.8):
        tails = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        got = paired_interval(DIFFERENCES, np.array(PEOPLE), confidence=confidence, draws=100_000)
        assert got == pytest.approx(tails, abs=0.004)
    assert means and tails[1] - tails[0] > 0.1  # the tolerance is small beside the interval


def test_queries_of_one_person_are_no_news():
    """Ten copies of every query say nothing more about other people; ten people of one query each do."""
    people = np.array(PEOPLE)
    once = paired_interval(DIFFERENCES, people)
    assert paired_interval(np.tile(DIFFERENCES, 10), np.tile(people, 10)) == pytest.approx(once, abs=1e-12)
    more = paired_interval(np.tile(DIFFERENCES, 10), np.arange(10 * len(people)))
    assert more[1] - more[0] < 0.5 * (once[1] - once[0])


def test_interval_of_equal_numbers_and_of_one_person():
    assert paired_interval(np.full(12, 0.25), np.array(PEOPLE)) == pytest.approx((0.25, 0.25))
    assert all(map(isnan, paired_interval(DIFFERENCES, np.zeros(12, int))))


# ---- two runs --------------------------------------------------------------------------------------------------------


def test_levels_are_those_of_evaluate(found, runs, sidewalk_tiny):
    assert list(found.levels.level) == ["mild", "strong"]
    for side, name in (("a", "mpn-s0"), ("b", "baseline-s0")):
        metrics = evaluate_run(runs / name, sidewalk_tiny, **QUIET)["metrics"]
        assert list(found.levels[side]) == pytest.approx([100 * metrics[level]["mAP"] for level in ("mild", "strong")])
    assert list(found.levels.n) == [43, 43] and list(found.levels.people) == [12, 12]
    assert list(found.levels.difference) == pytest.approx(list(found.levels.a - found.levels.b))
    assert any("12 people are few" in note for note in found.notes)


def test_every_query_against_a_sorted_list(found, runs, sidewalk_tiny):
    """AP and rank of the first match of each query, from a sort of all distances; then the interval, draw by draw."""
    ds = sidewalk_tiny.at_level("strong")
    ids = [t[c].to_numpy() for c in ("pid", "camid") for t in (ds.query, ds.gallery)]
    rows = []
    for name in ("mpn-s0", "baseline-s0"):
        net = load_run(runs / name)
        qf, gf = (np.asarray(net.extract(t), float) for t in (ds.query, ds.gallery))
        qf, gf = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (qf, gf))
        rows.append(reference(-(qf @ gf.T), *ids)[3])
    queries = found.queries[found.queries.level == "strong"]
    assert [(ds.root / file).as_posix() for file in queries.file] == list(ds.query.path)
    for side, expected in zip("ab", rows):
        assert list(queries[f"ap_{side}"]) == pytest.approx([ap for ap, _, _ in expected], abs=1e-6)
        assert list(queries[f"first_{side}"]) == [first for _, _, first in expected]
    change = np.array([a[0] - b[0] for a, b in zip(*rows)])
    rng, pids = np.random.default_rng(99), ds.query.pid.to_numpy()
    means = []
    for _ in range(4000):
        drawn = rng.choice(np.unique(pids), 12)
        means.append(100 * np.concatenate([change[pids == pid] for pid in drawn]).mean())
    level = found.levels.set_index("level").loc["strong"]
    assert [level.low, level.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.1 * np.ptp(means))
    expected = "A better" if level.low > 0 else "B better" if level.high < 0 else "undecided"
    assert level.verdict == expected


def test_changed_most(found):
    changed = found.changed("mild", top=4)
    mild = found.queries[found.queries.level == "mild"]
    assert len(changed) == 4 and changed.difference.abs().is_monotonic_decreasing
    rest = mild.drop(changed.index)
    assert rest.difference.abs().max() <= changed.difference.abs().min()
    assert list(changed.difference) == pytest.approx(list(changed.ap_a - changed.ap_b))
    none = found.queries.assign(difference=0.0)
    assert type(found)(**{**vars(found), "queries": none}).changed("mild").empty


def test_b_and_a_turn_every_sign(found, runs, sidewalk_tiny):
    back = compare_runs(runs / "baseline-s0", runs / "mpn-s0", sidewalk_tiny, levels=["mild"], **QUIET).levels.iloc[0]
    mild = found.levels.iloc[0]
    assert [back.difference, back.low, back.high] == pytest.approx([-mild.difference, -mild.high, -mild.low])


def test_rank1_is_another_number(found, runs, sidewalk_tiny):
    rank1 = compare_runs(runs / "mpn-s0", runs / "baseline-s0", sidewalk_tiny, "rank1", levels=["mild"], **QUIET)
    expected = 100 * (found.queries[found.queries.level == "mild"].first_a == 1).mean()
    assert rank1.levels.a.item() == pytest.approx(expected)


def test_two_forms_of_testing_are_refused_until_one_is_chosen(runs, sidewalk_tiny):
    pair = runs / "mpn-s0", runs / "cgpn-s0"
    with pytest.raises(ReIDKitError, match=r"mpn-s0 .* step AP and cgpn-s0 .* flip mean: .*--flip or --no-flip"):
        compare_runs(*pair, sidewalk_tiny, **QUIET)
    both = compare_runs(*pair, sidewalk_tiny, levels=["mild"], flip="none", **QUIET)
    assert "step AP;" in both.about
    own = evaluate_run(pair[1], sidewalk_tiny, flip="none", **QUIET)["metrics"]["mild"]["mAP"]
    assert both.levels.b.item() == pytest.approx(100 * own)


def test_one_run_twice_and_a_copy_are_told(runs, sidewalk_tiny, tmp_path):
    with pytest.raises(ReIDKitError, match=r"same run, .*mpn-s0"):
        compare_runs(runs / "mpn-s0", runs / ".." / runs.name / "mpn-s0", sidewalk_tiny, **QUIET)
    copy = shutil.copytree(runs / "mpn-s0", tmp_path / "copy")
    same = compare_runs(runs / "mpn-s0", copy, sidewalk_tiny, levels=["mild"], **QUIET)
    assert "A and B hold the same weights: one is a copy of the other" in same.notes
    assert same.levels.difference.item() == 0 and same.levels.verdict.item() == "undecided"
    assert "queries of mild whose AP changed most: none has changed" in comparison_text(same)


def test_notes_on_seeds(runs, sidewalk_tiny):
    seeds = compare_runs(runs / "mpn-s0", runs / "mpn-s1", sidewalk_tiny, levels=["mild"], **QUIET)
    assert any("A is of seed 0, B of seed 1" in note for note in seeds.notes)
    assert not any("trained in" in note for note in seeds.notes)  # both in one precision
    assert seeds.a.startswith("mpn-s0 (mpn ") and seeds.a.endswith("preset smoke, seed 0)")


def test_a_note_on_precision(runs, sidewalk_tiny, tmp_path):
    copy = shutil.copytree(runs / "mpn-s0", tmp_path / "copy")
    settings = json.loads((copy / "recipe.json").read_text())
    other = {"no": "bf16", "bf16": "no"}[settings["precision"]]
    (copy / "recipe.json").write_text(json.dumps({**settings, "precision": other}))
    found = compare_runs(runs / "mpn-s0", copy, sidewalk_tiny, levels=["mild"], **QUIET)
    words = {"no": "float32", "bf16": "bf16"}
    told = f"A was trained in {words[settings['precision']]}, B in {words[other]}"
    assert any(told in note for note in found.notes)


def test_what_cannot_be_compared_is_said_before_anything_is_tested(runs, sidewalk_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("reidkit.training.evaluate._Features.__call__", lambda *a: pytest.fail("tested"))
    pair = runs / "mpn-s0", runs / "baseline-s0"
    with pytest.raises(UnknownNameError, match=r"test level .*'milld'.*mild"):
        compare_runs(*pair, sidewalk_tiny, levels=["milld"], **QUIET)
    with pytest.raises(UnknownNameError, match="metric of a query 'rank5'"):
        compare_runs(*pair, sidewalk_tiny, "rank5", **QUIET)
    damaged = shutil.copytree(runs / "baseline-s0", tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        compare_runs(runs / "mpn-s0", damaged, sidewalk_tiny, **QUIET)


# ---- over seeds ------------------------------------------------------------------------------------------------------


def table(systems, *, level="strong", dataset="sidewalk-small", preset="quick", form="step AP", metric="mAP"):
    """Results {system: {seed: mAP in percent}} as `collect_results` gives them."""
    rows = [
        [f"{system}-{seed}", system, system.split()[0], dataset, preset, seed, level, "ours", form, np.nan, metric]
        + [value / 100, "abc", "cpu", ""]
        for system, values in systems.items()
        for seed, value in values.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_variants_by_hand():
    strong = table({"mpn": {0: 41, 1: 42, 2: 41, 7: 99}, "baseline": {0: 38, 1: 40, 2: 37}})
    mild = table({"mpn": {0: 61, 1: 59}, "baseline": {0: 60, 1: 60}}, level="mild")
    levels = compare_systems(pd.concat([strong, mild]), "mpn", "baseline").levels.set_index("level")
    row = levels.loc["strong"]
    # differences 3, 2, 4: mean 3, sd 1, t(0.95, 2) = 4.30265, half = 2.48414; seed 7 has no partner
    assert [row.a, row.b, row.difference, row.low, row.high] == pytest.approx(
        [124 / 3, 115 / 3, 3, 0.51586, 5.48414], abs=1e-4
    )
    assert (row.n, row.verdict, row.scale) == (3, "A better", "sidewalk-small quick")
    assert levels.loc["mild"].verdict == "undecided" and levels.loc["mild"].difference == pytest.approx(0)
    back = compare_systems(strong, "baseline", "mpn").levels.iloc[0]
    assert back.verdict == "B better" and back.difference == pytest.approx(-3)


def test_variants_at_every_scale_that_both_have():
    small = table({"mpn": {0: 41}, "baseline": {0: 38}})
    wide = table({"mpn backbone=small-96": {0: 50}, "baseline backbone=small-96": {0: 51}}, preset="long")
    alone = table({"mpn": {0: 70}}, dataset="sidewalk-many")
    levels = compare_systems(pd.concat([small, wide, alone]), "mpn", "baseline").levels
    assert list(levels.scale) == ["sidewalk-small quick", "sidewalk-small long backbone=small-96"]
    assert list(levels.difference) == pytest.approx([3, -1]) and set(levels.verdict) == {"one seed"}


def test_variants_that_have_no_difference():
    t = pd.concat([table({"mpn": {0: 41, 1: 42}, "mgn": {5: 40}}), table({"cgpn": {0: 50, 1: 51}}, form="flip mean")])
    forms = compare_systems(t, "mpn", "cgpn")
    assert forms.levels.verdict.item() == "tested differently" and isnan(forms.levels.difference.item())
    assert "A with step AP, B with flip mean" in forms.notes[0]
    assert compare_systems(t, "mpn", "mgn").levels.verdict.item() == "no common seed"
    with pytest.raises(ReIDKitError, match="same variant, mpn"):
        compare_systems(t, "mpn", "mpn")
    with pytest.raises(UnknownNameError, match=r"variant with runs .*'psa'"):
        compare_systems(t, "mpn", "psa")
    with pytest.raises(UnknownNameError, match=r"metric 'map'.*mAP"):
        compare_systems(t, "mpn", "mgn", "map")
    apart = pd.concat([table({"mpn": {0: 41}}), table({"mgn": {0: 41}}, preset="long")])
    with pytest.raises(ReIDKitError, match="mpn was run on sidewalk-small quick, mgn on sidewalk-small long"):
        compare_systems(apart, "mpn", "mgn")


def test_tables_row_by_row():
    a = table({"mpn": {0: 41, 1: 42, 2: 41}, "baseline": {0: 38}, "psa": {0: 1}})
    b = table({"mpn": {0: 38, 1: 40, 2: 37}, "baseline": {0: 38}, "fsa": {0: 1}})
    found = compare_results(a, b, names=("old", "new"))
    levels = found.levels.set_index("row")
    assert list(levels.index) == ["mpn", "baseline"]
    assert [levels.difference["mpn"], levels.low["mpn"]] == pytest.approx([3, 0.51586], abs=1e-4)
    assert levels.verdict["mpn"] == "A better" and levels.verdict["baseline"] == "one seed"
    assert "only in A: psa on sidewalk-small quick" in found.notes and "B: fsa on" in found.notes[1]
    assert (found.a, found.b) == ("old", "new")
    with pytest.raises(ReIDKitError, match=r"old and new have no row in common: psa on .*; fsa on"):
        compare_results(a[a["system"] == "psa"], b[b["system"] == "fsa"], names=("old", "new"))
    assert "every number of A is the same in B" in compare_results(a, a).notes


def test_tables_of_other_images_have_no_common_row(tmp_path):
    result = {"variant": "mpn", "dataset": "sidewalk-small", "seed": 0, "preset": "quick"}
    result["metrics"] = {level: {"mAP": 0.4} for level in ("mild", "strong", "shift")}
    for folder, images in (("a", "1" * 64), ("b", "2" * 64), ("c", "1" * 64)):
        (tmp_path / folder / "mpn-s0").mkdir(parents=True)
        (tmp_path / folder / "mpn-s0" / "result.json").write_text(json.dumps(result | {"fingerprint": images}))
    with pytest.raises(ReIDKitError, match=r"no row in common: mpn on sidewalk-small \(11111111\)"):
        compare_results(*collect_pair(tmp_path / "a", tmp_path / "b"))
    assert len(compare_results(*collect_pair(tmp_path / "a", tmp_path / "c")).levels) == 3
    collect_results(tmp_path / "b").to_csv(tmp_path / "b.csv", index=False)  # does not say which images
    assert len(compare_results(*collect_pair(tmp_path / "a", tmp_path / "b.csv")).levels) == 3


def test_shipped_variants_agree_with_the_claims(repo):
    """The same runs, the same difference, interval and verdict as on the page of claims."""
    from reidkit.reporting.claims import Claim
    from reidkit.reporting.verdicts import verdicts

    results = collect_results(repo / "results" / "sidewalk" / "runs.csv")
    theirs = verdicts(results, [Claim("mpn", "naive-mtl", "", "mpn-table1")]).set_index(["scale", "level"])
    ours = compare_systems(results, "mpn", "naive-mtl").levels.set_index(["scale", "level"])
    assert len(theirs) > 5 and set(theirs.index) <= set(ours.index)
    ours = ours.loc[theirs.index]
    pd.testing.assert_frame_equal(
        ours[["difference", "low", "high"]].astype(float), theirs[["difference", "low", "high"]].astype(float)
    )
    words = {"A better": "appears", "B better": "reversed"}
    assert [words.get(v, v) for v in ours.verdict] == list(theirs.verdict)


def test_text_fits_120_columns(found, repo):
    results = collect_results(repo / "results" / "sidewalk" / "runs.csv")
    for c in (found, compare_systems(results, "mpn", "baseline"), compare_results(results, results)):
        text = comparison_text(c)
        assert max(map(len, text.splitlines())) <= 120
        row = c.levels.iloc[0]
        assert f"{row.a:.1f}" in text and f"{row.difference:+.1f}" in text and row.verdict in text
    assert "over people" in comparison_text(found) and found.changed("mild").file.iloc[0] in comparison_text(found)
    assert "changed most" not in comparison_text(found, top=0)
