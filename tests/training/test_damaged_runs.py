"""Run folders that are damaged, foreign, or of an older kit."""

import json
import shutil

import pytest
from market_runs import SMOKE, call, start

from reidkit.data import load_dataset
from reidkit.errors import CheckpointError, ReIDKitError
from reidkit.training import RunFolder, load_run, recipe_for, train


@pytest.mark.parametrize("content", ["[]", "{", '{"variant": "ide"}', "null", '{"variant": 3}'])
def test_a_foreign_recipe_json_is_named(trained, tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    for act in (load_run, lambda p: RunFolder(p).recipe(), lambda p: RunFolder(p).read_settings()):
        with pytest.raises(CheckpointError, match=r"recipe\.json"):
            act(tmp_path)


def test_a_file_that_cannot_be_written_is_said_before_the_work(trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    begun = lambda *a, **k: pytest.fail("the work was begun")  # noqa: E731
    monkeypatch.setattr("reidkit.training.evaluate_run", begun)
    monkeypatch.setattr("reidkit.cli.results.run_bench", begun)
    for words in (["evaluate", trained[1]], ["bench", "cache"]):
        answer = call(*words, "--save", tmp_path / "file" / "x.json")
        assert answer.exit_code and "cannot write" in str(answer.exception)


@pytest.mark.parametrize(
    "words",
    [["ablate", "mpn-table1", "--only", "baseline", "--seeds", 1, "--runs", ""], ["train", "baseline", "--run", "r"]],
)
def test_a_folder_of_runs_that_cannot_be_written_is_one_line(trained, tmp_path, words):
    (tmp_path / "file").write_text("in the way")
    where = ["--dataset", "market-layout", "--root", trained[0], *SMOKE, "--set", "precision=no"]
    answer = call(*words[:-1], tmp_path / "file" / words[-1], *where)
    assert isinstance(answer.exception, ReIDKitError) and "cannot write" in str(answer.exception), answer.exception
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_cut_off_result_is_named(trained, tmp_path):
    root, run = trained
    for name in ("recipe.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "result.json").write_bytes((run / "result.json").read_bytes()[:80])
    with pytest.raises(CheckpointError, match=r"result\.json cannot be read"):
        train(
            "ide",
            load_dataset("market-layout", root=root),
            recipe_for("ide", "smoke", {"precision": "no"}),
            tmp_path,
            preset="smoke",
            device="cpu",
        )


@pytest.mark.parametrize("moment", ["save_checkpoint", "save_weights"])
def test_a_run_folder_that_is_deleted_while_it_is_trained_ends_the_training(tmp_path, monkeypatch, moment):
    whole, there = RunFolder.save_checkpoint, tmp_path / "r"

    def then_deleted(run, state):
        whole(run, state)
        if state["epoch"] == (1 if moment == "save_checkpoint" else 2):  # with the last one there is no epoch after it
            shutil.rmtree(run.path)

    monkeypatch.setattr(RunFolder, "save_checkpoint", then_deleted)
    _, answer = start(tmp_path, "a", "r", "--set", "epochs=2")
    assert answer.exit_code and f"{there / 'recipe.json'} is gone" in str(answer.exception)
    assert not there.exists()


def test_a_run_of_an_older_kit_asks_for_its_data(trained, tmp_path):
    root, run = trained
    old = json.loads((run / "recipe.json").read_text())
    for key in ("source", "changes", "resolved", "fingerprint", "root", "precision"):
        del old[key]
    del old["recipe"]["camera_rule"]
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    result = call("evaluate", tmp_path, "--root", root)
    assert "name it with --dataset and --root" in str(result.exception)
    assert call("evaluate", tmp_path, "--dataset", "market-layout", "--root", root, "--no-progress").exit_code == 0
