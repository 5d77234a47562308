"""The variant comparator against the evaluation and the report of the same runs."""

import json

import numpy as np
import pandas as pd
import pytest
from needs import need

need("ipywidgets")
from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking, extract_features, top_k
from reidkit.panels.comparator import VariantComparator
from reidkit.panels.kit.interval import seed_differences
from reidkit.panels.kit.runs import open_runs
from reidkit.panels.kit.subset import subset
from reidkit.reporting import report
from reidkit.training import load_run


def test_comparator_numbers_are_those_of_the_evaluation(panels, runs, sidewalk_tiny):
    panel, ds = panels["VariantComparator"], sidewalk_tiny
    panel.reset()
    panel.level = ds.level
    change = panel.differences(panel.state())
    per_query = []
    for name in ("mpn-s0", "baseline-s0"):
        model = load_run(runs / name)
        qf, gf = (extract_features(model, t, size=(96, 32), progress=False) for t in (ds.query, ds.gallery))
        kit = evaluate_ranking(qf, gf, ds.query.pid, ds.gallery.pid, ds.query.camid, ds.gallery.camid)
        ours = panel.ranking(name.replace("-", " "))
        assert ours.mAP == kit.mAP and ours.rank(1) == kit.rank(1)
        saved = json.loads((runs / name / "result.json").read_text())["metrics"][ds.level]
        assert ours.mAP == pytest.approx(saved["mAP"], abs=0.01)  # training may evaluate in half precision
        per_query.append(kit.per_query)
        row = ds.query.iloc[4]
        listed = top_k(qf[4], gf, 5, q_pid=row.pid, q_camid=row.camid, g_pids=ds.gallery.pid, g_camids=ds.gallery.camid)
        pd.testing.assert_frame_equal(panel.ranked_list(name.replace("-", " "), 4, 5), listed)
    expected = (per_query[0].ap - per_query[1].ap).dropna()
    pd.testing.assert_series_equal(change.sort_index(), expected, check_names=False)
    assert change.is_monotonic_decreasing
    first = panel.differences(panel.state(metric="rank1"))
    hits = [(t.first_hit_rank == 1).astype(float) for t in per_query]
    assert first.mean() == pytest.approx((hits[0] - hits[1])[expected.index].mean())


def test_comparator_interval_is_that_of_the_report(panels, results, sidewalk_tiny):
    panel = panels["VariantComparator"]
    panel.reset()
    panel.level = sidewalk_tiny.level
    for metric in ("mAP", "rank1", "mINP"):
        ours = panel.seeds(panel.state(metric=metric))
        kit = report.paired_difference(
            results, "mpn", "baseline", metric, level=sidewalk_tiny.level, dataset=sidewalk_tiny.name, preset="smoke"
        )
        assert ours.difference == kit and ours.difference.n == 2 and str(kit) == ours.words
        assert np.mean(list(ours.points.values())) == pytest.approx(kit.mean)
    assert "[" in panel.seeds(panel.state()).words
    assert "two forms of testing" in panel.seeds(panel.state(a="cgpn s0")).words  # it adds the mirror image


def test_an_interval_that_means_nothing_says_why(results):
    row = {r.run: r for r in results.itertuples()}
    a, b = row["mpn-s0"], row["baseline-s0"]

    def say(a, b, level="mild"):
        return seed_differences(results, a, b, "mAP", level).words

    assert "one seed" in say(row["ide-s0"], b)
    assert "not in the results" in say(None, b)
    assert "two runs of one system, mpn" in say(a, row["mpn-s1"])
    assert "unknown level" in say(a, b, "foggy")
    assert "not comparable" in say(a, pd.Series({"dataset": "market1501", "preset": "smoke", "system": "mpn"}))


def test_comparator_click_chooses_a_query(panels):
    panel = panels["VariantComparator"]
    panel.reset()
    change = panel.differences(panel.state())
    panel.on_pointer(panel.size[0] - 20, 200, "down")
    assert panel.place == len(change)
    panel.on_pointer(80, 200, "down")
    assert panel.place == 2
    panel.on_pointer(panel.size[0] / 2, 120, "down")
    assert panel.place == len(change) // 2 + 1
    panel.on_pointer(10, 600, "down")
    assert panel.place == len(change) // 2 + 1
    panel.reset()


def test_it_says_on_which_level_the_runs_differ(runs, results, sidewalk_tiny):
    table, few = results, subset(sidewalk_tiny, 4)
    better = table.assign(level="strong", value=table.value + 0.1 * (table.variant == "mpn"))
    panel = VariantComparator([runs / "mpn-s0", runs / "baseline-s0"], few, pd.concat([table, better]))
    rows = table[(table.level == "mild") & (table.metric == "mAP") & table["shift"].isna() & (table.test == "ours")]
    mean = 100 * rows.groupby("system").value.mean()
    mild = mean["mpn"] - mean["baseline"]
    said = [f"{level} {d:+.1f}" for level, d in (("mild", mild), ("strong", mild + 10))]
    words = f"A is ahead on {', '.join(said)}" if mild > 0 else f"A is ahead on {said[1]}; not ahead on {said[0]}"
    assert panel.levels(panel.state()) == words
    assert f"by level, whole test sets: {words}; this query" in panel.status_text


def test_it_opens_on_the_level_where_a_is_furthest_ahead(runs, results, sidewalk_tiny):
    """The level is chosen from the results, can be forced, and everything follows it."""
    few = subset(sidewalk_tiny, 4)
    mild, pair = results[results.level == "mild"], [runs / "mpn-s0", runs / "baseline-s0"]
    for better in ("mild", "strong"):
        tables = [
            mild.assign(level=level, value=mild.value + (level == better) * (mild.variant == "mpn"))
            for level in ("mild", "strong")
        ]
        panel = VariantComparator(pair, few, pd.concat(tables))
        assert panel.level == better and f"level {better}, mAP" in panel.status_text and panel.error == ""
        assert list(panel.controls()["level"].options) == [("mild", "mild"), ("strong", "strong")], "shift is another"
        other = {"mild": "strong", "strong": "mild"}[better]
        assert VariantComparator(pair, few, pd.concat(tables), level=other).level == other
        panel.level = other
        queries = few.at_level(other).query
        assert panel.ranking("mpn s0").per_query.shape[0] == len(queries) and panel.error == ""
        assert f"level {other}, mAP" in panel.status_text
    assert VariantComparator(pair, few).level in ("mild", "strong")


def test_a_level_with_fewer_queries_keeps_the_slider_inside(runs, sidewalk_tiny):
    from dataclasses import replace

    few = subset(sidewalk_tiny, 4)
    query, gallery = few.levels["strong"]
    short = replace(few, levels={**few.levels, "strong": (query.head(3), gallery)})
    panel = VariantComparator([runs / "mpn-s0", runs / "baseline-s0"], short, level="mild")
    panel.place = panel._valid()
    panel.level = "strong"
    assert panel.error == "" and panel.place == panel._valid() <= 3


def test_a_run_that_the_results_lack_adds_its_own(runs, sidewalk_tiny):
    table, few = report.collect_results(runs), subset(sidewalk_tiny, 4)
    table = table[~table.run.str.startswith("baseline")]
    panel = VariantComparator([runs / "mpn-s0", runs / "baseline-s0"], few, table)
    assert panel.error == "" and panel.seeds(panel.state()).difference.n == 1


def test_comparator_opens_what_a_reader_has(runs, sidewalk_tiny, tmp_path):
    with pytest.raises(ReIDKitError, match="needs two runs"):
        VariantComparator([runs / "mpn-s0"], sidewalk_tiny)
    report.collect_results(runs).to_csv(tmp_path / "all.csv", index=False)
    few = subset(sidewalk_tiny, 4)
    panel = VariantComparator({"mine": runs / "mpn-s0", "theirs": runs / "baseline-s0"}, few, tmp_path / "all.csv")
    assert panel.error == "" and panel.seeds(panel.state()).difference.n == 2
    ready = VariantComparator(open_runs([runs / "mpn-s0", runs / "baseline-s0"], few), few)
    assert ready.error == "" and "on one seed" in ready.status_text
    for run in ready.runs.values():
        run.weights = None  # networks that come from no folder
    loose = VariantComparator(ready.runs, few)
    assert loose.error == "" and "not in the results" in loose.status_text
    assert len(few.query) < len(sidewalk_tiny.query) and set(few.query.pid) == set(few.gallery.pid)
    with pytest.raises(ReIDKitError, match="at least 2"):
        subset(sidewalk_tiny, 1)
