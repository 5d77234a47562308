"""The loop's own decisions: what it refuses, when it tests, and what it takes up again."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from market_folder import make_market_folder
from market_runs import FAST
from stepping import small_batch, small_recipe, small_step

from reidkit.data import load_dataset
from reidkit.errors import CheckpointError, TrainingError
from reidkit.evaluation.forms import RELEASED, TestForm
from reidkit.models import create_model
from reidkit.training import RunFolder, loop, recipe_for, train
from reidkit.training.device import make_accelerator
from reidkit.training.settings import MAX_SEED
from reidkit.training.steps import augmentation, make_optimizer, resume, split_parameters, state_of


@pytest.mark.parametrize("value", [-1, MAX_SEED + 1, 1.0, True, "1", None])
def test_numbers_that_no_run_has_are_named(value):
    loop.check_arguments(seed=0, workers=MAX_SEED)
    with pytest.raises(TrainingError, match=f"workers={value!r}: expected a whole number from 0 to {MAX_SEED}"):
        loop.check_arguments(seed=0, workers=value)


@pytest.mark.parametrize("camera_rule", [True, False])
def test_only_runs_of_the_paper_are_tested_as_the_released_code_does(camera_rule):
    recipe, asked = replace(recipe_for("ide", "smoke"), camera_rule=camera_rule, test_flip="mean"), []
    ours = TestForm(flip="mean", camera_rule=camera_rule)
    released = replace(RELEASED, camera_rule=camera_rule)
    several = replace(released, multi_query=True)
    for preset, views, forms in (
        ("smoke", True, {"": ours}),
        ("paper", False, {"": ours, "released": released}),
        ("paper", True, {"": ours, "released": released, "multi-query": several}),
    ):
        result = loop.tested(lambda form: asked.append(form) or {"mild": len(asked)}, recipe, preset, multi_query=views)
        tests = {"": {key: result.pop(key) for key in ("metrics", "test")}, **result}
        assert {name: test["test"] for name, test in tests.items()} == {n: f.as_dict() for n, f in forms.items()}
        assert asked[-len(forms) :] == list(forms.values())
        assert [test["metrics"]["mild"] for test in tests.values()] == [
            *range(len(asked) - len(forms) + 1, len(asked) + 1)
        ]


def test_tests_between_epochs_come_every_so_many(tmp_path):
    dataset = load_dataset("market-layout", make_market_folder(tmp_path / "a"))
    recipe = recipe_for("ide", "smoke", {**FAST, "epochs": 4})
    train("ide", dataset, recipe, tmp_path / "r", device="cpu", evaluate_every=2, progress=False)
    rows = pd.read_csv(RunFolder(tmp_path / "r").metrics)
    assert rows.mAP.notna().tolist() == rows.rank1.notna().tolist() == [False, True, False, True]
    assert rows.mAP.iloc[-1] == pytest.approx(RunFolder(tmp_path / "r").read_result()["metrics"]["test"]["mAP"])


def test_no_clipping_norm_clips_nothing():
    """As one that no gradient reaches; a tiny one leaves next to nothing of the step."""
    moved = {}
    for norm in (None, 1e9, 1e-6):
        recipe = small_recipe("ide", clip_norm=norm, weight_decay=0.0)
        gradients, optimizer = small_step("ide", recipe)
        before = torch.cat([p.detach().flatten() for p in gradients.model.parameters()])
        batch = augmentation(recipe)(small_batch(recipe), torch.Generator().manual_seed(0))
        loop.training_step(batch, gradients, optimizer, recipe, 0.01)
        after = torch.cat([p.detach().flatten() for p in gradients.model.parameters()])
        moved[norm] = after - before
    assert torch.equal(moved[None], moved[1e9]) and moved[None].norm() > 1e-3
    assert moved[1e-6].norm() < 1e-3 * moved[None].norm()


# ---------------------------------------------------------------- what is taken up again
@pytest.fixture
def stepped():
    """A network, its optimiser after one step, and what runs them."""
    torch.manual_seed(0)
    recipe, accelerator = recipe_for("ide", "smoke", {"precision": "no"}), make_accelerator(torch.device("cpu"), "no")
    model = create_model("ide", 5, backbone=recipe.backbone, **recipe.model)
    optimizer = make_optimizer(model, recipe)
    model(torch.rand(2, 3, 96, 32)).logits.sum().backward()
    optimizer.step()
    return model, optimizer, accelerator, recipe


def test_a_state_is_taken_up_with_the_recipes_own_rates(stepped):
    model, optimizer, accelerator, recipe = stepped
    state = state_of(model, optimizer, accelerator, [{"epoch": 1, "loss": 2.0}], 1)
    other = create_model("ide", 5, backbone=recipe.backbone, **recipe.model)
    fresh = make_optimizer(other, replace(recipe, momentum=0.5))
    assert resume(other, fresh, accelerator, None) == ([], 0)
    assert resume(other, fresh, accelerator, state) == ([{"epoch": 1, "loss": 2.0}], 1)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    momenta = [(optimizer.state[a]["momentum_buffer"], fresh.state[b]["momentum_buffer"]) for a, b in pairs]
    assert momenta and all(torch.equal(a, b) for a, b in momenta)
    assert [group["momentum"] for group in fresh.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize("wrong", ["network", "optimizer", "momentum"])
def test_a_state_that_does_not_fit_is_refused_whole(stepped, wrong):
    model, optimizer, accelerator, recipe = stepped
    state = state_of(model, optimizer, accelerator, [{"epoch": 1}], 1)
    other = create_model("ide", 6 if wrong == "network" else 5, backbone=recipe.backbone, **recipe.model)
    if wrong == "optimizer":
        state["optimizer"] = {"state": {}, "param_groups": []}
    if wrong == "momentum":
        state["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"(?s)the checkpoint is not of this ide .*delete last\.ckpt"):
        resume(other, make_optimizer(other, recipe), accelerator, state)


def test_trunk_and_heads_are_apart_and_whole(stepped):
    model, optimizer, _, recipe = stepped
    trunk, heads = split_parameters(model)
    assert {id(p) for p in trunk}.isdisjoint({id(p) for p in heads}) and trunk and heads
    assert len(trunk) + len(heads) == sum(p.requires_grad for p in model.parameters())
    assert [group["factor"] for group in optimizer.param_groups] == [1.0, recipe.head_lr_factor]
