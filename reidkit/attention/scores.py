"""Attention maps, measured: a picture can mislead, and one can always be found that pleases.

Sidewalk knows where every body part is, so a map of part k can be scored. Energy is the share of a map's sum:

    part_energy        energy of part k inside its region               chance: the region's share of the image
    pointing_game      is the peak of map k inside the region?          chance: the same
    own_stripe_argmax  is stripe k the one with the most energy?        chance: 1 / K
    background_energy  energy beside the person                         chance: 1 - the person's share
    diversity          mean similarity of the K maps of an image        1 = K times the same map

Each gives an array with an entry an image (and part): NaN where the question has no answer, because the region is
not in the picture or the map is blank. Take `numpy.nanmean`. Networks with fixed stripes (MPN's Baseline) score
well on position wherever the crop is good: background energy and `consistency` under a shift tell the difference.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.attention.cam import Method
from reidkit.attention.checks import CHANGES, LAYERS, consistency, randomised, sanity_check
from reidkit.attention.maps import part_attention
from reidkit.attention.measures import (
    area,
    background_energy,
    blank,
    body_part_regions,
    body_rows,
    diversity,
    own_stripe_argmax,
    part_energy,
    pointing_game,
    resized,
    stripe_regions,
)
from reidkit.attention.score_table import about, about_run, added, written
from reidkit.data.dataset import ReIDDataset
from reidkit.data.loaders import test_batches
from reidkit.data.sidewalk import Truth, load_truth
from reidkit.data.transforms import TestTransform
from reidkit.errors import PriorError, ReIDKitError
from reidkit.files import check_writable
from reidkit.models import ReIDModel
from reidkit.priors import PriorBatch, PriorTable
from reidkit.priors.dense import TextureTable

__all__ = [
    "CHANGES",
    "LAYERS",
    "area",
    "background_energy",
    "body_part_regions",
    "body_rows",
    "consistency",
    "diversity",
    "own_stripe_argmax",
    "part_energy",
    "pointing_game",
    "randomised",
    "sanity_check",
    "score_model",
    "score_runs",
    "stripe_regions",
]

CHECKED = {"checks": bool}  # a column of these tables


def score_model(
    model: ReIDModel,
    table: pd.DataFrame,
    truth: Truth,
    *,
    size: tuple[int, int],
    method: Method = "gradcam",
    classes: np.ndarray | None = None,
    priors: PriorTable | TextureTable | None = None,
    root: str | Path | None = None,
    checks: bool = True,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
) -> dict[str, float]:
    """Every score of one network on some images, as means over images and parts.

    table: rows of a data set; truth: `load_truth` of the same rows. size: of the network's input, (height, width).
    classes: [N] identities to explain (the true training labels); default: what each classifier predicts.
    priors, root: for networks that need a prior at test time. checks: also `consistency` (columns shift, scale,
        occlude; always HiResCAM, see there) and `sanity_check` (random_heads, random_all: Spearman), which cost
        eight times as much.
    Columns: own_energy, pointing (own stripe of the body); body_part_energy; own_argmax (NaN where parts overlap,
    as in CGPN); similarity (`diversity`); background; blank (share of maps without evidence); *_chance.
    """
    if len(table) != len(truth.top):
        raise ReIDKitError(f"{len(table)} images and the truth of {len(truth.top)}: load_truth(ds, table) fits")
    if model.needs_prior_at_test and priors is None:
        raise PriorError(f"{model.name} needs the priors of its test images: pass priors= and root=")
    about, _ = body_part_regions(truth, model.part_extents, size)
    batches = test_batches(
        table, size=size, batch_size=batch_size, root=root, priors=priors if model.needs_prior_at_test else None
    )
    rows: dict[str, list[np.ndarray]] = {}
    for batch in tqdm(batches, desc=f"attention of {model.name}", unit="batch", disable=not progress):
        batch = TestTransform()(batch)
        at, prior = batch.index.numpy(), cast("PriorBatch | None", batch.prior)
        wanted = None if classes is None else torch.as_tensor(np.asarray(classes)[at])
        maps = part_attention(model, batch.images, method, prior, classes=wanted)
        found = _scores(maps.numpy(), _rows_of(truth, at), about[at], model, size)
        if checks:
            found |= _checks(model, batch.images, method, prior, seed)
        for name, values in found.items():
            rows.setdefault(name, []).append(np.ravel(values))
    return {name: _nanmean(np.concatenate(values)) for name, values in rows.items()}


def _scores(
    maps: np.ndarray, truth: Truth, about: np.ndarray, model: ReIDModel, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    stripes, person = stripe_regions(truth, model.part_extents, size), resized(truth.parts, size) > 0
    rows = body_rows(truth.top, truth.bottom, model.part_extents, size[0])
    disjoint = math.isclose(sum(stop - start for start, stop in model.part_extents), 1)
    argmax = own_stripe_argmax(maps, rows) if disjoint and len(maps[0]) > 1 else np.array([np.nan])
    return {
        "own_energy": part_energy(maps, stripes),
        "own_energy_chance": area(stripes),
        "pointing": pointing_game(maps, stripes),
        "body_part_energy": part_energy(maps, about),
        "body_part_chance": area(about),
        "own_argmax": argmax,
        "own_argmax_chance": np.where(np.isnan(argmax), np.nan, 1 / len(maps[0])),
        "similarity": diversity(maps),
        "background": background_energy(maps, person),
        "background_chance": 1 - person.mean((1, 2)),
        "blank": blank(maps),
    }


def _checks(
    model: ReIDModel, images: Tensor, method: Method, prior: PriorBatch | None, seed: int
) -> dict[str, np.ndarray]:
    """Consistency and sanity, about the predicted classes; a single image has no randomised network beside it."""
    maps = part_attention(model, images, "hirescam", prior)
    found = {name: consistency(model, images, name, prior=prior, maps=maps) for name in CHANGES}
    if len(images) > 1:
        sanity = sanity_check(model, images, method, prior=prior, seed=seed)
        found |= {f"random_{step}": np.full(len(images), sanity.spearman[step]) for step in LAYERS}
    return found


def _rows_of(truth: Truth, rows: np.ndarray) -> Truth:
    return Truth(**{name: getattr(truth, name)[rows] for name in truth.__dataclass_fields__})


def _nanmean(values: np.ndarray) -> float:
    values = values[~np.isnan(values.astype(float))]
    return float(values.mean()) if len(values) else math.nan


def score_runs(
    run_dirs: Sequence[str | Path],
    ds: ReIDDataset,
    *,
    level: str = "strong",
    images: int = 200,
    method: Method = "gradcam",
    checks: bool = True,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """`score_model` of finished runs, one row a run: run, variant, seed, level, method, images, every score,
    `weights` (the first digits of their SHA-256), `draw` (`seed`), `trained` (the commit that trained it) and the
    commit, device and command of the scores.

    ds: a Sidewalk data set (others have no ground truth). The images are `images` queries of the test level,
    drawn with `seed`, the same for every run; maps explain the predicted classes, as in MPN Fig. 8.
    out: a CSV file that is written after every run; runs that are in it already, with the same weights and settings,
    are not computed again; its other rows stay, and are not returned. Raises CheckpointError for a folder that is not
    a finished run.
    """
    from reidkit.provenance import provenance
    from reidkit.training.preflight import priors_for
    from reidkit.training.runs import RunFolder, load_run

    if out:
        check_writable(out)  # now, not after the first network
    query = ds.at_level(level).query
    table = query.sample(min(images, len(query)), random_state=seed).sort_index().reset_index(drop=True)
    truth, out = load_truth(ds, table), Path(out) if out else None
    rows = written(out, CHECKED)
    source = provenance(device)
    others = {str(d) for d in run_dirs}  # in a row, the command names that row's run alone
    same: dict[str, Any] = {"level": level, "method": method, "images": len(table), "checks": checks}
    same |= {"data": ds.root.name, "draw": seed}
    asked = [(run, about_run(run, same)) for run in map(RunFolder, map(Path, run_dirs))]
    for run, this in tqdm(asked, desc="runs", unit="run", disable=not progress):
        if about(rows, this):
            continue
        settings, recipe, model = run.read_settings(), run.recipe(), load_run(run.path).to(device)
        priors = None
        if model.needs_prior_at_test:
            priors = priors_for(model, ds.at_level(level), recipe, settings["prior_tool"], progress)
        scores = score_model(
            model,
            table,
            truth,
            size=recipe.size,
            method=method,
            priors=priors,
            root=ds.root,
            checks=checks,
            seed=seed,
            progress=progress,
        )
        command = " ".join(a for a in source["command"].split() if a not in others - {str(run.path)})
        head = {"run": run.path.name, "variant": settings["variant"], "seed": settings["seed"]}
        trained = {"trained": run.read_result().get("provenance", {}).get("commit")}
        source_of = {"commit": source["commit"], "device": source["device"], "command": command}
        row: dict[Hashable, Any] = {**head, **this, **scores, **trained, **source_of}
        rows = added(out, [row], this, CHECKED) if out else [*rows, row]
    return pd.DataFrame([row for _, this in asked for row in about(rows, this)])
