"""Several processes give the loss and the gradients of one, in a step and in a whole run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from together import one_step, together, whole_training

from reidkit.data import PKSampler
from reidkit.errors import TrainingError
from reidkit.training import RunFolder, recipe_for
from reidkit.training.preflight import check_batches
from reidkit.training.processes import ids_per_process, whole_batch, whole_batch_norm
from reidkit.training.runs import build_model

STEPS = [  # batch-hard on the embedding and class means; on h + g; on every feature, with the pairs of Eq. 3
    ("mpn-no-ca-uniform", {"part_dim": 8}, torch.float64),
    ("align-sample-triplet", {"part_dim": 8, "prior": "uniform"}, torch.float64),
    ("cgpn", {"reduced_dim": 8}, torch.float64),
    ("mpn-no-ca-uniform", {"part_dim": 8, "separate_bn": True}, torch.float32),
]


@pytest.mark.parametrize(("name", "settings", "dtype"), STEPS)
def test_a_step_of_two_processes_is_the_step_of_one(name, settings, dtype, tmp_path):
    (tmp_path / "one").mkdir()
    one_step(name, settings, dtype, str(tmp_path / "one"))
    wanted = torch.load(tmp_path / "one" / "0.pt")
    together(one_step, 2, tmp_path / "two", name, settings, dtype, str(tmp_path / "two"))
    close = {"rtol": 1e-8, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for rank in (0, 1):
        found = torch.load(tmp_path / "two" / f"{rank}.pt")
        assert found["labels"].tolist() == wanted["labels"].tolist() and found["terms"].keys() == wanted["terms"].keys()
        assert max(g.abs().max() for g in wanted["gradients"].values()) > 1e-3
        for key in ("loss", "terms", "buffers", "gradients"):
            torch.testing.assert_close(found[key], wanted[key], **close)


def test_one_process_is_left_as_it_is():
    out, labels = object(), torch.arange(3)
    assert whole_batch(out, labels) == (out, labels)
    norm, x = torch.nn.BatchNorm1d(3), torch.randn(4, 3)
    with whole_batch_norm():
        assert torch.equal(norm(x), torch.nn.BatchNorm1d(3)(x))


@pytest.mark.slow
def test_a_run_may_change_its_number_of_processes(sidewalk_tiny, tmp_path):
    """Two epochs in two processes, and one epoch in two and then one in one, against two epochs in one."""
    dataset = replace(sidewalk_tiny, levels={})
    plain = {"precision": "no", "ide_init": False, "flip": 0, "erasing": 0, "model.part_dim": 8}
    recipe = recipe_for("mpn", "smoke", {**plain, "epochs": 2, "batches_per_epoch": 1, "num_ids": 4, "lr": 0.01})
    folders = {name: tmp_path / name for name in ("one", "two", "changed")}
    whole_training("mpn", dataset, recipe, folders["one"])
    together(whole_training, 2, tmp_path / "a", "mpn", dataset, recipe, folders["two"])
    wanted = pd.read_csv(folders["one"] / "metrics.csv").drop(columns="seconds")
    found = pd.read_csv(folders["two"] / "metrics.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-4)

    together(stopped_after_one_epoch, 2, tmp_path / "b", "mpn", dataset, recipe, folders["changed"])
    assert RunFolder(folders["changed"]).load_checkpoint()["epoch"] == 1 and not RunFolder(folders["changed"]).finished
    whole_training("mpn", dataset, recipe, folders["changed"])
    ran = {name: RunFolder(folder).read_result()["provenance"] for name, folder in folders.items()}
    assert {name: (p["processes"], p["resumed_after_epoch"]) for name, p in ran.items()} == {
        "one": (1, 0),
        "two": (2, 0),
        "changed": (1, 1),
    }
    torch.manual_seed(0)  # of the run: its network as it began
    began = build_model(RunFolder(folders["one"]).read_settings()).state_dict()
    learned = {name: moved(began, load_file(folder / "model.safetensors")) for name, folder in folders.items()}
    for name in ("two", "changed"):  # in float32 a ReLU or a maximum may tip over: on the whole, not number by number
        assert (learned[name] - learned["one"]).norm() < 0.05 * learned["one"].norm()


def moved(before, after):
    """How far training moved the weights, as one vector."""
    keys = [k for k in before if k.endswith(("weight", "bias"))]
    return torch.cat([(after[k] - before[k]).flatten() for k in keys])


class Stopped(Exception):
    """What ends a run after its first epoch."""


def stopped_after_one_epoch(name, dataset, recipe, run):
    """`train`, ended in every process before its second epoch, when the checkpoint of the first is written."""

    def first_only(sampler, epoch):
        if epoch:
            raise Stopped

    PKSampler.set_epoch = first_only
    with pytest.raises(Stopped):
        whole_training(name, dataset, recipe, run)


@pytest.mark.parametrize("mode", ["cover", "independent"])
def test_the_shares_of_processes_are_one_batch(mode):
    pids = np.repeat(np.arange(13), [1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 5, 6])
    for world in (2, 3):
        whole = PKSampler(pids, 6, 4, mode=mode, seed=3)
        shares = [PKSampler(pids, 6 // world, 4, mode=mode, seed=3, rank=r, world_size=world) for r in range(world)]
        assert {len(s) for s in shares} == {len(whole)}
        for epoch in (0, 1):
            assert np.array_equal(np.hstack([s.epoch_batches(epoch) for s in shares]), whole.epoch_batches(epoch))


def test_a_batch_that_cannot_be_shared_is_refused_before_the_start(sidewalk_tiny):
    assert ids_per_process(6, 3) == 2
    recipe = recipe_for("mpn", "smoke", {"num_ids": 6})
    check_batches(sidewalk_tiny, recipe, world_size=2)
    with pytest.raises(TrainingError, match="6 identities a batch cannot be shared evenly by 4 processes: start 3"):
        check_batches(sidewalk_tiny, recipe, world_size=4)
