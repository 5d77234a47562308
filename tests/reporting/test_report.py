"""Collecting runs, spread over seeds, paired intervals, tables beside the papers'."""

import json
import re
from itertools import takewhile
from math import isnan

import numpy as np
import pandas as pd
import pytest

from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.reporting import claims, report
from reidkit.training.recipes import recipe_for

MAP = {  # mAP in percent: system -> seeds 0, 1, 2
    "baseline": (38.0, 40.0, 37.0),
    "mt-only": (41.0, 42.0, 41.0),
    "naive-mtl": (46.0, 47.5, 45.0),
    "mpn-no-ca": (46.5, 47.0, 45.5),
}


def write_run(folder, variant, seed, mean_ap, **more):
    metrics = {
        "mild": {"mAP": mean_ap / 100 + 0.2, "rank1": 0.9, "queries": 12},
        "strong": {"mAP": mean_ap / 100, "rank1": 0.6, "queries": 12},
        "shift": {
            "mAP": 0.4,
            "rank1": 0.5,
            "queries": 12,
            "by_shift": {
                "0.00": {"mAP": 0.5, "rank1": 0.8, "queries": 6},
                "0.10": {"mAP": 0.3, "rank1": 0.4, "queries": 6},
            },
        },
    }
    run = folder / f"{variant}-{seed}{more.pop('suffix', '')}"
    run.mkdir(parents=True)
    result = {
        "variant": variant,
        "dataset": "sidewalk",
        "dataset_info": {"size": "small"},
        "seed": seed,
        "preset": "quick",
        "metrics": metrics,
        "provenance": {"commit": "abc", "device": "cpu: x86_64"},
        **more,
    }
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.fixture
def runs(tmp_path):
    for variant, values in MAP.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / "runs", variant, seed, value)
    (tmp_path / "runs" / "unfinished").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def results(runs):
    return report.collect_results(runs)


def test_collect(results):
    assert list(results.columns) == report.COLUMNS
    assert set(results.dataset) == {"sidewalk-small"}
    assert results.run.nunique() == 12
    assert len(results) == 12 * (3 * 2 + 2 * 2)  # three levels and two shifts, mAP and rank1 each
    row = results[(results.run == "mt-only-1") & (results.level == "strong") & (results.metric == "mAP")]
    assert row.value.item() == pytest.approx(0.42) and row["shift"].isna().all()
    assert (row.commit.item(), row.device.item(), row.command.item()) == ("abc", "cpu: x86_64", "")
    curve = results[(results.run == "mt-only-1") & (results["shift"] == 0.1) & (results.metric == "rank1")]
    assert curve.value.item() == 0.4


@pytest.mark.parametrize("stored, told", [("no", "cpu: x86_64 (float32)"), ("bf16", "cpu: x86_64 (bf16)")])
def test_a_device_is_followed_by_the_precision(tmp_path, stored, told):
    source = {"commit": "abc", "device": "cpu: x86_64", "precision": stored}
    found = report.collect_results(write_run(tmp_path, "mpn", 0, 0.4, provenance=source))
    assert set(found.device) == {told}


def test_csv_round_trip(results, tmp_path):
    results.to_csv(tmp_path / "kept.csv", index=False)
    again = report.collect_results(tmp_path / "kept.csv")
    pd.testing.assert_frame_equal(again, results, check_dtype=False)


def test_nothing_to_collect(tmp_path):
    with pytest.raises(ReIDKitError, match="no finished run"):
        report.collect_results(tmp_path)


def test_damaged_result_is_named(runs):
    (runs / "mt-only-1" / "result.json").write_text('{"variant": "mt-only"')
    with pytest.raises(ReIDKitError, match="mt-only-1"):
        report.collect_results(runs)


@pytest.mark.parametrize("content", ["[]", '{"variant": "mpn"}', '{"variant": 1, "metrics": 3}'])
def test_foreign_json_is_named(runs, content):
    (runs / "mt-only-1" / "result.json").write_text(content)
    with pytest.raises(ReIDKitError, match=r"result\.json is not (what|a result)"):
        report.collect_results(runs)


def test_two_runs_of_one_seed_are_refused(runs):
    write_run(runs, "mt-only", 1, 50, suffix="-copy")
    with pytest.raises(ReIDKitError, match="mt-only-1, mt-only-1-copy"):
        report.collect_results(runs)


def test_changed_recipes_are_other_systems(runs):
    from reidkit.training import recipes

    for seed in range(2):
        for k in (4, 6):
            recipe = recipes.recipe_for("mpn", "quick", {"model.num_parts": k, "lr": 0.02 if k == 4 else 0.04})
            write_run(runs, "mpn", seed, 40 + k, suffix=f"-k{k}", recipe=recipe.as_dict())
    systems = set(report.collect_results(runs).system)
    assert "mpn lr=0.02 model.num_parts=4" in systems
    assert "mpn model.num_parts=6" in systems and "mpn" not in systems


def test_mean_and_spread(results):
    spread = report.mean_spread(results)
    row = spread[(spread.system == "baseline") & (spread.level == "strong") & (spread.metric == "mAP")].squeeze()
    # 38, 40, 37: mean 115/3, squared deviations 1/9 + 25/9 + 16/9 = 42/9, sd = sqrt(42/9 / 2)
    assert row["mean"] == pytest.approx(1.15 / 3)
    assert row.sd == pytest.approx(np.sqrt(42 / 18) / 100)
    assert row.n == 3


def test_paired_difference_by_hand(results):
    d = report.paired_difference(results, "mt-only", "baseline", "mAP", level="strong")
    # differences 3, 2, 4: mean 3, sd 1, t(0.95, 2) = 4.30265, half = 4.30265 / sqrt(3) = 2.48414
    assert (d.n, d.wins) == (3, 3)
    assert [d.mean, d.sd, d.low, d.high] == pytest.approx([0.03, 0.01, 0.0051586, 0.0548414], abs=1e-6)
    assert str(d) == "+3.0 [+0.5, +5.5] (3 of 3 seeds)"


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30])
def test_t_quantile_against_a_sum(confidence, degrees):
    """With T = sqrt(degrees) tan(x) the density of x is proportional to cos(x)^(degrees - 1) on (-pi/2, pi/2)."""
    x = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(x) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    expected = np.sqrt(degrees) * np.tan(np.interp(confidence * mass[-1], mass, x))
    assert report.t_quantile(confidence, degrees) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("degrees, printed", [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_t_quantile_against_a_printed_table(degrees, printed):
    assert report.t_quantile(0.95, degrees) == pytest.approx(printed, abs=5e-4)


def test_paired_difference_refuses_guessing(results):
    with pytest.raises(ReIDKitError, match="several levels"):
        report.paired_difference(results, "mt-only", "baseline", "mAP")
    with pytest.raises(UnknownNameError, match="baseline"):
        report.paired_difference(results, "mt-only", "base-line", "mAP", level="strong")
    other = results[(results.system != "baseline") | (results.seed == 9)]
    moved = pd.concat([other, results[results.system == "baseline"].assign(seed=7)])
    moved = moved.drop_duplicates([*report.GROUP, "seed"])
    with pytest.raises(ReIDKitError, match="no seed in common"):
        report.paired_difference(moved, "mt-only", "baseline", "mAP", level="strong")


def test_one_seed_has_no_interval(results):
    one = results[results.seed == 0]
    d = report.paired_difference(one, "mt-only", "baseline", "mAP", level="strong")
    assert d.n == 1 and d.mean == pytest.approx(0.03) and isnan(d.low) and isnan(d.high)


def test_ordering(results):
    pairs = [("mt-only", "baseline"), ("mpn-no-ca", "naive-mtl"), ("baseline", "naive-mtl"), ("mpn", "mt-only")]
    table = report.ordering(results, pairs, "mAP", level="strong")
    assert list(table.verdict) == ["appears", "undecided", "reversed", "not run"]
    assert table.difference[0] == pytest.approx(3.0) and table.wins[1] == 2


def test_ordering_of_systems_without_a_common_seed_or_level(results):
    apart = results[(results.system != "mt-only") | (results.seed == 0)]
    apart = apart[(apart.system != "baseline") | (apart.seed == 1)]
    table = report.ordering(apart, [("mt-only", "baseline")], "mAP", level="strong")
    assert list(table.verdict) == ["not run"] and table.seeds[0] == 0
    half = results[(results.system != "baseline") | (results.level == "mild")]
    assert list(report.ordering(half, [("mt-only", "baseline")], "mAP", level="strong").verdict) == ["not run"]


def test_no_results_fits_every_table(results):
    none = report.no_results()
    assert list(none.columns) == report.COLUMNS and none.empty
    assert list(report.ordering(none, [("mpn", "baseline")], level="mild").verdict) == ["not run"]
    assert report.mean_spread(none).empty
    assert not [c for c in report.report_table("mpn-table1", none) if c.startswith("ours")]
    grown = pd.concat([none, results])
    assert report.paired_difference(grown, "mt-only", "baseline", level="strong").n == 3


def test_paper_orderings():
    pairs = report.paper_orderings("mpn-table1", "mAP")
    assert ("mpn", "mpn-no-ca") in pairs and ("mpn-no-ca", "naive-mtl") in pairs
    assert ("naive-mtl", "baseline-ub") not in pairs  # above it on Market-1501, below on DukeMTMC-reID
    assert not {(b, a) for a, b in pairs} & set(pairs)
    assert ("cgpn-4", "cgpn-3") not in report.paper_orderings("cgpn-table3")  # below it on CUHK03


def test_report_table(results):
    table = report.report_table("mpn-table1", results)
    assert table.loc["MPN", "paper: market1501 mAP"] == "89.4"
    assert table.loc["Baseline (UB)", "paper: cuhk03-labeled mAP"] == "-"
    assert table.loc["MT Only", "ours: sidewalk-small quick strong (step AP) mAP"] == "41.3 ± 0.6 (3)"
    assert table.loc["MPN", "ours: sidewalk-small quick strong (step AP) mAP"] == "-"  # not run is not a number
    assert table.index.name == "mpn-table1" and len(table) == 10
    ours = [c for c in table.columns if c.startswith("ours")]
    assert not any("shift 0" in c for c in ours)
    assert [c.rsplit(" ", 1)[1] for c in ours] == ["rank1", "mAP"] * (len(ours) // 2)


def test_report_table_without_paper_or_results(results):
    assert not [c for c in report.report_table("mpn-table1", results, paper=False) if c.startswith("paper")]
    alone = report.report_table("mpn-table9")
    assert alone.loc["DSA-reID", "paper: training parameters (M)"] == "187.8"
    assert list(report.report_table("mpn-fig7", results, systems=["mt-only", "mpn model.num_parts=4"]).index) == [
        "mt-only",
        "mpn model.num_parts=4",
    ]
    with pytest.raises(UnknownNameError, match="mpn-table1"):
        report.report_table("mpn-tabel1", results)


def test_suites_of_figures_have_their_own_rows(results):
    fig7 = report.report_table("mpn-fig7", results)
    assert list(fig7.index[:2]) == ["mpn model.num_parts=1", "mpn model.num_parts=2"]
    fig10 = report.report_table("mpn-fig10", results)
    assert "paper: market1501 mAP difference" in fig10 and "soft-c1-0.01" in fig10.index
    ide = report.report_table("cgpn-table1").loc["IDE"]  # printed on one set: a dash elsewhere
    assert ide["paper: cuhk03-labeled mAP"] == "21.0" and ide["paper: market1501 mAP"] == "-"


def test_a_papers_metrics_are_ours_too_and_its_rows_are_the_suites(runs):
    for seed in range(2):
        metrics = {"strong": {"mAP": 0.5, "rank1": 0.6, "rank5": 0.7, "rank10": 0.8, "queries": 9}}
        for variant, changes in (("cgpn", {}), ("ide", {"test_flip": "mean"})):
            write_run(runs, variant, seed, 50, metrics=metrics, changes=changes, test={"ap": "step", "flip": "mean"})
    results = report.collect_results(runs)
    occluded = report.report_table("cgpn-table2", results)
    ours = [c.rsplit(" ", 1)[1] for c in occluded if c.startswith("ours: sidewalk-small quick strong (step AP, flip")]
    assert ours == ["rank1", "rank5", "rank10", "mAP"] and "paper: occluded-duke rank10" in occluded
    assert occluded.loc["CGPN", "ours: sidewalk-small quick strong (step AP, flip mean) rank10"] == "80.0 ± 0.0 (2)"
    ide = report.report_table("cgpn-table1", results).loc["IDE"]  # the paper's row is the suite's, tested as CGPN is
    assert ide["ours: sidewalk-small quick strong (step AP, flip mean) mAP"] == "50.0 ± 0.0 (2)"


def test_markdown():
    t = pd.DataFrame({"a|b": ["x", "y"], "n": [1.5, 2.0]}, index=pd.Index(["r1", "r2"], name="row"))
    assert report.markdown(t) == "| row | a\\|b | n |\n| --- | --- | --- |\n| r1 | x | 1.50 |\n| r2 | y | 2 |\n"


def test_stored_benchmarks_say_where_they_come_from(repo):
    """results/benchmarks/NAME.json: of a known benchmark, from a clean commit."""
    from reidkit.bench import BENCHES

    files = sorted((repo / "results" / "benchmarks").glob("*.json"))
    files = [file for file in files if file.stem not in ("fuzz", "mutants")]  # counts, no benchmarks
    assert files, "no stored benchmark"
    for file in files:
        stored = json.loads(file.read_text())
        assert stored["bench"] in BENCHES and file.stem.split("-")[0] == stored["bench"], file.name
        source = stored["provenance"]
        assert re.fullmatch(r"[0-9a-f]{7,}", source["commit"]), f"{file.name}: commit {source['commit']}"
        assert source["device"] and "reidkit bench" in source["command"]


RESULT_COLUMNS = {
    "mAP, mild": ("mild", np.nan, "mAP"),
    "mAP, strong": ("strong", np.nan, "mAP"),
    "Rank-1, no shift": ("shift", 0.0, "rank1"),
    "Rank-1, query shifted by 0.20": ("shift", 0.2, "rank1"),
}


def test_numbers_of_the_results_page_are_the_stored_ones(repo):
    """Every number of the first table, `**label** (`system`) | mean ± sd | ...`, from results/sidewalk/runs.csv."""
    table = [
        line.strip("| ").split(" | ")
        for line in (repo / "docs" / "results.md").read_text().split("| hero |")[0].splitlines()
        if line.startswith("| system |") or (" ± " in line and line.startswith("| "))
    ]
    (_, *columns), *rows = table
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    runs = runs[(runs.dataset == "sidewalk-small") & (runs.preset == "quick")]
    assert len(rows) >= 10 and set(columns) == set(RESULT_COLUMNS)
    for label, *cells in rows:
        system = re.search(r"`(.+)`", label)[1]
        for column, cell in zip(columns, cells, strict=True):
            level, shift, metric = RESULT_COLUMNS[column]
            at = runs["shift"].isna() if isnan(shift) else np.isclose(runs["shift"], shift)
            values = 100 * runs[(runs.system == system) & (runs.level == level) & (runs.metric == metric) & at].value
            assert len(values) == 3, f"{system}, {column}: {len(values)} seeds"
            assert cell == f"{values.mean():.1f} ± {values.std():.1f}", f"{system}, {column}"


def cells_below(page, header):
    """The rows of the table whose header line begins so, split; [] where the page has none."""
    lines = page.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(header)), len(lines))
    table = list(takewhile(lambda line: line.startswith("|"), lines[first:]))
    return [line.strip("| ").split(" | ") for line in table[2:]]


def test_heroes_of_the_results_page_are_the_stored_ones(repo):
    """`| hero | mAP, mild | mAP, strong | seeds |`: a row for every system of the preset `hero` in runs.csv."""
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    runs = runs[(runs.preset == "hero") & (runs.metric == "mAP") & (runs.test == "ours")]
    expected = []
    for system, part in runs.groupby("system", sort=False):
        if system != "ide":
            values = [100 * part[part.level == level].value for level in ("mild", "strong")]
            spreads = [f"{v.mean():.1f} ± {v.std():.1f}" if len(v) > 1 else f"{v.mean():.1f}" for v in values]
            expected.append([f"`{system}`", *spreads, str(part.seed.nunique())])
    found = cells_below((repo / "docs" / "results.md").read_text(), "| hero |")
    wanted = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    assert sorted(found) == sorted(expected), f"docs/results.md, the table of heroes should be\n{wanted}"


def test_differences_of_heroes_of_the_results_page_are_the_stored_ones(repo):
    """`| pair | mAP, strong | seeds |`"""
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    found = cells_below((repo / "docs" / "results.md").read_text(), "| pair |")
    pairs = [tuple(re.findall("`(.+?)`", words)) for words, *_ in found]
    measured = report.ordering(runs[runs.preset == "hero"], pairs, "mAP", level="strong").to_dict("records")
    assert len(pairs) >= 7
    for (_, cell, seeds), r in zip(found, measured, strict=True):
        assert cell == f"{r['difference']:+.1f} [{r['low']:+.1f}, {r['high']:+.1f}]" and seeds == str(r["seeds"])


def test_development_numbers_of_the_results_page_are_the_stored_ones(repo):
    """What a recipe was chosen by: every row, with its settings, which a recipe can have."""
    stored = pd.read_csv(repo / "results" / "sidewalk" / "development.csv", comment="#", dtype=str).fillna("")
    numbers = ["pointing", "own_argmax", "similarity", "mAP_mild", "mAP_strong"]
    expected = []
    for row in stored.to_dict("records"):
        changes = dict(setting.split("=") for setting in row["settings"].split())
        recipe_for(row["variant"], "quick", changes)
        name = f"`{' '.join([row['variant'], *row['settings'].split()])}`" + (
            f", {row['change']}" if row["change"] else ""
        )
        expected.append([name, *(row[number] or "-" for number in numbers)])
    assert len(expected) > 10 and cells_below((repo / "docs" / "results.md").read_text(), "| trained |") == expected


def test_arms_of_the_results_page_are_the_stored_ones(repo):
    """Every `value [low, high]` of the sentence on sleeves stands in sleeves.csv, as the measure named before it."""
    stored = pd.read_csv(repo / "results" / "sidewalk" / "sleeves.csv")
    stored = stored[stored.level == "strong"].drop_duplicates("measure").set_index("measure")
    page = " ".join((repo / "docs" / "results.md").read_text().split())
    told = re.findall(r"(-?\d\.\d\d) \[(-?\d\.\d\d), (-?\d\.\d\d)\] \(`((?:lower|upper)_\w+)`\)", page)
    assert {"lower_long", "lower_short", "lower_difference", "upper_part_2"} <= {name for *_, name in told}
    for *numbers, name in told:
        assert numbers == [f"{stored.loc[name, key]:.2f}" for key in ("value", "low", "high")], name


def test_scales_of_the_results_page_are_the_stored_ones(repo):
    """The table of differences at several scales, strong mAP, from results/sidewalk/runs.csv."""
    lines = (repo / "docs" / "results.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| scale |"))
    table = [line.strip("| ").split(" | ") for line in takewhile(lambda line: line.startswith("|"), lines[first:])]
    (_, *columns), _, *rows = table
    pairs = [tuple(re.findall(r"`(.+?)`", column)) for column in columns]
    runs = report.collect_results(repo / "results" / "sidewalk" / "runs.csv")
    runs = runs[runs.preset != "hero"]  # one seed has no interval: a table of its own
    measured = claims.by_scale(runs, pairs, level="strong")
    by_pair = measured.set_index(["scale", "better in the paper", "worse in the paper"])
    scales = {scale for scale, *_ in by_pair.index if not scale.startswith("mean of")}
    assert len(pairs) > 2 and len(scales) > 2 and {scale.strip("`") for scale, *_ in rows} == scales
    for scale, *cells in rows:
        for (better, worse), cell in zip(pairs, cells, strict=True):
            if (key := (scale.strip("`"), better, worse)) not in by_pair.index:
                assert cell == "-"
                continue
            r = by_pair.loc[key]
            assert cell == f"{r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}]" and r.seeds == 3, (scale, better, worse)


def test_no_difference_of_two_forms_of_testing(runs):
    """A network tested with mirror images against one without: no verdict. Alone each has its number."""
    for seed in range(3):
        write_run(runs, "cgpn", seed, 50 + seed, test={"ap": "step", "flip": "mean"})
    results = report.collect_results(runs)
    with pytest.raises(ReIDKitError, match="cgpn with step AP, flip mean and baseline with step AP"):
        report.paired_difference(results, "cgpn", "baseline", "mAP", level="strong")
    table = report.ordering(results, [("cgpn", "baseline"), ("mt-only", "baseline")], "mAP", level="strong")
    assert list(table.verdict) == ["tested differently", "appears"]
    assert "cgpn over baseline" in claims.explain(table) and not isnan(table.difference[1])


def test_what_a_row_costs_is_what_the_shipped_runs_took(repo):
    """Each line of the tables is a shipped network's CPU time; what was not measured says so. The README has some."""
    shipped = (repo / "results" / "sidewalk" / "checkpoints").glob("*-quick-*/result.json")
    taken = {r["variant"]: f"{r['provenance']['cpu_s']:.0f}" for r in (json.loads(f.read_text()) for f in shipped)}
    for page, wanted in (("docs/results.md", set(taken)), ("README.md", {"mpn", "cgpn"})):
        rows = re.findall(r"^\| .*\(`([\w-]+)`\) \| (\d+) s \| ([^|]+) \|$", (repo / page).read_text(), flags=re.M)
        assert {name: seconds for name, seconds, _ in rows} == {name: taken[name] for name in wanted}, page
        assert {gpu for _, _, gpu in rows} == {"not measured yet"}
