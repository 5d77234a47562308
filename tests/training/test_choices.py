"""The table of choices: complete, read from the live objects, and true where a row states a number."""

from dataclasses import fields, replace

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from reidkit import losses
from reidkit.data.transforms import translate_table
from reidkit.errors import UnknownNameError
from reidkit.evaluation import evaluate_ranking
from reidkit.models import create_model
from reidkit.models.parts import PartClassifier, PartConvBlock
from reidkit.models.zoo import variant
from reidkit.reporting import report
from reidkit.training import choices, recipes
from reidkit.training.recipes import CGPN_PAPER, IDE_PAPER, MPN_PAPER, Recipe, recipe_for

PRESETS = {"MPN": MPN_PAPER, "CGPN": CGPN_PAPER, "IDE": IDE_PAPER}
OPTIMISATION = (
    "epochs",
    "lr",
    "head_lr_factor",
    "momentum",
    "nesterov",
    "weight_decay",
    "warmup_batches",
    "schedule",
    "milestones",
    "gamma",
    "cosine_start",
    "clip_norm",
    "precision",
)
SETTINGS = [
    (c, s)
    for c in choices.CHOICES
    if not c.words
    for s in c.systems
    if c.field.rpartition(".")[0] in ("", "loss", "model")
]


def rows_of(system):
    return {c.field for c in choices.CHOICES if system in c.systems}


@pytest.mark.parametrize("system", PRESETS)
def test_every_choice_of_a_recipe_has_a_row(system):
    recipe, default = PRESETS[system], Recipe()
    chosen = {f.name for f in fields(Recipe) if getattr(recipe, f.name) != getattr(default, f.name)}
    assert chosen | set(OPTIMISATION) <= rows_of(system)
    assert not (recipe.model or recipe.loss), "an override of the preset `paper` needs a row of its own"


def test_every_field_of_the_losses_has_a_row():
    varied = {"loss.soft_sharing_weight"}  # by Fig. 10
    of_losses = {f"loss.{f.name}" for f in fields(losses.LossConfig)} - varied
    assert of_losses <= {c.field for c in choices.CHOICES}


@pytest.mark.parametrize(("choice", "system"), SETTINGS, ids=lambda x: getattr(x, "field", x))
def test_ours_is_the_live_value(choice, system):
    """For each system of a row: the recipe, the losses and the configuration that its variant is trained with."""
    name = choices.SYSTEMS[system]
    room, _, leaf = choice.field.rpartition(".")
    owner = {"": recipe_for(name, "paper"), "loss": variant(name).loss, "model": variant(name).config}[room]
    assert choice.ours == str(getattr(owner, leaf)), f"{choice.field} of {system}"


def test_defaults_of_functions_are_what_they_do():
    """Settings that are no field of a recipe, seen in what the functions do when nothing is said."""
    torch.manual_seed(0)
    weights = PartClassifier(2, 512, 1000).weight
    assert weights.std().item() == pytest.approx(choices.value_of("classifier.std", "MPN"), rel=0.01)
    moved = translate_table(pd.DataFrame({"path": ["a.jpg"] * 200}), 5)
    assert moved.dx.abs().max() == pytest.approx(choices.value_of("translation.max_shift", "MPN"), rel=0.01)
    h, labels = torch.randn(12, 7), torch.arange(12) // 3
    h[:3, 0] += 50  # an easy identity: its anchors do not violate
    said = losses.batch_hard_triplet(h, labels, average=choices.value_of("triplet.average", "MPN"))
    assert said == losses.batch_hard_triplet(h, labels) != losses.batch_hard_triplet(h, labels, average="all")
    ids = torch.arange(6) % 3, torch.arange(12) % 3, torch.zeros(6).long(), torch.ones(12).long()
    options = {k: choices.value_of(f"ranking.{k}", "MPN") for k in ("ap", "metric")}
    qf, gf = torch.randn(6, 7), torch.randn(12, 7)
    ranked = [evaluate_ranking(qf, gf, *ids, **o).mAP for o in ({}, options, {"ap": "trapezoid"})]
    assert ranked[0] == ranked[1] != ranked[2]


def test_a_changed_recipe_changes_the_table(monkeypatch):
    monkeypatch.setitem(recipes.PRESETS["paper"], "mpn", replace(MPN_PAPER, epochs=71, loss={"margin": 0.3}))
    table = choices.choices_table("MPN")
    assert table.ours["epochs"] == "71" and table.ours["loss.margin"] == "0.3"


def test_one_row_a_setting_and_system():
    pairs = [(c.field, s) for c in choices.CHOICES for s in c.systems]
    assert len(pairs) == len(set(pairs))
    for c in choices.CHOICES:
        assert c.systems and set(c.systems) <= set(choices.SYSTEMS)
        assert all((c.paper, c.released, c.why)), f"{c.field}: an empty cell"
        if not set(c.systems) & {"MPN", "IDE"}:
            assert c.released == "-", f"{c.field}: no released code is known for {c.systems}"


def test_table_and_its_errors():
    whole, mgn = choices.choices_table(), choices.choices_table("MGN")
    assert len(whole) == len(choices.CHOICES) > len(mgn) and all("MGN" in of for of in mgn.of)
    assert len(report.markdown(mgn).splitlines()) == len(mgn) + 2
    with pytest.raises(UnknownNameError, match="CGPN"):
        choices.choices_table("CGNP")
    with pytest.raises(UnknownNameError, match=r"loss\.margin"):
        choices.value_of("loss.margins", "MPN")
    with pytest.raises(UnknownNameError, match="unknown setting"):
        choices.value_of("optimiser.lr", "MPN")


# What rows state in words


def test_the_mean_of_eq_3_is_c_times_weaker():
    """CGPN Eq. 3 as printed, for each image of the batch: a sum of squares over c channels, branches and parts."""
    torch.manual_seed(0)
    pairs = [(torch.randn(5, 2048, dtype=torch.double), torch.randn(5, 2048, dtype=torch.double)) for _ in range(6)]
    printed = sum(((a[n] - b[n]) ** 2).sum() for a, b in pairs for n in range(5)) / 5
    assert (printed / losses.supervision_mse(pairs)).item() == pytest.approx(2048)
    cgpn = create_model("cgpn", 5, backbone="small", reduced_dim=8).train()
    images = torch.randn(2, 3, 96, 32)
    fg, fgl = cgpn(images).supervision[0]
    assert fg.shape == fgl.shape == (2, cgpn.channels)  # c: the channels of the map, 2048 with ResNet-50


def test_the_released_triplet_loss_is_twice_the_cosine_one():
    torch.manual_seed(0)
    h, labels = torch.randn(12, 7, dtype=torch.double), torch.arange(12) // 3
    released = losses.batch_hard_triplet(F.normalize(h), labels, margin=0.4, metric="squared-euclidean")
    assert released.item() == pytest.approx(2 * losses.batch_hard_triplet(h, labels, margin=0.2).item())


def test_the_mgn_of_cgpn_table_1_is_that_of_mpn():
    """Row `epochs`: CGPN's MGN is that of MPN's Tables 5 to 7."""
    cgpn = report.paper_table("cgpn-table1").query("variant == 'mgn'").set_index(["dataset", "metric"]).value
    for table in ("mpn-table5", "mpn-table6", "mpn-table7"):
        mpn = report.paper_table(table).query("row == 'MGN'").set_index(["dataset", "metric"]).value
        shared = mpn.index.intersection(cgpn.index)
        assert len(shared) == 2 and (mpn[shared] == cgpn[shared]).all()


def test_a_bias_before_batch_norm_changes_nothing():
    torch.manual_seed(0)
    block, x = PartConvBlock(3, 6, 4).double().train(), torch.randn(5, 3, 6, 4, 2, dtype=torch.double)
    before = block(x)
    with torch.no_grad():
        block.conv.bias += torch.randn_like(block.conv.bias)
    assert torch.allclose(block(x), before)
