"""Scores of many runs: a table that resumes, and the command that adds rows to it."""

import json

import pandas as pd
import pytest
from attention_networks import write_run
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from reidkit.attention.scores import score_runs
from reidkit.cli import app
from reidkit.errors import CheckpointError


def test_score_runs_is_a_table_and_resumes(sidewalk_tiny, tmp_path):
    runs = [write_run(tmp_path, "mpn-no-ca", 0), write_run(tmp_path, "baseline-ub", 1)]
    out = tmp_path / "scores.csv"
    settings = {"images": 5, "checks": False, "out": out, "progress": False}
    first = score_runs(runs[:1], sidewalk_tiny, **settings)
    assert first.variant.tolist() == ["mpn-no-ca"] and first.level.tolist() == ["strong"]
    (runs[0] / "recipe.json").unlink()  # scored already: not opened again
    table = score_runs(runs, sidewalk_tiny, **settings)
    assert table.variant.tolist() == ["mpn-no-ca", "baseline-ub"] and table.seed.tolist() == [0, 1]
    assert table.own_energy[0] == pytest.approx(first.own_energy[0])
    written = pd.read_csv(out, dtype={"commit": str, "trained": str})  # seven digits, too, are a commit
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    assert table.commit.notna().all() and (table.device.str.startswith("cpu")).all()
    with pytest.raises(CheckpointError):  # other settings: it must be opened
        score_runs(runs, sidewalk_tiny, **settings | {"method": "layercam"})


def test_another_network_of_the_name_and_other_images_are_scored_anew(sidewalk_tiny, tmp_path):
    """A folder trained again or a copy elsewhere has the same name; another seed draws other queries."""
    run, out = write_run(tmp_path / "a", "mpn-no-ca", 0), tmp_path / "scores.csv"
    settings = {"images": 5, "checks": False, "progress": False}
    first = score_runs([run], sidewalk_tiny, **settings, out=out)
    state = load_file(run / "model.safetensors")
    save_file({name: -x if x.ndim == 4 else x for name, x in state.items()}, run / "model.safetensors")
    changed = [run], sidewalk_tiny
    for more in ({}, {"seed": 1}):
        expected = score_runs(*changed, **settings, **more)
        found = score_runs(*changed, **settings, **more, out=out)
        assert found.drop(columns="command").equals(expected.drop(columns="command"))
        assert found.own_energy[0] != first.own_energy[0]
    kept = pd.read_csv(out)
    assert kept.weights.nunique() == 2 and kept.draw.tolist() == [0, 0, 1]
    assert kept.own_energy.tolist() == pytest.approx([first.own_energy[0], *kept.own_energy[1:]]) and len(kept) == 3


def test_a_table_of_an_older_kit_is_gone_on_with(sidewalk_tiny, tmp_path):
    run, out = write_run(tmp_path, "mpn-no-ca", 0), tmp_path / "scores.csv"
    settings = {"images": 4, "checks": False, "out": out, "progress": False}
    score_runs([run], sidewalk_tiny, **settings).drop(columns=["weights", "draw"]).to_csv(out, index=False)
    for _ in range(2):
        assert len(score_runs([run], sidewalk_tiny, **settings)) == 1
    assert pd.read_csv(out).weights.isna().tolist() == [True, False]  # whose the first one is, nobody knows


def test_commits_that_look_like_numbers_stay_commits(sidewalk_tiny, tmp_path):
    runs = [write_run(tmp_path, name, 0) for name in ("mpn-no-ca", "mt-only")]
    for run in runs:
        result = json.loads((run / "result.json").read_text())  # the commit would be read as a number: inf
        (run / "result.json").write_text(json.dumps({**result, "provenance": {"commit": "93e4831"}}))
    settings = {"images": 4, "checks": False, "out": tmp_path / "scores.csv", "progress": False}
    score_runs(runs[:1], sidewalk_tiny, **settings)
    assert score_runs(runs, sidewalk_tiny, **settings).trained.tolist() == ["93e4831", "93e4831"]
    assert (tmp_path / "scores.csv").read_text().count(",93e4831,") == 2


def test_the_command_adds_rows_to_a_table(sidewalk_tiny, data_root, tmp_path):
    runs = [str(write_run(tmp_path, name, 0)) for name in ("mpn-no-ca", "mt-only")]
    fixed = [
        "--root",
        str(data_root),
        "--size",
        "tiny",
        "--no-checks",
        "--no-progress",
        "--out",
        str(tmp_path / "scores.csv"),
    ]
    for some, images in ((runs[:1], "4"), (runs[:1], "8"), (runs, "4")):
        answer = CliRunner().invoke(app, ["attention-scores", *some, "--images", images, *fixed])
        assert answer.exit_code == 0, answer.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table.variant.tolist() == ["mpn-no-ca", "mpn-no-ca", "mt-only"] and table.images.tolist() == [4, 8, 4]
    assert "mt-only" in answer.output and "2 runs" in answer.output
    said = next(line.split() for line in answer.output.splitlines() if line.startswith("mpn-no-ca"))
    assert float(said[1]) == round(table.own_energy[0], 3)  # of these images, not a mean over all rows of the file


def test_the_command_tells_of_a_run_of_another_set(sidewalk_tiny, data_root, tmp_path):
    """A hero, scored without --size medium, would be asked about other pictures than its own without a word."""
    run = write_run(tmp_path, "mt-only", 0)
    out = ["--no-checks", "--no-progress", "--out", str(tmp_path / "scores.csv")]
    order = ["attention-scores", str(run), "--root", str(data_root), "--size", "tiny", "--images", "4", *out]
    settings = json.loads((run / "recipe.json").read_text())
    for named, told in (("sidewalk-tiny", False), ("sidewalk-medium", True)):
        (run / "recipe.json").write_text(json.dumps({**settings, "dataset": named}))
        answer = CliRunner().invoke(app, order)
        assert answer.exit_code == 0, answer.output
        assert ("was trained on sidewalk-medium and is scored on sidewalk-tiny" in answer.output) == told


def test_a_folder_that_is_no_run_is_refused_before_anything_is_rendered(tmp_path):
    new = tmp_path / "new"
    order = ["attention-scores", str(tmp_path / "rnus"), "--root", str(new), "--out", str(tmp_path / "scores.csv")]
    assert isinstance(CliRunner().invoke(app, order).exception, CheckpointError) and not new.exists()
