"""What is typed is what runs: a setting means the same on the command line, in Python and in recipe.json."""

import json
from dataclasses import replace
from typing import get_args

import pytest
from market_folder import make_market_folder
from typer.testing import CliRunner

from reidkit.attention.cam import METHODS, Method
from reidkit.cli import app
from reidkit.data.images import FILTERS, Interpolation
from reidkit.errors import ReIDKitError, UnknownNameError, one_of
from reidkit.export.formats import SUFFIXES, Format
from reidkit.priors.labels import LABEL_SETS, LabelSet
from reidkit.training import RunFolder, recipe_for, run_name
from reidkit.training.ide import ide_path, ide_recipe, ide_settings
from reidkit.training.recipes import PRESETS, Recipe, changes_from, read_settings
from reidkit.training.settings import as_text

WAYS = [  # a setting as text, and as Python has it
    ("epochs", "5", 5),
    ("lr", "0.1", 0.1),
    ("lr", "1", 1.0),
    ("ide_init", "false", False),
    ("ide_init", "False", False),
    ("pretrained", "true", True),
    ("pretrained", "weights/a.pth", "weights/a.pth"),
    ("clip_norm", "none", None),
    ("batches_per_epoch", "null", None),
    ("size", "[256, 128]", (256, 128)),
    ("size", "256,128", (256, 128)),
    ("size", "256x128", (256, 128)),
    ("milestones", "[]", ()),
    ("milestones", "40", (40,)),
    ("precision", '"no"', "no"),
    ("erasing_area", "0.1,0.2", (0.1, 0.2)),
    ("model.num_parts", "4", 4),
    ("model.share", "conv1,conv2", ("conv1", "conv2")),
    ("model.attention_dim", "none", None),
    ("loss.margin", "0.3", 0.3),
    ("loss.alignment", "none", None),
    ("camera_rule", "false", False),
    ("alignment_ramp", "0.5", 0.5),
]


@pytest.mark.parametrize("key,text,value", WAYS)
def test_text_python_and_json_mean_the_same(key, text, value):
    typed = read_settings("mpn", {key: text})
    assert typed == {key: value} == read_settings("mpn", {key: value})
    assert type(typed[key]) is type(value)
    assert read_settings("mpn", {key: as_text(value)}) == typed  # what a suite hands to a process
    assert read_settings("mpn", {key: json.loads(json.dumps(value))}) == typed  # what recipe.json gives back
    if not key.startswith(("model.share", "pretrained")):
        recipe = recipe_for("mpn", "quick", {key: text})
        again = Recipe.from_dict(json.loads(json.dumps(recipe.as_dict())))
        assert again == recipe == recipe_for("mpn", "quick", {key: value})


@pytest.mark.parametrize(
    "key,text,words",
    [
        ("epochs", "0", "whole number of at least 1"),
        ("epochs", "2.5", "whole number"),
        ("epochs", "-3", "at least 1"),
        ("epochs", "null", "whole number"),
        ("epochs", "true", "whole number"),
        ("size", "[0,0]", "at least 1"),
        ("size", "256", "2 values"),
        ("size", "1,2,3", "2 values"),
        ("size", "axb", "2 values|whole number"),
        ("lr", "-1", "above 0"),
        ("lr", "nan", "number"),
        ("lr", "inf", "number"),
        ("schedule", "stepp", "Did you mean 'step'"),
        ("test_flip", "None", "Did you mean 'none'"),
        ("sampling", "covr", "Did you mean 'cover'"),
        ("precision", "fp8", "fp16"),
        ("flip", "1.5", "from 0 to 1"),
        ("momentum", "1", "below 1"),
        ("alignment_ramp", "1.5", "from 0 to 1"),
        ("alignment_ramp", "-0.1", "from 0 to 1"),
        ("num_instances", "0", "at least 1"),
        ("milestones", "40,20", "ascending"),
        ("erasing_area", "0.4,0.1", "smaller fraction"),
        ("batches_per_epoch", "0", "at least 1"),
        ("ide_init", "perhaps", "true or false"),
        ("model.num_parts", "six", "whole number"),
        ("model.num_parts", "0", "at least 1"),
        ("model.prior", "rio", "roi"),
        ("loss.margin", "wide", "number"),
        ("loss.metric", "l2", "cosine"),
        ("backbone", "", "text"),
    ],
)
def test_what_no_training_can_have_is_refused_by_name(key, text, words):
    with pytest.raises(ReIDKitError, match=words) as error:
        recipe_for("mpn", "quick", {key: text})
    assert key.split(".")[-1] in str(error.value)


def test_one_image_is_no_batch():
    with pytest.raises(ReIDKitError, match="batch of one image"):
        Recipe(num_ids=1, num_instances=1)
    assert Recipe(num_ids=1, num_instances=2).batch_size == 2


def test_an_unknown_field_of_a_recipe_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        Recipe.from_dict({"epoch": 3})
    with pytest.raises(UnknownNameError, match=r"model\.num_parts"):
        recipe_for("mpn", "quick", {"model.num_part": 3})


def test_changes_lead_from_a_preset_to_the_recipe():
    changes = {"lr": 0.5, "model.num_parts": 3, "loss.margin": 0.4, "size": (96, 48)}
    base, changed = recipe_for("mpn", "quick"), recipe_for("mpn", "quick", changes)
    assert changes_from(base, changed) == changes and changes_from(base, base) == {}


# ---------------------------------------------------------------- the IDE before a run
def test_what_holds_for_the_whole_run_reaches_the_ide():
    changes = {"num_ids": 3, "num_instances": 2, "precision": "no", "size": "96,48", "camera_rule": False, "lr": 0.5}
    recipe = recipe_for("mpn", "quick", changes)
    ide = ide_recipe("mpn", recipe, "quick")
    assert (ide.num_ids, ide.num_instances, ide.precision, ide.size, ide.camera_rule) == (3, 2, "no", (96, 48), False)
    assert ide.lr == PRESETS["quick"]["ide"].lr and ide.epochs == PRESETS["quick"]["ide"].epochs
    custom = ide_recipe("mpn", replace(recipe, lr=1.0), "custom")
    assert (custom.num_ids, custom.precision, custom.size) == (3, "no", (96, 48))


@pytest.mark.parametrize("preset", PRESETS)
def test_unchanged_presets_of_one_family_share_an_ide(preset):
    assert ide_settings("mpn", recipe_for("mpn", preset), preset) == {}
    a, b = (ide_settings(n, recipe_for(n, preset), preset) for n in ("cgpn", "mgn"))
    assert a == b


def test_ide_trained_first_has_the_batches_of_the_run(tmp_path):
    """Three people: P = 3 fits, also for the IDE, whose preset says 4."""
    make_market_folder(tmp_path / "e", train_ids=3)
    arguments = [
        "train",
        "cgpn",
        "--dataset",
        "market-layout",
        "--root",
        str(tmp_path / "e"),
        "--preset",
        "smoke",
        "--no-progress",
        "--device",
        "cpu",
        "--set",
        "num_ids=3",
        "--set",
        "precision=no",
        "--run",
        str(tmp_path / "r"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    (ide,) = tmp_path.glob("ide-*")
    recipe = RunFolder(ide).recipe()
    assert (recipe.num_ids, recipe.precision) == (3, "no")


# ---------------------------------------------------------------- names of runs
def test_names_of_runs_fit_a_file_system(sidewalk_tiny):
    path = "/somewhere/" + "deep/" * 60 + "weights.pth"
    names = [
        run_name("mpn", sidewalk_tiny, "quick", 0, {"pretrained": p})
        for p in (path, path + "2.pth", "a/w.pth", "b/w.pth")
    ]
    assert len(set(names)) == 4 and all(len(n) < 200 and "/" not in n for n in names)
    assert (
        run_name("mpn", sidewalk_tiny, "quick", 0, {"model.num_parts": 4}) == "mpn-num_parts=4-sidewalk-tiny-quick-s0"
    )


def test_the_folder_is_the_same_however_the_setting_was_written(sidewalk_tiny, tmp_path):
    written = [read_settings("mpn", {"ide_init": x}) for x in ("false", "False", False)]
    assert len({run_name("mpn", sidewalk_tiny, "quick", 0, w) for w in written}) == 1
    recipe = recipe_for("mpn", "quick", {"size": "96x48"})
    assert ide_path("mpn", sidewalk_tiny, recipe, tmp_path, seed=0, preset="quick") == ide_path(
        "psa", sidewalk_tiny, recipe_for("psa", "quick", {"size": (96, 48)}), tmp_path, seed=0, preset="quick"
    )


@pytest.mark.parametrize(
    ("names", "table"),
    [(Method, METHODS), (Interpolation, FILTERS), (Format, SUFFIXES), (LabelSet, LABEL_SETS)],
    ids=["Method", "Interpolation", "Format", "LabelSet"],
)
def test_a_type_of_names_and_its_table_are_one(names, table):
    assert get_args(names) == tuple(table)


def test_one_of_gives_the_name_or_the_choices():
    assert one_of("label set", "atr", LABEL_SETS) == "atr"
    with pytest.raises(UnknownNameError, match=r"unknown label set 'art'.*Did you mean 'atr'.*atr, lip, pascal"):
        one_of("label set", "art", LABEL_SETS)
    with pytest.raises(UnknownNameError, match="Choose one of: a, b"):
        one_of("letter", "c", iter(("a", "b")))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["priors", "build", "market1501", "--tool", "fles"], "unknown prior tool 'fles'. Did you mean 'files'"),
        (["priors", "build", "market1501", "--missing", "eror"], "unknown treatment of missing maps 'eror'"),
        (["priors", "build", "market1501", "--label-set", "lips"], "unknown label set 'lips'. Did you mean 'lip'"),
        (["export", "mpn-no-ca", "--to", "onx"], "unknown export format 'onx'. Did you mean 'onnx'"),
        (["export", "mpn-no-ca", "--precision", "int4"], "unknown precision 'int4'"),
    ],
)
def test_an_option_that_is_no_choice_is_refused(command, message, tmp_path):
    result = CliRunner().invoke(app, [*command, "--root", str(tmp_path)])
    assert isinstance(result.exception, UnknownNameError) and message in str(result.exception)
