"""Evaluate a trained network on the test levels of a data set; re-evaluate a run folder with other options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from reidkit.data import ReIDDataset
from reidkit.data.cache import ImageCache
from reidkit.errors import DatasetError
from reidkit.evaluation import evaluate_distance, evaluate_ranking, extract_features, pool_queries, rerank
from reidkit.models import ReIDModel
from reidkit.priors import PriorTable
from reidkit.training.device import choose_device
from reidkit.training.recipes import Recipe
from reidkit.training.runs import RunFolder, load_run, provenance


def evaluate_model(model: ReIDModel, dataset: ReIDDataset, recipe: Recipe, *, device="cpu",
                   priors: PriorTable | None = None, levels: tuple[str, ...] | None = None, use_rerank: bool = False,
                   multi_query: bool = False, ap: str = "step", cache: bool = True,
                   progress: bool = True) -> dict[str, dict[str, Any]]:
    """Metrics per test level: mAP, mINP, rank1, rank5, rank10 (fractions in [0, 1]) and the number of queries.

    levels: default the current one and every other one of the data set. A level whose queries have a `shift`
    column also gets `by_shift`: {shift: the same metrics}. use_rerank: k-reciprocal re-ranking (say so beside the
    number). multi_query: average the images of `gt_bbox` per query identity and camera (Market-1501).
    """
    model = model.to(device)
    if model.needs_prior_at_test and priors is None:
        raise DatasetError(f"{model.name} rectifies test images, so it needs their priors: "
                           "build them with `reidkit priors build` for all splits and pass them on")
    features = _Features(model, dataset, recipe, device, priors, cache, progress)
    metrics = {}
    for level in levels or (dataset.level, *dataset.levels):
        ds = dataset.at_level(level)
        metrics[level] = _one_level(ds, features, use_rerank, multi_query, ap)
    return metrics


class _Features:
    """Features of a table; equal tables (Sidewalk's shift level shares mild's gallery) are extracted once."""

    def __init__(self, model, dataset, recipe, device, priors, cache, progress):
        self.model, self.dataset, self.recipe, self.device = model, dataset, recipe, device
        self.priors = priors if model.needs_prior_at_test else None
        self.cache, self.progress, self.known = cache, progress, {}

    def __call__(self, table: pd.DataFrame) -> torch.Tensor:
        key = tuple(table.path)
        if key not in self.known:
            r = self.recipe
            images = None
            if self.cache:
                images = ImageCache.for_table(table, self.dataset.root, r.size, progress=self.progress)
            self.known[key] = extract_features(
                self.model, table, size=r.size, device=self.device, flip=r.test_flip, priors=self.priors,
                amp=r.precision if r.precision != "auto" else "no", cache=images, root=self.dataset.root,
                progress=self.progress)
        return self.known[key]


def _one_level(ds: ReIDDataset, features: _Features, use_rerank: bool, multi_query: bool, ap: str) -> dict[str, Any]:
    qf, gf = features(ds.query), features(ds.gallery)
    if multi_query:
        if "gt_bbox" not in ds.info:
            raise DatasetError(f"{ds.name}: multi-query needs the gt_bbox folder of Market-1501, which {ds.root} lacks")
        boxes = ds.info["gt_bbox"]
        qf = pool_queries(features(boxes), boxes.pid, boxes.camid, ds.query.pid, ds.query.camid)

    def score(rows: np.ndarray) -> dict[str, Any]:
        q = ds.query[rows]
        ids = (q.pid.to_numpy(), ds.gallery.pid.to_numpy(), q.camid.to_numpy(), ds.gallery.camid.to_numpy())
        if use_rerank:
            r = evaluate_distance(rerank(qf[rows], gf), *ids, ap=ap, junk_pids=ds.junk_pids)
        else:
            r = evaluate_ranking(qf[rows], gf, *ids, ap=ap, junk_pids=ds.junk_pids)
        return {**r.summary(), "queries": len(r.per_query) - r.excluded}

    result = score(np.ones(len(ds.query), bool))
    if "shift" in ds.query and ds.query["shift"].nunique() > 1:
        shifts = ds.query["shift"].to_numpy()
        result["by_shift"] = {f"{s:.2f}": score(shifts == s) for s in sorted(set(shifts))}
    return result


def evaluate_run(path: str | Path, dataset: ReIDDataset, *, device: str = "auto", use_rerank: bool = False,
                 multi_query: bool = False, flip: str | None = None, ap: str = "step",
                 priors: PriorTable | None = None, progress: bool = True) -> dict[str, Any]:
    """Evaluate a finished run again with other options; returns metrics and provenance, writes nothing."""
    run = RunFolder(Path(path))
    recipe = run.recipe()
    if flip is not None:
        recipe = replace(recipe, test_flip=flip)
    chosen = choose_device(device)
    metrics = evaluate_model(load_run(path), dataset, recipe, device=chosen, priors=priors, use_rerank=use_rerank,
                             multi_query=multi_query, ap=ap, progress=progress)
    return {"run": str(path), "rerank": use_rerank, "multi_query": multi_query, "flip": recipe.test_flip, "ap": ap,
            "metrics": metrics, "provenance": provenance(chosen)}
