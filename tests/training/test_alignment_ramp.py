"""A weight of the alignment that grows during the training: by hand, in a whole run, resumed and compiled."""

import json

import pytest
import torch
from market_runs import call
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounterWithBackend

from reidkit.training import RunFolder, recipe_for, train
from reidkit.training.recipes import Recipe
from reidkit.training.steps import alignment_factors

CPU = torch.device("cpu")


def recipe(**settings):
    plain = {"precision": "no", "ide_init": False, "loss.alignment_weight": 50.0}
    return recipe_for("mpn-no-ca", "smoke", {**plain, **settings})


def weights(run):
    return load_file(RunFolder(run).weights)


def test_the_factor_by_hand():
    """4 epochs of 5 batches; the first half are 10 batches, of which each adds a tenth."""
    r = Recipe(epochs=4, alignment_ramp=0.5)
    assert [r.alignment_factor(step, 5) for step in range(20)] == pytest.approx(
        [i / 10 for i in range(1, 11)] + [1] * 10
    )
    whole = Recipe(epochs=4, alignment_ramp=1.0)
    assert [whole.alignment_factor(step, 5) for step in (0, 9, 19)] == pytest.approx([1 / 20, 1 / 2, 1])
    assert [Recipe(epochs=4).alignment_factor(step, 5) for step in (0, 19)] == [1, 1]
    assert Recipe(epochs=1, alignment_ramp=0.01).alignment_factor(0, 5) == 1, "a ramp shorter than a batch"


def test_the_factors_of_an_epoch():
    """A tensor where they change, so that a step never waits for the host; numbers where they do not."""
    r = Recipe(epochs=4, alignment_ramp=0.5)
    assert torch.allclose(alignment_factors(r, 1, 5, CPU), torch.tensor([0.6, 0.7, 0.8, 0.9, 1.0]))
    assert alignment_factors(Recipe(), 1, 5, CPU) == [1.0] * 5


def test_the_ramp_reaches_the_weights(sidewalk_tiny, tmp_path):
    """With the ramp the first batch has a smaller weight; a ramp shorter than a batch is none."""
    for name, ramp in (("none", 0.0), ("short", 0.01), ("half", 0.5)):
        run = {"device": "cpu", "progress": False}
        train("mpn-no-ca", sidewalk_tiny, recipe(epochs=1, alignment_ramp=ramp), tmp_path / name, **run)
    none, short, half = (weights(tmp_path / name) for name in ("none", "short", "half"))
    assert all(torch.equal(none[k], short[k]) for k in none)
    assert not all(torch.equal(none[k], half[k]) for k in none)


class Killed(BaseException):
    """Like a signal: nothing in the kit catches it."""


def test_a_resumed_run_goes_on_with_the_ramp(sidewalk_tiny, tmp_path, monkeypatch):
    """Interrupted in the middle of it, the weights end bit for bit as those of an unbroken run."""
    how = {"seed": 3, "device": "cpu", "progress": False}
    r = recipe(epochs=4, alignment_ramp=0.75)
    train("mpn-no-ca", sidewalk_tiny, r, tmp_path / "whole", **how)
    save = RunFolder.save_checkpoint

    def save_and_die(self, state):
        save(self, state)
        if state["epoch"] == 2:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "save_checkpoint", save_and_die)
        train("mpn-no-ca", sidewalk_tiny, r, tmp_path / "broken", **how)
    assert train("mpn-no-ca", sidewalk_tiny, r, tmp_path / "broken", **how)["provenance"]["resumed_after_epoch"] == 2
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[k], broken[k]) for k in whole)


def test_a_compiled_step_is_captured_once(sidewalk_tiny, tmp_path, monkeypatch):
    """The factor is an input of the captured step, not a constant: as many graphs for six batches as for three."""
    original, graphs = torch.compile, {}

    def run(name, epochs, on):
        torch._dynamo.reset()  # what an earlier run in this process left
        counter = CompileCounterWithBackend("aot_eager")
        monkeypatch.setattr(torch, "compile", lambda net: original(net, backend=counter))
        r, how = (
            recipe(epochs=epochs, alignment_ramp=1.0, lr=1e-3),
            {"device": "cpu", "progress": False, "compile_net": on},
        )
        result = train("mpn-no-ca", sidewalk_tiny, r, tmp_path / name, **how)
        assert result["provenance"]["compiled"] is on
        graphs[name] = counter.frame_count

    for name, epochs, on in (("plain", 2, False), ("compiled", 2, True), ("short", 1, True)):
        run(name, epochs, on)
    assert graphs["compiled"] == graphs["short"] > graphs["plain"] == 0


def test_it_is_typed_as_any_setting(sidewalk_tiny, tmp_path):
    arguments = ["--root", sidewalk_tiny.root.parent, "--size", "tiny", "--preset", "smoke", "--device", "cpu"]
    sets = [w for s in ("ide_init=false", "epochs=1", "batches_per_epoch=1") for w in ("--set", s)]
    run = ["--no-progress", "--run", tmp_path / "r"]
    result = call("train", "mpn-no-ca", *arguments, *sets, "--set", "alignment_ramp=0.5", *run)
    assert result.exit_code == 0, result.exception
    assert json.loads((tmp_path / "r" / "recipe.json").read_text())["recipe"]["alignment_ramp"] == 0.5
    for wrong in ("1.5", "-0.1", "half"):
        result = call("train", "mpn-no-ca", *arguments, "--set", f"alignment_ramp={wrong}", *run)
        assert "alignment_ramp" in str(result.exception) and "a number" in str(result.exception)
