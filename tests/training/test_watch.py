"""Losses are read together, trouble is traced to its batch, and no broken weights reach a checkpoint."""

import json
import math

import pandas as pd
import pytest
import torch
from stepping import small_recipe

from reidkit.errors import TrainingError
from reidkit.training import RunFolder, train
from reidkit.training import loop as loop_module
from reidkit.training.watch import READ_EVERY, WARM_UP, Watch, pace

ROWS = torch.tensor([2, 0])
TABLE = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"]})


def watch(tmp_path, steps=1000, epochs=2, shown=False):
    return Watch(RunFolder(tmp_path), TABLE, small_recipe("ide", epochs=epochs), steps, finished=0, shown=shown)


def losses(value):
    return {"loss": torch.tensor(float(value)), "identity": torch.tensor(value / 2)}


def test_losses_are_read_once_in_fifty_batches(tmp_path, monkeypatch):
    reads, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(len(t)) or tolist(t))
    seen = watch(tmp_path)
    for i in range(2 * READ_EVERY + 30):
        seen.batch(losses(i), ROWS)
    means = seen.end_epoch()
    assert reads[:2] == [WARM_UP, READ_EVERY - WARM_UP]  # the pace is measured between these two
    assert reads[2:] == [READ_EVERY, 30]
    assert means == {"loss": pytest.approx(129 / 2), "identity": pytest.approx(129 / 4)}
    seen.batch(losses(7), ROWS)
    assert seen.end_epoch()["loss"] == 7  # an epoch's means are its own


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad", [0, 13, 72])
def test_the_batch_that_broke_is_named_and_listed(tmp_path, value, bad):
    seen = watch(tmp_path)
    for _ in range(5):
        seen.batch(losses(1), ROWS)
    seen.end_epoch()
    with pytest.raises(
        TrainingError, match=rf"loss became {value} in epoch 2, batch {bad + 1} \(terms: \['identity'\]\)"
    ):
        for i in range(bad + READ_EVERY):
            seen.batch(losses(value if i >= bad else 1), ROWS if i == bad else ROWS[:1])
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert (report["epoch"], report["batch"], report["rows"]) == (2, bad + 1, [2, 0])
    assert report["images"] == ["c.jpg", "a.jpg"] and report["terms"] == {"loss": str(value), "identity": str(value)}


def test_a_term_alone_is_noticed(tmp_path):
    """With a weight of zero a NaN does not show in the total of every device."""
    seen = watch(tmp_path)
    seen.batch({"loss": torch.tensor(1.0), "triplet": torch.tensor(math.nan)}, ROWS)
    with pytest.raises(TrainingError, match="triplet"):
        seen.end_epoch()


# ---------------------------------------------------------------- the loop
def checkpoint_is_finite(run):
    state = run.load_checkpoint()
    buffers = [b["momentum_buffer"] for b in state["optimizer"]["state"].values()]
    return all(t.isfinite().all() for t in [*state["model"].values(), *buffers])


def train_broken(dataset, path, monkeypatch, breaks):
    """Three epochs of three batches; `breaks(number, terms, gradients)` happens after each step."""
    real, count = loop_module.training_step, iter(range(1, 100))

    def step(batch, gradients, *more, **factor):
        terms = real(batch, gradients, *more, **factor)
        return breaks(next(count), terms, gradients) or terms

    monkeypatch.setattr(loop_module, "training_step", step)
    recipe = small_recipe("mt-only", epochs=3, batches_per_epoch=3)
    with pytest.raises(TrainingError) as error:
        train("mt-only", dataset, recipe, path, device="cpu", progress=False)
    return str(error.value), RunFolder(path)


def test_a_broken_loss_names_its_images_and_keeps_the_epoch_before(sidewalk_tiny, tmp_path, monkeypatch):
    batches = []

    def breaks(number, terms, gradients):
        return (
            {**terms, "loss": terms["loss"] * math.nan, "triplet": terms["triplet"] * math.nan} if number == 5 else None
        )

    yielded = loop_module.BatchLoader.__iter__
    monkeypatch.setattr(
        loop_module.BatchLoader, "__iter__", lambda self: (batches.append(b.index) or b for b in yielded(self))
    )
    said, run = train_broken(sidewalk_tiny, tmp_path / "r", monkeypatch, breaks)
    assert (
        "epoch 2, batch 2" in said and "['triplet']" in said and "nonfinite.json" in said and "epoch 1 is kept" in said
    )
    assert run.load_checkpoint()["epoch"] == 1 and checkpoint_is_finite(run)
    report = json.loads((run.path / "nonfinite.json").read_text())
    assert report["images"] == sidewalk_tiny.train.path.iloc[batches[4].tolist()].tolist()


@pytest.mark.parametrize("where", ["weight", "running_var"])
def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_saved(sidewalk_tiny, tmp_path, monkeypatch, where):
    def breaks(number, terms, gradients):
        if number == 6:
            tensor = next(t for name, t in gradients.model.state_dict().items() if where in name)
            tensor[0] = math.inf

    said, run = train_broken(sidewalk_tiny, tmp_path / "r", monkeypatch, breaks)
    assert "at the end of epoch 2" in said and where in said and "epoch 1 is kept" in said
    assert run.load_checkpoint()["epoch"] == 1 and checkpoint_is_finite(run)
    assert len(run.metrics.read_text().splitlines()) == 2


# ---------------------------------------------------------------- how long it takes
def test_the_pace_in_words():
    assert pace(40, 20.0, 18830, 48) == "96 images a second; 2.6 hours of training left (18,830 batches)"
    assert pace(40, 40.0, 90, 32) == "32 images a second; 2 minutes of training left (90 batches)"


@pytest.mark.parametrize(("shown", "batches", "lines"), [(True, 49, 0), (True, 220, 1), (False, 220, 0)])
def test_the_pace_is_said_once(tmp_path, capsys, shown, batches, lines):
    seen = watch(tmp_path, shown=shown)
    for _ in range(batches):
        seen.batch(losses(1), ROWS)
    seen.end_epoch()
    output = capsys.readouterr()
    assert output.err.count("images a second;") == lines and not output.out


def test_a_run_that_is_over_has_no_time_left(tmp_path, capsys):
    seen = watch(tmp_path, steps=READ_EVERY, epochs=1, shown=True)
    for _ in range(READ_EVERY):
        seen.batch(losses(1), ROWS)
    seen.end_epoch()
    assert "images a second;" not in capsys.readouterr().err
