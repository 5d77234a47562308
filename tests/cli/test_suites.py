"""Ablation suites and the command line, as a user types it."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

from reidkit.cli import app, parse_settings
from reidkit.errors import ReIDKitError
from reidkit.models.zoo import VARIANTS
from reidkit.reporting import report
from reidkit.training import SUITES, RunFolder, recipe_for, run_name, run_suite, suite
from reidkit.training.suites import ON_SIDEWALK, Entry, log_file, systems_of

SMOKE = {"ide_init": False, "epochs": 1, "batches_per_epoch": 1, "precision": "no"}


def test_every_suite_row_is_a_variant_with_valid_settings():
    for rows in SUITES.values():
        for row in rows:
            assert row.variant in VARIANTS
            recipe_for(row.variant, "paper", row.settings)
    with pytest.raises(ReIDKitError, match="mpn-table1"):
        suite("mpn-table")


def test_a_suite_may_be_cut_to_some_of_its_rows(data_root):
    assert [row.system for row in suite("mpn-table1", ["mpn", "baseline"])] == ["baseline", "mpn"]
    assert [row.system for row in suite("mpn-fig7", ["mpn"])][:2] == ["mpn model.num_parts=1", "mpn model.num_parts=2"]
    wrong = ["ablate", "mpn-table1", "--only", "baseline,pcb", "--root", str(data_root), "--size", "tiny"]
    result = CliRunner().invoke(app, wrong)
    assert result.exit_code and "row of mpn-table1 'pcb'" in str(result.exception) + result.output


def test_suites_cover_every_paper_row():
    covered = {r.variant for rows in SUITES.values() for r in rows}
    rows = {name for name, v in VARIANTS.items() if v.row.startswith(("MPN Table", "MPN Fig", "CGPN Table"))}
    assert rows <= covered


def test_suite_trains_skips_what_is_done_and_reports_failures(sidewalk_tiny, data_root, tmp_path):
    rows = (Entry("mt-only"), Entry("naive-mtl", {"num_ids": 999}))
    arguments = ["--dataset", "sidewalk", "--root", str(data_root), "--size", "tiny", "--device", "cpu"]
    kwargs = dict(seeds=[0], preset="smoke", settings=SMOKE, jobs=2, progress=False)
    report = run_suite(rows, sidewalk_tiny, arguments, tmp_path, **kwargs)
    assert [p.name.split("-s")[0] for p in report.finished] and len(report.failed) == 1
    ((failed, why),) = report.failed.items()
    assert "naive-mtl" in failed.name and "999" in why
    done = RunFolder(report.finished[0])
    os.utime(done.result, ns=(1, 1))
    again = run_suite(rows[:1], sidewalk_tiny, arguments, tmp_path, **kwargs)
    assert not again.failed and done.result.stat().st_mtime_ns == 1


def test_every_run_of_a_suite_has_a_log_of_its_own(sidewalk_tiny, tmp_path):
    for rows in SUITES.values():  # names such as soft-c1-0.01-... and soft-c1-0.1-... hold dots
        paths = [tmp_path / run_name(r.variant, sidewalk_tiny, "quick", s, r.settings) for r in rows for s in range(3)]
        assert len({log_file(p) for p in paths}) == len(paths)


def test_suite_trains_the_shared_ide_first(sidewalk_tiny, data_root, tmp_path):
    arguments = ["--dataset", "sidewalk", "--root", str(data_root), "--size", "tiny", "--device", "cpu"]
    report = run_suite(
        (Entry("mt-only"),),
        sidewalk_tiny,
        arguments,
        tmp_path,
        seeds=[3],
        preset="smoke",
        settings=SMOKE | {"ide_init": True},
        jobs=1,
        progress=False,
    )
    assert not report.failed, report.failed
    assert RunFolder(tmp_path / run_name("ide", sidewalk_tiny, "smoke", 3, {"precision": "no"})).finished


def test_command_line_trains_evaluates_and_reports(data_root, sidewalk_tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = CliRunner().invoke
    sets = [a for k, v in SMOKE.items() for a in ("--set", f"{k}={json.dumps(v)}")]
    shared = ["--root", str(data_root), "--device", "cpu", "--no-progress"]
    r = call(app, ["train", "mt-only", "--size", "tiny", "--preset", "smoke", "--run", "runs/a", *shared, *sets])
    assert r.exit_code == 0, r.output
    assert "Rank-1" in r.output
    r = call(app, ["evaluate", "runs/a", "--rerank", "--flip", "--save", "e.json", *shared])
    assert r.exit_code == 0, r.output
    saved = json.loads((tmp_path / "e.json").read_text())
    assert saved["rerank"] is True and saved["flip"] == "mean" and saved["provenance"]["commit"]
    r = call(app, ["report", "runs", "--save", "all.csv"])
    assert r.exit_code == 0, r.output
    assert "mt-only" in r.output and (tmp_path / "all.csv").read_text().count("\n") >= 2


def test_settings_without_equals():
    with pytest.raises(ReIDKitError, match="key=value"):
        parse_settings(["lr"])


def test_two_suites_at_once_share_their_rows(sidewalk_tiny, data_root, tmp_path):
    """One of them trains a row, the other waits and takes it as it is; each row is trained once."""
    arguments = ["--dataset", "sidewalk", "--root", str(data_root), "--size", "tiny", "--device", "cpu"]
    kwargs = dict(seeds=[0], preset="smoke", settings=SMOKE, jobs=1, progress=False)
    rows = (Entry("mt-only"),)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: run_suite(rows, sidewalk_tiny, arguments, tmp_path, **kwargs), range(2)))
    assert [len(r.finished) for r in reports] == [1, 1] and not any(r.failed for r in reports)
    assert [p.name for p in tmp_path.iterdir()] == [reports[0].finished[0].name]


def test_every_row_of_a_table_is_tested_as_its_paper_tests():
    """Else a difference of two rows is none: MPN without mirror images, CGPN with their mean (its Sec. 4.2)."""
    for name, rows in SUITES.items():
        flips = {
            recipe_for(row.variant, preset, row.settings).test_flip for row in rows for preset in ("quick", "paper")
        }
        assert flips == {"mean" if name.startswith("cgpn") else "none"}, name


def test_rows_of_a_suite_are_the_papers_rows_that_the_kit_builds():
    for name in ("mpn-table5", "mpn-table6", "mpn-table7", "mpn-table8", "cgpn-table1", "cgpn-table2"):
        printed = set(report.paper_table(name).variant) - {""}
        assert printed <= {row.variant for row in SUITES[name]} and systems_of(name).keys() >= printed
    assert systems_of("cgpn-table1")["ide"] == "ide test_flip=mean" and systems_of("mpn-fig7") == {}
    assert set(ON_SIDEWALK) <= set(SUITES)
