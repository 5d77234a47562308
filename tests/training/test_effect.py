"""A setting that changes nothing is said before the training; one that some row of a suite uses is not."""

import warnings

import pytest
from market_folder import make_market_folder
from market_runs import SMOKE, call

from reidkit.data import load_dataset
from reidkit.models.zoo import VARIANTS
from reidkit.training import PRESETS, recipe_for
from reidkit.training.effect import NEEDS, warn_in_no_row, warn_without_effect, without_effect
from reidkit.training.plan import plan_suite
from reidkit.training.recipes import read_settings
from reidkit.training.suites import suite


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("ide", {"loss.alignment_weight": 7}),
        ("ide", {"loss.margin": 0.5}),  # of the preset paper: no triplet loss
        ("mt-only", {"alignment_ramp": 0.5}),
        ("mt-only", {"model.prior": "uniform"}),
        ("baseline", {"model.share": "conv1"}),
        ("align-sample-triplet", {"loss.alignment_weight": 7}),  # h + g in the triplet loss, no term of its own
        ("mpn-no-ca", {"model.attention_dim": 8}),
        ("psa", {"loss.soft_sharing_weight": 2}),
        ("cgpn-4", {"loss.supervision_weight": 2}),
        ("mpn", {"cosine_start": 0.1}),
        ("mpn", {"erasing": 0, "erasing_area": (0.1, 0.2)}),
    ],
)
def test_what_changes_nothing_is_named(variant, settings):
    recipe = recipe_for(variant, "paper", settings)
    assert list(without_effect(variant, recipe, settings)) == [list(settings)[-1]]
    with pytest.warns(UserWarning, match=f"{variant}: these settings change nothing: {list(settings)[-1]}="):
        warn_without_effect(variant, recipe, "paper")


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("mpn", {"loss.alignment_weight": 7, "alignment_ramp": 0.5, "model.attention_dim": 8}),
        ("mt-only", {"schedule": "cosine", "cosine_start": 0.1}),
        ("ide", {"loss.triplet": "embedding", "loss.margin": 0.5}),
        ("cgpn", {"loss.supervision_weight": 2, "model.detach_targets": True}),
        ("naive-mtl", {"model.soft_share": "conv1", "loss.soft_sharing_weight": 2}),
    ],
)
def test_what_is_used_is_not(variant, settings, recwarn):
    recipe = recipe_for(variant, "paper", settings)
    warn_without_effect(variant, recipe, "paper")
    assert not without_effect(variant, recipe, settings) and not recwarn


def test_a_preset_may_carry_what_a_variant_does_not_use(recwarn):
    for preset in PRESETS:
        for name in VARIANTS:
            warn_without_effect(name, recipe_for(name, preset), preset)
    assert not recwarn


def test_every_setting_of_the_table_exists():
    known = set()
    for key in NEEDS:
        for name in ("mpn", "cgpn"):
            try:
                read_settings(name, {key: "1"})
            except Exception as error:
                known |= set() if "unknown setting" in str(error) else {key}
            else:
                known.add(key)
    assert known == set(NEEDS)


def test_the_command_says_it_before_the_training(tmp_path):
    root = make_market_folder(tmp_path / "a")
    order = ["train", "ide", "--dataset", "market-layout", "--root", root, *SMOKE, "--run", tmp_path / "r"]
    with pytest.warns(UserWarning, match=r"ide: .* loss.alignment_weight=7.0 \(it needs an alignment"):
        result = call(*order, "--set", "loss.alignment_weight=7", "--set", "num_ids=99")
    assert "num_ids" in str(result.exception)  # refused: no training


def test_a_suite_speaks_where_no_row_uses_it(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    how = {"seeds": [0], "preset": "smoke", "settings": {"loss.alignment_weight": 7, "ide_init": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_in_no_row([(n, recipe_for(n, "smoke")) for n in ("baseline", "mpn")], how["settings"])
    with pytest.warns(UserWarning, match="every row: these settings change nothing: loss.alignment_weight=7"):
        plan_suite(suite("mpn-table1", ["baseline", "mt-only"]), ds, ["--device", "cpu"], tmp_path / "runs", **how)
