"""What is typed counts once and as typed: sizes, seeds, roots of runs, and what stands beside --resume."""

import io
import sys
import warnings

import pytest
import torch
import typer
from market_runs import SMOKE, call

import reidkit
from reidkit import cli
from reidkit.cli.options import data_options, seeds_of
from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.training.settings import MAX_SEED

QUIET = ["--device", "cpu", "--no-progress"]


@pytest.fixture(scope="module")
def rendered_run(tmp_path_factory, sidewalk_tiny):
    """A run on the tiny rendering of these tests."""
    run = tmp_path_factory.mktemp("typed") / "r"
    order = ["train", "ide", "--size", "tiny", "--root", sidewalk_tiny.root.parent, *SMOKE, "--set", "precision=no"]
    result = call(*order, "--set", "epochs=1", "--set", "batches_per_epoch=1", "--run", run)
    assert result.exit_code == 0, result.exception
    return run, sidewalk_tiny.root.parent


def test_a_size_in_two_spellings_is_refused(tmp_path):
    for order in (
        ["train", "ide", *SMOKE],
        ["ablate", "cgpn-table1"],
        ["reproduce", "cgpn-table1", "--dry-run"],
        ["data", "check", "sidewalk"],
        ["priors", "build", "sidewalk"],
    ):
        said = call(*order, "--size", "tiny", "--data", "size=small", "--root", tmp_path).exception
        assert "given twice, as --size tiny and as --data size=small" in str(said), order
    assert data_options("sidewalk", "tiny", ["size=tiny"]) == {"size": "tiny"}  # the same is no contradiction
    assert not list(tmp_path.iterdir())


def test_a_misspelt_root_of_a_run_is_not_rendered_into(rendered_run, tmp_path):
    run, root = rendered_run
    away = tmp_path / "nowhere"
    message = r"--root .*nowhere does not hold the set: sidewalk-tiny is not rendered below .*--size tiny --out"
    for order in (
        ["evaluate", run, *QUIET],
        ["train", "--resume", run, *QUIET],
        ["compare", run, "mpn-sidewalk-small-quick-s0", "--size", "tiny", *QUIET],
        ["export", run, "--to", "torch-export", "--out", tmp_path / "net.pt2"],
    ):
        with pytest.raises(ReIDKitError, match=message):
            raise call(*order, "--root", away).exception
    named = call("evaluate", run, "--dataset", "sidewalk", "--size", "tiny", "--root", away, *QUIET).exception
    assert "nowhere: no such folder" in str(named)
    assert not away.exists()
    assert call("evaluate", run, "--root", root, *QUIET).exit_code == 0  # a root that holds it


def test_a_shipped_network_is_evaluated_by_name(rendered_run, tmp_path, repo):
    _, root = rendered_run
    shipped = repo / "results" / "sidewalk" / "checkpoints"
    before = sorted(shipped.rglob("*"))
    there = ["--dataset", "sidewalk", "--size", "tiny", "--root", root, "--save", tmp_path / "e.json"]
    result = call("evaluate", "mpn-sidewalk-small-quick-s0", *there, *QUIET)
    assert result.exit_code == 0, result.exception
    assert "mpn on sidewalk-tiny, trained on sidewalk-small" in result.output
    assert (tmp_path / "e.json").is_file() and sorted(shipped.rglob("*")) == before
    with pytest.raises(CheckpointError, match=r"neither a run folder .* nor the name of one shipped network"):
        raise call("evaluate", "mpm", *QUIET).exception


def test_the_default_of_a_loader_may_be_typed_beside_resume(rendered_run, tmp_path):
    run, _ = rendered_run
    again = call("train", "--resume", run, "--data", "seed=0", "--size", "tiny", *QUIET)
    assert again.exit_code == 0, again.exception
    assert f"{run}: ide on sidewalk-tiny" in again.output  # not: None
    wrong = str(call("train", "--resume", run, "--data", "seed=1", "--size", "small", *QUIET).exception)
    assert "--data seed=1 (the run has 0)" in wrong and "--size small (the run has tiny)" in wrong


def test_no_seed_past_the_largest_is_begun(tmp_path):
    for command in ("ablate", "reproduce"):
        order = [command, "cgpn-table1", "--first-seed", MAX_SEED, "--root", tmp_path, "--size", "tiny", "--seeds", 2]
        assert f"the last seed would be {MAX_SEED + 1}" in str(call(*order).exception)
    assert list(seeds_of(MAX_SEED - 1, 2)) == [MAX_SEED - 1, MAX_SEED] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "order",
    [
        ["compare", "runs.csv", "others.csv", "--save"],
        ["report", ".", "--save"],
        ["claims", "--save"],
        ["search", "mpn", "a.jpg", "--gallery", ".", "--no-attention", "--out"],
        ["attention", "mpn", "a.jpg", "--out"],
        ["export", "mpn-sidewalk-small-quick-s0", "--to", "torch-export", "--out"],
        ["evaluate", "mpn", "--save"],
        ["bench", "train", "--save"],
        ["data", "check", "sidewalk", "--size", "tiny", "--root", "new", "--out"],
        ["attention-scores", "mpn", "--size", "tiny", "--out"],
    ],
    ids=lambda order: order[0],
)
def test_a_place_for_the_result_is_tried_before_the_work(tmp_path, monkeypatch, sidewalk_tiny, order):
    """Nothing else that these commands name is there: the place is the first thing that is looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    place = (
        "taken" if order[0] == "data" else "taken/result" + {"export": ".pt2", "attention": ".png"}.get(order[0], "")
    )
    root = ["--root", sidewalk_tiny.root.parent] if order[0] == "attention-scores" else []
    error = call(*order, place, *root).exception
    assert isinstance(error, ReIDKitError) and "taken" in str(error), error
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    "encoding, text, written", [("utf-8", "caf\udce9", b"caf\\udce9\n"), ("latin-1", "50.0 → 51", b"50.0 \\u2192 51\n")]
)
def test_what_a_terminal_cannot_write_is_written_as_its_number(monkeypatch, encoding, text, written):
    """Names of files that are not UTF-8, and signs that the terminal lacks."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # `main` sets its own
    monkeypatch.setattr(cli, "app", lambda: typer.echo(text))
    monkeypatch.setattr(cli, "end_with_caller", lambda: None)
    cli.main()
    out.flush()
    assert out.buffer.getvalue() == written


def commands_of(command, name):
    """(name, command) of every command below one, groups left out."""
    below = getattr(command, "commands", {})
    return [pair for n, c in below.items() for pair in commands_of(c, f"{name} {n}")] or [(name, command)]


def test_the_home_folder_may_be_typed_behind_an_equals_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    for typed, meant in (
        ("--save=~/a.csv", "--save=/home/anna/a.csv"),
        ("~/runs", "/home/anna/runs"),
        ("~", "/home/anna"),
        ("--set=a=~/b", "--set=a=~/b"),
        ("a~b", "a~b"),
        ("~bert", "~bert"),
    ):
        assert cli.at_home(typed) == meant


def test_a_table_goes_to_the_home_folder(rendered_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    answer = call("report", rendered_run[0].parent, "--save=~/a.csv")
    assert answer.exit_code == 0, answer.exception
    assert (tmp_path / "a.csv").stat().st_size and not (tmp_path / "~").exists()


def test_threads_that_no_machine_has_are_refused():
    answer = call("train", "ide", "--dataset", "sidewalk", "--threads", 100000)
    assert answer.exit_code == 2 and "--threads" in answer.output and "1024" in answer.output


def test_the_version_is_said_without_a_command():
    answer = call("--version")
    assert answer.exit_code == 0, answer.output
    assert (
        answer.output.startswith(f"reidkit {reidkit.__version__} (") and f"torch {torch.__version__}" in answer.output
    )


def test_help_says_what_everything_typed_is_for():
    named = commands_of(typer.main.get_command(cli.app), "reidkit")
    assert len(named) > 15
    assert [(name, p.name) for name, command in named for p in command.params if not getattr(p, "help", "")] == []
