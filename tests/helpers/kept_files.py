"""One whole file of every kind that the kit reads back, with the call that reads it: what the damage is done to."""

import csv
import math
import os
import random
import shutil
from pathlib import Path

import layouts
import mutants
import numpy as np
import pandas as pd
import torch
from fuzzing import Kind
from market_folder import make_market_folder
from paths import REPO

from reidkit.cli.training import show_result
from reidkit.data import load_dataset
from reidkit.data.cache import ImageCache
from reidkit.data.copies.quarantine import restore_quarantine
from reidkit.data.sets.folders import quarantined
from reidkit.data.sidewalk import load_truth
from reidkit.data.sidewalk.plan import Settings
from reidkit.data.sidewalk.writer import is_complete
from reidkit.models.weights import read_state_dict
from reidkit.priors import PriorTable
from reidkit.priors.dense import read_iuv
from reidkit.priors.store import make_table
from reidkit.reporting.claims_page import read_scores
from reidkit.reporting.results import collect_results
from reidkit.search.blocks import GalleryFile, open_blocks, write_block
from reidkit.training import RunFolder, load_run, recipe_for, train
from reidkit.training.recipes import Recipe
from reidkit.training.runs import build_model
from reidkit.training.steps import make_optimizer, resume


class _NoScaler:
    scaler = None


def kept_files(folder: Path, sidewalk_tiny) -> list[Kind]:
    """Every kind, each with a file of its own below `folder`. sidewalk_tiny: a rendered set; it is left as it is."""
    kinds = [*_of_runs(folder), *_of_priors(folder), *_of_tables(folder), *_of_sidewalk(folder, sidewalk_tiny)]
    return kinds + _of_cuhk03(folder)


def _of_runs(folder: Path) -> list[Kind]:
    market = make_market_folder(folder / "market")
    ds = load_dataset("market-layout", root=market)
    recipe = recipe_for("ide", "smoke", {"precision": "no", "epochs": 1, "batches_per_epoch": 1, "backbone": "small"})
    train("ide", ds, recipe, folder / "run", preset="smoke", device="cpu", progress=False)
    run = RunFolder(folder / "run")
    cache = next((market / "cache").glob("bounding_box_train*.u8"))
    whole = ImageCache.for_split(ds, "train", recipe.size, progress=False).images.clone()
    shutil.copy(run.weights, folder / "weights.safetensors")
    torch.save({"epoch": 3, "state_dict": build_model(run.read_settings()).state_dict()}, folder / "weights.pth")

    def going_on():
        model = build_model(run.read_settings())
        state = run.load_checkpoint()
        rows, epoch = resume(model, make_optimizer(model, recipe), _NoScaler, state)
        return model, rows, epoch

    def build():
        return ImageCache.for_split(ds, "train", recipe.size, progress=False).images

    def same_images(images):
        assert torch.equal(images[:, :, 0, 0], whole[:, :, 0, 0]) or images.shape == whole.shape

    def open_cache():
        return ImageCache.open(cache, ds.train, ds.root, recipe.size).images

    def result():
        show_result(run.read_result())
        return collect_results(folder / "run")

    def started():
        load_run(folder / "run")
        return run.read_settings(), run.recipe()

    return [
        Kind("recipe.json", run.settings, started, mutants.of_json, _check_settings),
        Kind("result.json", run.result, result, mutants.of_json, _check_results),
        Kind("metrics.csv", run.metrics, run.read_metrics, mutants.of_csv, _check_metrics),
        Kind("last.ckpt", run.checkpoint, going_on, mutants.of_tensors, lambda r: _check_network(r[0]), 3),
        Kind("model.safetensors", run.weights, lambda: load_run(folder / "run"), _of_safetensors, _check_network),
        Kind("image cache, opened", cache, open_cache, mutants.near_the_start, same_images),
        Kind("image cache, built", cache, build, mutants.near_the_start, same_images),
        Kind(
            "foreign weights (.pth)",
            folder / "weights.pth",
            lambda: read_state_dict(folder / "weights.pth"),
            mutants.of_tensors,
            _check_tensors,
        ),
        Kind(
            "foreign weights (.safetensors)",
            folder / "weights.safetensors",
            lambda: read_state_dict(folder / "weights.safetensors"),
            _of_safetensors,
            _check_tensors,
        ),
    ]


def _of_safetensors(whole: bytes, rng: random.Random) -> bytes:
    """Its header, JSON, or the tensors behind it."""
    return (mutants.near_the_start if rng.random() < 0.7 else _with_nan)(whole, rng)


def _with_nan(whole: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(whole) // 2, len(whole) // 4 * 4 - 64)
    return whole[:place] + np.full(16, rng.choice((np.nan, np.inf)), np.float32).tobytes() + whole[place + 64 :]


def _of_priors(folder: Path) -> list[Kind]:
    n, file, iuv = 5, folder / "priors.npz", folder / "iuv.npz"
    rng = np.random.default_rng(0)
    columns = (np.zeros(n, np.float32), np.ones(n, np.float32), np.ones(n, bool), np.arange(1, n + 1).astype(np.uint64))
    masks = rng.random((n, 4, 3)) < 0.5
    table = make_table([f"t/{i}.jpg" for i in range(n)], masks, *columns, settings={"grid": [4, 3]})
    table.save(file)
    np.savez(iuv, iuv=np.stack([rng.integers(0, 25, (8, 4)), rng.random((8, 4)), rng.random((8, 4))]))

    def sound(found: PriorTable):
        assert found.masks.dtype == bool and found.masks.shape == (len(found), *found.grid)
        assert ((found.top >= 0) & (found.top < found.bottom) & (found.bottom <= 1)).all()
        found.lookup(found.paths)

    return [
        Kind("prior table", file, lambda: PriorTable.load(file), mutants.of_npz, sound),
        Kind("dense body map", iuv, lambda: read_iuv(iuv), mutants.of_npz),
    ]


def _of_tables(folder: Path) -> list[Kind]:
    market = make_market_folder(folder / "own")
    own, runs, scores = market / "own.csv", folder / "runs.csv", folder / "scores.csv"
    with own.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("path", "pid", "camid", "split"))
        for split, name in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
            for path in sorted((market / name).glob("0[01]*.jpg")):
                if not path.name.startswith("0000"):
                    out.writerow((path.relative_to(market), path.name[:4], path.name[6], split))
    shipped = REPO / "results" / "sidewalk"
    for name, file in (("runs.csv", runs), ("attention.csv", scores)):
        file.write_text("".join((shipped / name).read_text().splitlines(keepends=True)[:12]))
    moved = market / "quarantine" / "quarantine.csv"
    moved.parent.mkdir()
    moved.write_text("original,moved_to,problem\n../a.jpg,a.jpg,broken\n")
    index = folder / "index"
    index.mkdir()
    files = [GalleryFile(*entry) for entry in [("a.jpg", 1, 2), ("b.jpg", 3, 4)]]
    block = write_block(index, files, np.eye(2, 8, dtype=np.float16), np.zeros(2, np.float32))

    def read_moved():
        return quarantined(market), restore_quarantine(moved.parent)

    def open_index():
        return [(b.files, b.rows()) for b in open_blocks(index)]

    def values(table: pd.DataFrame):
        assert np.isfinite(table["value"]).all()

    return [
        Kind("CSV of own pictures", own, lambda: load_dataset("csv", root=own), mutants.of_csv),
        Kind("CSV of runs", runs, lambda: collect_results(runs), mutants.of_csv, values),
        Kind("CSV of attention scores", scores, lambda: read_scores(scores), mutants.of_csv),
        Kind("quarantine.csv", moved, read_moved, mutants.of_csv),
        Kind("block of a search index", block, open_index, mutants.near_the_start),
    ]


def _of_sidewalk(folder: Path, tiny) -> list[Kind]:
    home = folder / tiny.root.name
    shutil.copytree(tiny.root, home, copy_function=os.link, ignore=shutil.ignore_patterns("cache", "priors", "checks"))

    def load():
        return load_dataset("sidewalk", root=folder, size="tiny")

    ds = load()
    truth = load_truth(ds, ds.query)

    def sound(found):
        assert len(found.train) and found.train.pid.dtype.kind == "i" and found.train.camid.dtype.kind == "i"
        assert found.summary() is not None

    def same(found):
        assert np.array_equal(found.codes, truth.codes)

    def facts(found):
        assert found.visibility.dtype.kind == "f" and found.top.dtype.kind == "f"
        assert not (found.visibility > 1).any() and not (found.visibility < 0).any()
        assert not np.isinf(found.top).any() and not np.isinf(found.bottom).any()

    def load_facts():
        found = load()
        sound(found)
        return load_truth(found, found.query)

    return [
        Kind("sidewalk.json", home / "sidewalk.json", lambda: is_complete(home, Settings("tiny")), mutants.of_json),
        Kind("meta.csv", home / "meta.csv", load_facts, mutants.of_csv, facts),
        Kind("truth (npz)", home / "truth" / "query.npz", lambda: load_truth(ds, ds.query), mutants.of_npz, same),
        Kind(
            "truth (npz), bytes", home / "truth" / "query.npz", lambda: load_truth(ds, ds.query), mutants.of_bytes, same
        ),
    ]


def _of_cuhk03(folder: Path) -> list[Kind]:
    home = folder / "cuhk03"
    layouts.write_cuhk03_mat(home)
    out, protocol = home / "images_detected", home / "cuhk03_new_protocol_config_detected.mat"
    mat = home / "cuhk-03.mat"

    def load():
        return load_dataset("cuhk03-detected", root=home)

    def load_anew():
        for part in (out, out.with_name(out.name + ".part")):
            shutil.rmtree(part, ignore_errors=True)
        return load()

    load()
    return [
        Kind("protocol of CUHK03 (.mat)", protocol, load, mutants.of_bytes, cost=20),
        Kind("cuhk-03.mat", mat, load_anew, mutants.of_bytes, cost=20),
    ]


def _check_settings(found) -> None:
    settings, recipe = found
    assert isinstance(recipe, Recipe) and settings["num_classes"] >= 1 and 0 <= settings["seed"] < 2**63


def _check_results(table: pd.DataFrame) -> None:
    assert len(table) and table["value"].map(math.isfinite).all(), "a value that is no number"
    assert ((table["value"] >= 0) & (table["value"] <= 1)).all(), "a value outside 0 to 1"


def _check_metrics(table: pd.DataFrame) -> None:
    assert table["epoch"].dtype.kind == "i"
    assert all(table[name].dtype == float for name in ("lr", "loss", "seconds") if name in table)


def _check_network(model) -> None:
    _check_tensors(model.state_dict())


def _check_tensors(state: dict[str, torch.Tensor]) -> None:
    assert all(torch.isfinite(v).all() for v in state.values()), "weights that are not finite"
