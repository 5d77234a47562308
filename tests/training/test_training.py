"""Recipes, the loop, resuming after kill -9, and what happens on bad input."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from killed import run_until_killed
from safetensors.torch import load_file
from typer.testing import CliRunner

from reidkit.cli import app
from reidkit.errors import CheckpointError, ReIDKitError, TrainingError
from reidkit.training import RunFolder, load_run, recipe_for, run_name, train
from reidkit.training.ide import ide_path
from reidkit.training.recipes import PRESETS, Recipe


def smoke(name="mt-only", **settings):
    return recipe_for(name, "smoke", {"precision": "no", "ide_init": False, **settings})


# ---------------------------------------------------------------- recipes
def test_paper_recipes_say_what_the_papers_print():
    mpn, cgpn = recipe_for("mpn", "paper"), recipe_for("cgpn", "paper")
    assert (mpn.size, mpn.num_ids, mpn.num_instances, mpn.batch_size) == ((384, 128), 6, 8, 48)
    assert (mpn.epochs, mpn.lr, mpn.momentum, mpn.weight_decay) == (70, 0.01, 0.9, 5e-4)
    assert (mpn.translation_copies, mpn.flip, mpn.ide_init) == (5, 0.5, True)
    assert [mpn.lr * mpn.lr_factor(e, 1) for e in (0, 19, 20, 40, 60)] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])
    assert (cgpn.num_ids, cgpn.num_instances, cgpn.epochs, cgpn.erasing, cgpn.test_flip) == (8, 8, 240, 0.0, "mean")
    rates = [cgpn.lr * cgpn.lr_factor(e, 1) for e in (0, 59, 60, 80, 239)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-4])


def test_cosine_schedule_by_hand():
    r = Recipe(schedule="cosine", cosine_start=0.5, epochs=10, warmup_batches=2)
    assert r.lr_factor(0, 1) == 0.5 and r.lr_factor(1, 1) == 1.0  # warm-up
    assert r.lr_factor(5, 1) == pytest.approx(1.0)  # flat until half
    assert r.lr_factor(9, 1) == pytest.approx(0.5 * (1 + -0.80901699))  # cos(0.8 pi)


def test_settings_reach_recipe_model_and_loss():
    r = recipe_for("mpn", "quick", {"lr": "0.1", "model.num_parts": "4", "loss.margin": 0.5, "size": "[96,32]"})
    assert r.lr == 0.1 and r.model == {"part_dim": 64, "num_parts": 4} and r.loss == {"margin": 0.5}
    assert r.size == (96, 32)
    assert Recipe.from_dict(json.loads(json.dumps(r.as_dict()))) == r


@pytest.mark.parametrize(
    "key,value,words",
    [
        ("lrr", 1, "Did you mean 'lr'"),
        ("model.parts", 3, "model.num_parts"),
        ("lr", "fast", "expected a number"),
        ("loss", 1, "unknown setting"),
        ("nowhere.lr", 1, "unknown setting"),
    ],
)
def test_wrong_settings_name_the_choices(key, value, words):
    with pytest.raises(ReIDKitError, match=words):
        recipe_for("mpn", "quick", {key: value})


def test_spatial_attention_knows_the_image_size():
    assert recipe_for("mpn-rga", "quick").model["spatial_attention"] == "rga:144x48"
    assert recipe_for("mpn-rga", "paper", {"size": "[256,128]"}).model["spatial_attention"] == "rga:256x128"


def test_unknown_preset_and_variant():
    with pytest.raises(ReIDKitError, match="quick"):
        recipe_for("mpn", "fast")
    with pytest.raises(ReIDKitError, match="mpn-no-ca"):
        recipe_for("mpn-noca", "quick")


def test_every_variant_has_a_recipe_in_every_preset():
    from reidkit.models.zoo import VARIANTS

    for preset in PRESETS:
        for name in VARIANTS:
            assert recipe_for(name, preset).epochs > 0


# ---------------------------------------------------------------- a run from start to end
@pytest.fixture(scope="module")
def finished(sidewalk_tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "mpn"
    result = train("mpn-no-ca", sidewalk_tiny, smoke("mpn-no-ca"), path, seed=1, device="cpu", progress=False)
    return RunFolder(path), result


def test_run_folder_holds_what_the_design_says(finished, sidewalk_tiny):
    run, result = finished
    assert {p.name for p in run.path.iterdir()} >= {
        "recipe.json",
        "metrics.csv",
        "last.ckpt",
        "model.safetensors",
        "result.json",
    }
    assert result == json.loads(run.result.read_text())
    assert set(result["metrics"]) == {"mild", "strong", "shift"}
    assert 0 < result["metrics"]["mild"]["mAP"] < 1 and len(result["metrics"]["shift"]["by_shift"]) == 5
    for key in ("command", "commit", "torch", "device", "seed", "wall_s", "cpu_s", "precision"):
        assert key in result["provenance"]
    lines = run.metrics.read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch,lr,loss")


def test_loaded_run_gives_the_same_embedding(finished):
    run, _ = finished
    model, images = load_run(run.path), torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        assert torch.equal(model.embed(images), load_run(run.path).embed(images))
    assert not model.training


def test_finished_run_is_returned_and_other_settings_refused(finished, sidewalk_tiny):
    run, result = finished
    again = train("mpn-no-ca", sidewalk_tiny, smoke("mpn-no-ca"), run.path, seed=1, device="cpu", progress=False)
    assert again == result
    with pytest.raises(TrainingError, match="other settings"):
        train("mpn-no-ca", sidewalk_tiny, smoke("mpn-no-ca", lr=0.5), run.path, seed=1, device="cpu", progress=False)


def test_same_seed_same_weights_other_seed_others(finished, sidewalk_tiny, tmp_path):
    run, _ = finished
    for seed, same in ((1, True), (2, False)):
        path = tmp_path / f"s{seed}"
        train("mpn-no-ca", sidewalk_tiny, smoke("mpn-no-ca"), path, seed=seed, device="cpu", progress=False)
        a, b = load_file(run.weights), load_file(RunFolder(path).weights)
        assert all(torch.equal(a[k], b[k]) for k in a) is same


def test_ide_initialisation_is_trained_once_and_copied(sidewalk_tiny, tmp_path):
    recipe = smoke("mt-only", ide_init=True, epochs=1, batches_per_epoch=1, lr=1e-12)
    train("mt-only", sidewalk_tiny, recipe, tmp_path / "a", seed=0, device="cpu", preset="smoke", progress=False)
    ide = ide_path("mt-only", sidewalk_tiny, recipe, tmp_path, seed=0, preset="smoke")
    os.utime(RunFolder(ide).result, ns=(1, 1))
    train(
        "mt-only",
        sidewalk_tiny,
        replace(recipe, lr=1e-11),
        tmp_path / "b",
        seed=0,
        device="cpu",
        preset="smoke",
        progress=False,
    )
    assert RunFolder(ide).result.stat().st_mtime_ns == 1, "it was trained again"
    source, target = load_run(ide).backbone.state_dict(), load_run(tmp_path / "a").backbone.state_dict()
    for key in source:
        if "running" not in key and "num_batches" not in key:  # weights stay: the rate is 1e-12
            assert torch.allclose(source[key], target[key], atol=1e-6), key


# ---------------------------------------------------------------- interruption
def test_killed_run_resumes_to_the_same_weights(sidewalk_tiny, data_root, tmp_path, monkeypatch):
    sets = ["--set", "epochs=6", "--set", "batches_per_epoch=4", "--set", "ide_init=false", "--set", "precision=no"]
    common = [
        "psa",
        "--root",
        str(data_root),
        "--size",
        "tiny",
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--no-progress",
        *sets,
    ]
    broken = RunFolder(tmp_path / "broken")
    run_until_killed(
        "from reidkit.cli import main; main()",
        "train",
        *common,
        "--run",
        "broken",
        at=broken.checkpoint.name,
        count=3,
        cwd=tmp_path,
    )
    assert broken.load_checkpoint()["epoch"] == 2 and not broken.finished
    again = ["--root", str(data_root), "--size", "tiny", "--device", "cpu", "--threads", "1", "--no-progress"]
    second = subprocess.run(
        [sys.executable, "-m", "reidkit.cli", "train", "psa", "--resume", "broken", *again],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert second.returncode == 0, second.stdout
    monkeypatch.chdir(tmp_path)
    whole = CliRunner().invoke(app, ["train", *common, "--run", "whole"])
    assert whole.exit_code == 0, whole.output
    a, b = load_file(broken.weights), load_file(RunFolder(tmp_path / "whole").weights)
    assert all(torch.equal(a[k], b[k]) for k in a)
    rows = [RunFolder(tmp_path / n).metrics.read_text().splitlines() for n in ("broken", "whole")]
    assert len(rows[0]) == len(rows[1]) == 7


# ---------------------------------------------------------------- bad input
def test_nan_loss_names_the_term_and_keeps_the_checkpoint(sidewalk_tiny, tmp_path):
    with pytest.raises(TrainingError, match=r"loss became .* epoch .*lr"):
        train(
            "mt-only",
            sidewalk_tiny,
            smoke("mt-only", lr=1e30, clip_norm=1e30, epochs=4, warmup_batches=0),
            tmp_path / "r",
            device="cpu",
            progress=False,
        )


def test_corrupt_checkpoint_and_weights(finished, tmp_path):
    run, _ = finished
    broken = RunFolder(tmp_path)
    broken.checkpoint.write_bytes(run.checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be read"):
        broken.load_checkpoint()
    broken.settings.write_bytes(run.settings.read_bytes())
    broken.weights.write_bytes(run.weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(tmp_path)


def test_weights_of_another_model(finished, tmp_path):
    run, _ = finished
    other = json.loads(run.settings.read_text()) | {"variant": "mt-only", "resolved": None}
    (tmp_path / "recipe.json").write_text(json.dumps(other))
    (tmp_path / "model.safetensors").write_bytes(run.weights.read_bytes())
    with pytest.raises(CheckpointError, match="another model"):
        load_run(tmp_path)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no recipe\.json"):
        load_run(tmp_path)


def test_more_identities_a_batch_than_there_are(sidewalk_tiny, tmp_path):
    with pytest.raises(TrainingError, match="identities"):
        train("mt-only", sidewalk_tiny, smoke(num_ids=500), tmp_path / "r", device="cpu", progress=False)


def test_missing_gpu_is_said(sidewalk_tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainingError, match="no CUDA GPU"):
        train("mt-only", sidewalk_tiny, smoke(), tmp_path / "r", device="cuda", progress=False)


@pytest.mark.parametrize("name", ["cgpn", "mpn"])
def test_a_compiled_run_is_the_same_run(sidewalk_tiny, tmp_path, monkeypatch, name):
    """torch.compile traces the network (here without generating code); names of weights and numbers stay."""
    original, calls = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda net: (calls.append(net), original(net, backend="eager"))[1])
    recipe = replace(recipe_for(name, "smoke"), ide_init=False, epochs=1, batches_per_epoch=2, precision="no")
    for folder, on in (("plain", False), ("compiled", True)):
        train(name, sidewalk_tiny, recipe, tmp_path / folder, device="cpu", compile_net=on, progress=False)
    plain, compiled = (load_file(RunFolder(tmp_path / f).weights) for f in ("plain", "compiled"))
    assert len(calls) == 1 and plain.keys() == compiled.keys()
    assert all(torch.allclose(plain[k].float(), compiled[k].float(), atol=1e-3) for k in plain)


def test_a_run_that_learned_nothing_says_so(sidewalk_tiny, tmp_path):
    """Diverged early, without a NaN: a cross entropy above log(identities) at the end."""
    calm = replace(recipe_for("cgpn-global-2", "smoke"), ide_init=False, batches_per_epoch=50)
    wild = replace(calm, lr=3.0, warmup_batches=0, clip_norm=20.0)
    with pytest.warns(UserWarning, match="wild.*guessing one of .* the network has learned nothing.*--set lr"):
        train("cgpn-global-2", sidewalk_tiny, wild, tmp_path / "wild", device="cpu", progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*learned nothing")
        train("cgpn-global-2", sidewalk_tiny, calm, tmp_path / "calm", device="cpu", progress=False)


# ---------------------------------------------------------------- shipping
def test_shipped_run_is_small_and_hash_checked(finished, tmp_path):
    from reidkit.training.ship import ship

    run, _ = finished
    (folder,) = ship([run.path], tmp_path)
    small, whole = RunFolder(folder), load_run(run.path)
    assert small.weights.stat().st_size < 0.6 * run.weights.stat().st_size
    images = torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        a, b = whole.embed(images), load_run(folder).embed(images)
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.999
    damaged = bytearray(small.weights.read_bytes())
    damaged[-1] ^= 1
    small.weights.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="not the file that was shipped"):
        load_run(folder)


def test_unfinished_run_is_not_shipped(tmp_path):
    from reidkit.training.ship import ship

    with pytest.raises(CheckpointError, match="not finished"):
        ship([tmp_path], tmp_path / "out")


def test_obtain_run_prefers_own_then_shipped_then_trains(sidewalk_tiny, tmp_path):
    from reidkit.training import obtain_run
    from reidkit.training.ship import ship

    name = run_name("ide", sidewalk_tiny, "smoke", 0)
    options = dict(preset="smoke", device="cpu", progress=False)
    trained = obtain_run("ide", sidewalk_tiny, runs=tmp_path / "runs", **options)
    assert trained == tmp_path / "runs" / name and RunFolder(trained).finished
    ship([trained], tmp_path / "shipped")
    assert obtain_run("ide", sidewalk_tiny, runs=tmp_path / "runs", shipped=tmp_path / "shipped", **options) == trained
    assert (
        obtain_run("ide", sidewalk_tiny, runs=tmp_path / "none", shipped=tmp_path / "shipped", **options)
        == tmp_path / "shipped" / name
    )
    recipe = json.loads(RunFolder(trained).settings.read_text())
    recipe["recipe"]["lr"] = 9.0
    RunFolder(trained).settings.write_text(json.dumps(recipe))
    with pytest.raises(TrainingError, match="another recipe"):
        obtain_run("ide", sidewalk_tiny, runs=tmp_path / "runs", **options)


def test_weights_ship_up_to_the_limit_of_their_preset(finished, tmp_path, monkeypatch):
    from reidkit.training.ship import LIMITS, TINY, Limit, ship

    run, _ = finished
    assert (TINY, LIMITS) == (Limit(2 * 2**20, 16 * 2**20), {"hero": Limit(12 * 2**20, 60 * 2**20)})
    size = RunFolder(ship([run.path], tmp_path / "measured")[0]).weights.stat().st_size
    hero = shutil.copytree(run.path, tmp_path / "mpn-hero")
    settings = json.loads((hero / "recipe.json").read_text())
    (hero / "recipe.json").write_text(json.dumps({**settings, "preset": "hero"}))
    monkeypatch.setattr("reidkit.training.ship.TINY", Limit(size - 1, 10 * size))
    monkeypatch.setitem(LIMITS, "hero", Limit(size, int(1.5 * size)))
    with pytest.raises(CheckpointError, match=r"more than the .* of its preset"):
        ship([run.path], tmp_path / "out")
    assert not RunFolder(tmp_path / "out" / run.path.name).weights.exists()
    assert ship([hero], tmp_path / "out") == [tmp_path / "out" / "mpn-hero"]
    monkeypatch.setattr("reidkit.training.ship.TINY", Limit(size, 10 * size))
    ship([run.path], tmp_path / "out")  # two networks, each counted with its own kind
    second = shutil.copytree(hero, tmp_path / "another-hero")
    with pytest.raises(CheckpointError, match=r"2 networks .*another-hero, mpn-hero\); ship fewer"):
        ship([second], tmp_path / "out")


def test_shipped_networks_are_small_whole_and_of_the_present_recipes(repo):
    """Every folder of results/sidewalk/checkpoints: within its limit, its hash fits, trained as the preset says now."""
    from reidkit.training.obtain import trained_with
    from reidkit.training.ship import LIMITS, TINY, limit_of

    runs = [RunFolder(p.parent) for p in (repo / "results" / "sidewalk" / "checkpoints").glob("*/model.safetensors")]
    for limit, least in ((TINY, 10), (LIMITS["hero"], 5)):
        sizes = [run.weights.stat().st_size for run in runs if limit_of(run) == limit]
        assert len(sizes) >= least and max(sizes) <= limit.network and sum(sizes) <= limit.total
    for run in runs:
        settings = run.read_settings()
        load_run(run.path)  # checks the hash
        assert trained_with(run, recipe_for(settings["variant"], settings["preset"])), run.path.name
        assert run.read_result()["provenance"]["commit"].isalnum(), "trained from a clean commit"
