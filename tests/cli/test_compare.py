"""`reidkit compare` on runs, variants and tables; `reidkit report` with runs that cannot be read."""

import json
import re
import shutil

import pandas as pd
import pytest
from market_runs import call
from seeded_runs import train_runs

from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.reporting.report import collect_results

SHIPPED = ("mpn-sidewalk-small-quick-s0", "baseline-sidewalk-medium-hero-s0")


@pytest.fixture(scope="module")
def runs(sidewalk_tiny, tmp_path_factory):
    return train_runs(sidewalk_tiny, tmp_path_factory.mktemp("runs"), ("mpn-s0", "baseline-s0", "mpn-s1"))


def lines_of(result):
    assert result.exit_code == 0, (result.output, result.exception)
    assert max(map(len, result.output.splitlines())) <= 120
    return result.output.splitlines()


def refused(match, *arguments, error=ReIDKitError):
    result = call(*arguments)
    assert result.exit_code != 0
    with pytest.raises(error, match=match):
        raise result.exception


def test_two_runs(runs, data_root, tmp_path):
    names = ["compare", runs / "mpn-s0", runs / "baseline-s0", "--root", data_root, "--device", "cpu", "--no-progress"]
    lines = lines_of(call(*names, "--levels", "mild", "--top", 3, "--save", tmp_path / "q.csv"))
    assert lines[0].startswith("A  mpn-s0 (mpn ") and lines[1].startswith("B  baseline-s0 (baseline ")
    level = next(line for line in lines if line.startswith("mild "))
    assert re.fullmatch(
        r"mild( +[\d.]+){2} +[+-][\d.]+ +\[[+-][\d.]+, [+-][\d.]+\] +43 +12  (\w better|undecided)", level
    )
    saved = pd.read_csv(tmp_path / "q.csv")
    assert len(saved) == 43 and set(saved.level) == {"mild"}
    assert saved.commit.notna().all() and saved.device.str.startswith("cpu").all() and saved.about.notna().all()
    a, b, change = map(float, level.split()[1:4])
    assert (a, b) == (round(100 * saved.ap_a.mean(), 1), round(100 * saved.ap_b.mean(), 1))
    assert change == pytest.approx(100 * saved.difference.mean(), abs=0.06)
    largest = saved.loc[saved.difference.abs().sort_values(ascending=False, kind="stable").index[:3]]
    assert [line.split()[0] for line in lines[-3:]] == list(largest.file)
    assert [float(line.split()[3]) for line in lines[-3:]] == pytest.approx(list(largest.difference), abs=6e-4)


def test_two_variants_and_two_tables(runs, tmp_path):
    results = collect_results(runs).replace({"system": r" .*"}, {"system": ""}, regex=True)
    results.to_csv(tmp_path / "all.csv", index=False)
    lines = lines_of(call("compare", "mpn", "baseline", "--runs", tmp_path / "all.csv", "--save", tmp_path / "v.csv"))
    assert lines[0] == f"runs: {tmp_path / 'all.csv'}" and "one seed" in lines[-1]
    saved = pd.read_csv(tmp_path / "v.csv")
    value = results[(results.metric == "mAP") & (results.seed == 0) & (results["system"] == "mpn")].value.item()
    assert saved.a.item() == pytest.approx(100 * value) and saved.name_a.item() == "mpn"
    twice = shutil.copytree(runs, tmp_path / "again")
    lines = lines_of(call("compare", runs, twice))
    assert "note: every number of A is the same in B" in lines
    refused("the same runs", "compare", runs, runs / ".." / runs.name)
    assert "shipped runs: results/sidewalk/runs.csv" in lines_of(call("compare", "mpn", "baseline"))


def test_what_has_no_use_or_no_sense(runs, data_root):
    refused("no use for --levels, --top; .* two runs", "compare", "mpn", "baseline", "--top", 3, "--levels", "mild")
    refused("no use for --runs; .* two variants", "compare", *SHIPPED, "--runs", "x.csv")
    refused("mpn is a variant, .* is a folder or CSV of runs", "compare", "mpn", runs)
    refused("Did you mean 'mpn'", "compare", "mpnn", "baseline", error=UnknownNameError)
    refused("was trained on sidewalk-small, baseline-.* on sidewalk-medium: name one .*--dataset", "compare", *SHIPPED)
    refused("same run", "compare", runs / "mpn-s0", runs / "mpn-s0", "--root", data_root)
    refused("no file|does not|cannot|no finished run", "compare", runs / "none.csv", runs)


def test_a_variant_beside_a_run_is_its_shipped_network(runs, data_root):
    """A run of smoke on tiny against a network that was trained on small: told, and tested on one set."""
    alone = ["compare", runs / "baseline-s0", "mt-only", "--root", data_root]
    refused("baseline-s0 was trained on sidewalk-tiny, mt-only-.* on sidewalk-small", *alone)
    lines = lines_of(call(*alone, "--size", "tiny", "--levels", "mild", "--top", 0, "--device", "cpu", "--no-progress"))
    assert lines[1].startswith("B  mt-only-sidewalk-small-quick-s0 (mt-only, preset quick, seed 0)")
    notes = " ".join(lines)
    assert "B was trained on sidewalk-small, both are tested on sidewalk-tiny" in notes
    assert "A is of preset smoke, B of preset quick" in notes


# ---- report ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(runs, tmp_path):
    """The runs, and beside them a damaged one, one of other numbers, an unfinished one, and one that is there twice."""
    folder = shutil.copytree(runs, tmp_path / "runs")
    for name in ("damaged", "impossible", "unfinished", "twice-a", "twice-b"):
        shutil.copytree(runs / "mpn-s1", folder / name)
        result = json.loads((folder / name / "result.json").read_text())
        result["seed"] = 7 if name.startswith("twice") else 5
        if name == "impossible":
            next(iter(result["metrics"].values()))["rank20"] = 3
        (folder / name / "result.json").write_text(json.dumps(result))
    (folder / "damaged" / "result.json").write_text('{"variant": "mpn"')
    (folder / "unfinished" / "result.json").unlink()
    return folder


def test_report_goes_on_without_a_run_that_it_cannot_read(mixed, runs, tmp_path):
    lines = lines_of(call("report", mixed, "--paper", "--save", tmp_path / "all.csv"))
    whole = lines_of(call("report", runs, "--paper"))
    at = lines.index("left out: 5 runs")
    assert lines[: at - 1] == whole  # all that can be read, as if the others were not there
    told = " ".join(line.strip() for line in lines[at:])
    assert "damaged: " in told and "cannot be read as JSON" in told
    assert "impossible: " in told and "no fraction" in told
    assert f"unfinished: not finished; go on: reidkit train --resume {mixed / 'unfinished'}" in told
    assert told.count("several runs of") == 2 and "twice-a, twice-b. Keep one of them" in told
    assert set(pd.read_csv(tmp_path / "all.csv").run) == {"mpn-s0", "baseline-s0", "mpn-s1"}


def test_report_of_nothing_that_can_be_read_is_an_error(mixed, tmp_path):
    for name in ("mpn-s0", "baseline-s0", "mpn-s1"):
        shutil.rmtree(mixed / name)
    refused(r"holds no run that can be read:(\n|.)*damaged: (\n|.)*unfinished: not finished", "report", mixed)
    refused("no run that can be read .*reidkit train", "report", tmp_path / "nothing")


def test_report_of_the_shipped_runs_fits(repo):
    for place in ("runs.csv", "checkpoints"):
        lines = lines_of(call("report", repo / "results" / "sidewalk" / place, "--paper"))
        assert "mpn-table1" in lines and not any(line.startswith("left out") for line in lines)
        assert any(line.startswith("ours: sidewalk-small, preset quick, step AP") for line in lines)
