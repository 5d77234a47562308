"""Soft sharing (MPN Fig. 10): its implicit step against slow references, in the loop, and whose batch norm it is."""

from functools import partial

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from reidkit.errors import CheckpointError, ReIDKitError, TrainingError
from reidkit.losses import LossConfig
from reidkit.models import create_model
from reidkit.models.mpn import MPNConfig
from reidkit.models.parts import PartBatchNorm
from reidkit.models.released import export_released_mpn
from reidkit.priors import PriorBatch
from reidkit.training import RunFolder, load_run, recipe_for, train
from reidkit.training.recipes import PRESETS
from reidkit.training.steps import proximal_rate

LAYERS = ("conv1", "conv2")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_model(name="naive-mtl", **settings):
    torch.manual_seed(0)
    return create_model(name, num_classes=4, backbone="small", **{"part_dim": 8, "num_parts": 3} | settings)


def some_prior(batch=6, grid=(9, 4)):
    mask = torch.ones(batch, *grid, dtype=torch.bool)
    return PriorBatch(mask, torch.full((batch,), 0.1), torch.full((batch,), 0.9), torch.ones(batch, dtype=torch.bool))


def pair(model, layer):
    """(MTs' conv, ATs' conv) of a softly shared layer, wherever the second one lives."""
    aux = getattr(model, f"aux_{layer}")
    return getattr(model, layer).conv, getattr(model, layer).aux_conv if aux is None else aux.conv


# ---------------------------------------------------------------- the step
@pytest.mark.parametrize("step", [0.0, 1e-3, 0.4, 6.4, 1e6])
@pytest.mark.parametrize("layer", LAYERS)
def test_step_is_the_minimum_of_its_objective(layer, step):
    """Weights and biases against the 2x2 linear system of the vanishing gradients; nothing else moves."""
    model = tiny_model(soft_share=layer)
    torch.nn.init.normal_(pair(model, layer)[0].bias)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.proximal_step(step)
    system = torch.tensor([[1 + 2 * step, -2 * step], [-2 * step, 1 + 2 * step]], dtype=torch.float64)
    after = model.state_dict()
    for piece in ("weight", "bias"):
        names = f"{layer}.conv.{piece}", f"aux_{layer}.conv.{piece}"
        start = torch.stack([before[n].double().flatten() for n in names])
        slow = torch.linalg.solve(system, start).float()
        fast = torch.stack([after.pop(n).flatten() for n in names])
        torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in after.items())


def test_step_shrinks_the_difference_and_keeps_the_mean():
    model = tiny_model(soft_share="conv1")
    main, aux = (c.weight.detach() for c in pair(model, "conv1"))
    difference, mean = main - aux, (main + aux) / 2
    penalty = model.regularization()
    model.proximal_step(0.35)
    torch.testing.assert_close(main - aux, difference / 2.4)
    torch.testing.assert_close((main + aux) / 2, mean)
    torch.testing.assert_close(model.regularization(), penalty / 2.4**2)
    for huge in (1e30, float("inf")):
        model.proximal_step(huge)
        torch.testing.assert_close(main, aux, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(main, mean, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["naive-mtl", "psa", "mpn", "mt-only", "baseline"])
def test_nothing_moves_without_soft_sharing(name):
    model = tiny_model(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.proximal_step(3.0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("preset", ["paper", "quick", "long", "hero", "photo"])
@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0, 10.0, 1e8])
def test_steps_find_the_minimum_of_a_quadratic_loss(preset, weight):
    """|m - p|^2 / 2 + |a - q|^2 / 2 + weight |m - a|^2 has its minimum at mean (p + q) / 2 and difference
    (p - q) / (1 + 4 weight). The recipe's own SGD on the first two and implicit steps on the last go there, whatever
    its momentum and the rate of its heads."""
    recipe, model = recipe_for("soft-c2-10", preset), tiny_model(soft_share="conv2")
    main, aux = (c.weight for c in pair(model, "conv2"))
    p, q = random(*main.shape, seed=1), random(*main.shape, seed=2)
    settings = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    optimizer = torch.optim.SGD([main, aux], lr=recipe.lr * recipe.head_lr_factor, **settings)
    for _ in range(600):
        optimizer.zero_grad()
        ((main - p).square().sum() / 2 + (aux - q).square().sum() / 2).backward()
        optimizer.step()
        model.proximal_step(proximal_rate(recipe, recipe.lr) * weight)
    torch.testing.assert_close((main + aux) / 2, (p + q) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(main - aux, (p - q) / (1 + 4 * weight), atol=1e-5, rtol=1e-4)


def test_infinite_weight_is_hard_sharing_at_half_the_rate():
    """Both convs move by the mean of their gradients, a shared conv by the sum."""
    model, hard = tiny_model("naive-mtl", soft_share="conv1"), random(3, 8, 128, seed=3).requires_grad_()
    main, aux = (c.weight for c in pair(model, "conv1"))
    with torch.no_grad():
        main.copy_(hard)
        aux.copy_(hard)
    p, q = random(*hard.shape, seed=1), random(*hard.shape, seed=2)

    def task(m, a):
        return (m - p).square().sum() + 3 * (a - q).abs().sum()

    soft_sgd = torch.optim.SGD([main, aux], lr=0.02, momentum=0.9, nesterov=True)
    hard_sgd = torch.optim.SGD([hard], lr=0.01, momentum=0.9, nesterov=True)
    for _ in range(20):
        for optimizer, loss in ((soft_sgd, partial(task, main, aux)), (hard_sgd, partial(task, hard, hard))):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        model.proximal_step(float("inf"))
    for soft in (main, aux):
        torch.testing.assert_close(soft, hard, atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------- in the loop
def smoke(name, weight, **settings):
    return recipe_for(
        name, "smoke", {"precision": "no", "ide_init": False, "loss.soft_sharing_weight": weight, **settings}
    )


def quiet_train(name, dataset, recipe, path):
    train(name, dataset, recipe, path, device="cpu", progress=False)
    return load_file(RunFolder(path).weights)


def test_penalty_neither_clips_nor_moves_anything_else(sidewalk_tiny, tmp_path):
    """After one batch only the softly shared conv depends on the weight, although the gradient was clipped."""
    one = {"epochs": 1, "batches_per_epoch": 1, "clip_norm": 1e-2, "warmup_batches": 0}
    free, pulled = (
        quiet_train("soft-c1-10", sidewalk_tiny, smoke("soft-c1-10", w, **one), tmp_path / str(w)) for w in (0, 1000)
    )
    changed = {k for k in free if not torch.equal(free[k], pulled[k])}
    assert changed == {"conv1.conv.weight", "aux_conv1.conv.weight", "conv1.conv.bias", "aux_conv1.conv.bias"}
    recipe = smoke("soft-c1-10", 1000, **one)
    rate = recipe.lr * recipe.head_lr_factor / (1 - recipe.momentum)
    shrunk = (free["conv1.conv.weight"] - free["aux_conv1.conv.weight"]) / (1 + 4 * 1000 * rate)
    torch.testing.assert_close(
        pulled["conv1.conv.weight"] - pulled["aux_conv1.conv.weight"], shrunk, atol=1e-6, rtol=1e-3
    )


@pytest.mark.parametrize("name", ["soft-c1-10", "soft-c2-10"])
def test_weight_10_pulls_the_convs_together_step_by_step(sidewalk_tiny, tmp_path, name):
    small = {k: PRESETS["smoke"]["mpn"].__dict__[k] for k in ("size", "num_ids", "num_instances")}
    recipe = recipe_for(
        name,
        "quick",
        {"precision": "no", "ide_init": False, "batches_per_epoch": 1, "epochs": 10, "warmup_batches": 0, **small},
    )
    assert recipe.nesterov and recipe.head_lr_factor == 4 and recipe.lr == 0.04  # those that it diverged with
    weights = quiet_train(name, sidewalk_tiny, recipe, tmp_path / "r")
    rows = pd.read_csv(RunFolder(tmp_path / "r").metrics)  # one row a step
    distance = rows["soft_sharing"]
    near = distance < distance[0] / 500  # from here on the tasks' own gradients hold them that far apart
    assert near.iloc[-5:].all() and (distance.diff()[1:][~near] < 0).all(), list(distance)
    assert all(torch.isfinite(v).all() for v in weights.values())
    others = rows.drop(columns=["epoch", "lr", "loss", "seconds", "soft_sharing"]).sum(axis=1)
    assert rows["loss"].tolist() == pytest.approx(
        (others + 10 * distance).tolist(), rel=2.4e-7
    )  # still in the loss; two units of float32


def test_interrupted_run_ends_in_the_same_weights(sidewalk_tiny, tmp_path, monkeypatch):
    recipe = smoke("soft-c2-10", 10, epochs=3)
    whole = quiet_train("soft-c2-10", sidewalk_tiny, recipe, tmp_path / "whole")
    save = RunFolder.save_checkpoint

    def save_then_stop(run, state):
        save(run, state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(RunFolder, "save_checkpoint", save_then_stop)
        quiet_train("soft-c2-10", sidewalk_tiny, recipe, tmp_path / "broken")
    broken = quiet_train("soft-c2-10", sidewalk_tiny, recipe, tmp_path / "broken")
    assert all(torch.equal(v, broken[k]) for k, v in whole.items())


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), None, "ten"])
def test_weight_must_be_a_finite_number(weight):
    with pytest.raises(TrainingError, match="soft_sharing_weight"):
        LossConfig(soft_sharing_weight=weight)


# ---------------------------------------------------------------- whose batch norm?
def norms(model, layer):
    """(MTs', ATs') batch norm of a conv layer, found by running both tasks."""
    used, joined = [], PartBatchNorm.joined
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartBatchNorm, "joined", lambda norm, *given: used.append(norm) or joined(norm, *given))
        model.train().heads(random(6, 128, 9, 4).abs(), some_prior(), with_aux=True)
    assert len(used) == 4  # conv1, conv2 of the MTs, then of the ATs
    return used[LAYERS.index(layer)], used[2 + LAYERS.index(layer)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("kind", "share_bn", "one_conv", "one_norm"),
    [
        ("hard", None, True, True),
        ("hard", True, True, True),
        ("hard", False, True, False),
        ("soft", None, False, False),
        ("soft", True, False, True),
        ("soft", False, False, False),
    ],
)
def test_conv_and_batch_norm_are_shared_as_said(layer, kind, share_bn, one_conv, one_norm):
    sharing = {"share": (layer,)} if kind == "hard" else {"soft_share": layer}
    model = tiny_model(share_bn=share_bn, **sharing)
    main, aux = norms(model, layer)
    assert (main is aux) == one_norm
    other = norms(model, LAYERS[1 - LAYERS.index(layer)])
    assert other[0] is not other[1]  # the layer beside it stays apart
    model.zero_grad()
    model.heads(random(6, 128, 9, 4).abs(), some_prior(), with_aux=True).aux.logits.square().sum().backward()
    assert (getattr(model, layer).conv.weight.grad is not None) == one_conv  # the ATs alone reach the MTs' conv
    assert (main.weight.grad is not None) == one_norm
    assert aux.weight.grad is not None


def test_shared_statistics_mix_and_own_ones_do_not():
    means = {}
    for kind in (
        {"share": ("conv1",), "share_bn": False},
        {"soft_share": "conv1"},
        {"soft_share": "conv1", "share_bn": True},
        {"soft_share": "conv1", "share_bn": True, "separate_bn": True},
    ):
        for with_aux in (False, True):
            model = tiny_model(**kind).train()
            model.heads(random(6, 128, 9, 4).abs(), some_prior(), with_aux=with_aux)
            means[str(kind), with_aux] = model.conv1.norm.running_mean
        own = not kind.get("share_bn") or "separate_bn" in kind
        assert torch.equal(means[str(kind), False], means[str(kind), True]) == own, kind


@pytest.mark.parametrize(
    "settings", [{"soft_share": "conv1", "share_bn": True}, {"share": ("conv1",), "share_bn": False}]
)
def test_parameters_of_the_test_network_leave_auxiliary_pieces_out(settings):
    assert tiny_model(**settings).count_parameters() == tiny_model().count_parameters()
    whole = tiny_model(share=("conv1", "conv2", "attention"), channel_attention=True, share_bn=False)
    assert whole.count_parameters(True) == tiny_model("mpn").count_parameters(True)
    assert whole.attention.excite.aux_norm is not None  # every batch norm of a shared layer


def test_soft_sharing_with_one_batch_norm_has_the_same_penalty_and_step():
    model = tiny_model(soft_share="conv2", share_bn=True)
    main, aux = (c.weight.detach() for c in pair(model, "conv2"))
    difference = main - aux
    assert model.regularization().item() == pytest.approx(difference.square().sum().item(), rel=1e-5)  # biases are 0
    model.proximal_step(2.0)
    torch.testing.assert_close(main - aux, difference / 9)
    assert "aux_conv2.conv.weight" not in model.state_dict() and "conv2.aux_conv.weight" in model.state_dict()


@pytest.mark.parametrize(("name", "value"), [("soft-c1-10", "true"), ("psa-c1", "false"), ("mpn", "false")])
def test_choice_of_batch_norm_trains_from_the_command_lines_words(sidewalk_tiny, tmp_path, name, value):
    recipe = recipe_for(name, "smoke", {"precision": "no", "ide_init": False, "epochs": 1, "model.share_bn": value})
    weights = quiet_train(name, sidewalk_tiny, recipe, tmp_path / "r")
    again = load_run(tmp_path / "r")
    assert again.config.share_bn is (value == "true")
    piece = "conv1.aux_conv.weight" if value == "true" else "conv1.aux_norm.weight"
    assert torch.equal(weights[piece], again.state_dict()[piece])


def test_nonsense_about_batch_norms_is_refused():
    with pytest.raises(ReIDKitError, match="share_bn='ture'"):
        MPNConfig(share_bn="ture")
    for settings in ({"share": ()}, {"aux": False}, {"main": False}):
        with pytest.raises(ReIDKitError, match="share_bn=True needs"):
            MPNConfig(share_bn=True, **settings)
    model = create_model("mpn-no-ca-uniform", num_classes=3, share_bn=False)
    with pytest.raises(CheckpointError, match="released layout"):  # its auxiliary batch norms have no place there
        export_released_mpn(model)
