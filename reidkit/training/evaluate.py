"""Evaluate a trained network on the test levels of a data set; re-evaluate a run folder with other options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from reidkit.data import ReIDDataset
from reidkit.data.cache import ImageCache
from reidkit.data.images import Interpolation
from reidkit.errors import DatasetError
from reidkit.evaluation import evaluate_distance, evaluate_ranking, extract_features, pool_queries, rerank
from reidkit.evaluation.features import Flip
from reidkit.evaluation.forms import TestForm
from reidkit.evaluation.ranking import APForm, RankingResult
from reidkit.models import ReIDModel
from reidkit.priors import PriorTable
from reidkit.priors.dense import TextureTable
from reidkit.priors.source import Tool
from reidkit.provenance import numerics, provenance
from reidkit.training.device import Precision, choose_device, choose_precision
from reidkit.training.preflight import check_matches, default_prior_tool, priors_for, recipe_on
from reidkit.training.recipes import Recipe
from reidkit.training.runs import RunFolder, find_run, load_run
from reidkit.training.seen import warn_of_seen_people


def form_of(recipe: Recipe) -> TestForm:
    """How a run is tested by its own recipe: step AP, bilinear resize, the recipe's flip and camera rule."""
    return TestForm(flip=recipe.test_flip, camera_rule=recipe.camera_rule)


def evaluate_model(
    model: ReIDModel,
    dataset: ReIDDataset,
    recipe: Recipe,
    *,
    form: TestForm | None = None,
    device: str | torch.device = "cpu",
    priors: PriorTable | TextureTable | None = None,
    levels: tuple[str, ...] | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Metrics per test level: mAP, mINP, rank1, rank5, rank10 (fractions in [0, 1]) and the number of queries.

    form: how to test (form of AP, flip, resize, re-ranking ...), default as the recipe says (`form_of`).
    levels: default the current one and every other one of the data set. A level whose queries have a `shift`
    column also gets `by_shift`: {shift: the same metrics}. Multi-query averages the images of `gt_bbox` per query
    identity and camera (Market-1501).
    """
    form = form or form_of(recipe_on(dataset, recipe))
    features = _Features(model, dataset, recipe, form, device, priors, cache, workers, progress)
    return {level: _one_level(features, level) for level in levels or levels_of(dataset)}


def levels_of(dataset: ReIDDataset) -> tuple[str, ...]:
    """The names of a data set's test levels, the current one first."""
    return dataset.level, *(level for level in dataset.levels if level != dataset.level)


def check_form(dataset: ReIDDataset, form: TestForm) -> None:
    """DatasetError where a data set cannot be tested in this form; before its images are read."""
    if form.multi_query and dataset.info.get("gt_bbox") is None:
        raise DatasetError(
            f"{dataset.label}: multi-query needs the gt_bbox folder of Market-1501, which {dataset.root} lacks"
        )
    if form.multi_query and (alone := queries_without_views(dataset)):
        raise DatasetError(
            f"{dataset.label}: multi-query needs a box of every query in gt_bbox, and {len(alone)} of "
            f"{len(dataset.query)} queries have none (first: pid {alone[0][0]}, camera {alone[0][1]}); is gt_bbox "
            "complete, and of the same data set?"
        )


def extraction_precision(recipe: Recipe, device: str | torch.device) -> Precision:
    """What features are computed in: the recipe's precision; "auto" is the training's on a GPU, else float32."""
    place = torch.device(device)
    return choose_precision(recipe.precision, place) if place.type == "cuda" or recipe.precision != "auto" else "no"


def has_views(dataset: ReIDDataset) -> bool:
    """Whether every query has further views (`gt_bbox`), so that the set can be tested with multi-query."""
    return dataset.info.get("gt_bbox") is not None and not queries_without_views(dataset)


def queries_without_views(dataset: ReIDDataset) -> list[tuple[int, int]]:
    """(pid, camid) of every query that has no box in `gt_bbox`."""
    boxes = dataset.info["gt_bbox"]
    seen = set(zip(boxes.pid, boxes.camid))
    return [pair for pair in zip(dataset.query.pid, dataset.query.camid) if pair not in seen]


class _Features:
    """Features of a data set's tables, on the model's device; equal tables (a gallery that levels share) come once."""

    def __init__(self, model, dataset, recipe, form, device, priors, cache, workers, progress):
        if model.needs_prior_at_test and priors is None:
            raise DatasetError(
                f"{model.name} rectifies test images, so it needs their priors: "
                "build them with `reidkit priors build` for all splits and pass them on"
            )
        check_form(dataset, form)
        model = model.to(device)
        self.model, self.dataset, self.recipe, self.form, self.device = model, dataset, recipe, form, device
        self.priors = priors if model.needs_prior_at_test else None
        self.cache, self.workers, self.progress, self.known = cache, workers, progress, {}

    def __call__(self, table: pd.DataFrame) -> torch.Tensor:
        key = tuple(table.path)
        if key not in self.known:
            r, form, images = self.recipe, self.form, None
            if self.cache:
                images = ImageCache.for_table(
                    table,
                    self.dataset.root,
                    r.size,
                    folder=self.dataset.derived("cache"),
                    interpolation=form.interpolation,
                    progress=self.progress,
                )
            self.known[key] = extract_features(
                self.model,
                table,
                size=r.size,
                device=self.device,
                **form.extraction,
                priors=self.priors,
                amp=extraction_precision(r, self.device),
                to_cpu=False,  # ranked where they are
                cache=images,
                root=self.dataset.root,
                workers=self.workers,
                progress=self.progress,
            )
        return self.known[key]

    def ranking(self, level: str, rows: np.ndarray | None = None) -> RankingResult:
        """The queries of a test level, or these rows [Q] bool of them, against its gallery."""
        ds, form = self.dataset.at_level(level), self.form
        qf, gf = self(ds.query), self(ds.gallery)
        if form.multi_query:
            boxes = ds.info["gt_bbox"]
            qf = pool_queries(self(boxes), boxes.pid, boxes.camid, ds.query.pid, ds.query.camid)
        q, qf = (ds.query, qf) if rows is None else (ds.query[rows], qf[rows])
        ids = (q.pid.to_numpy(), ds.gallery.pid.to_numpy(), q.camid.to_numpy(), ds.gallery.camid.to_numpy())
        options = {"ap": form.ap, "junk_pids": ds.junk_pids, "camera_rule": form.camera_rule}
        if form.rerank:
            return evaluate_distance(rerank(qf, gf), *ids, **options, device=gf.device)
        return evaluate_ranking(qf, gf, *ids, **options)


def _one_level(features: _Features, level: str) -> dict[str, Any]:
    def score(rows: np.ndarray | None = None) -> dict[str, Any]:
        r = features.ranking(level, rows)
        return {**r.summary(), "queries": len(r.per_query) - r.excluded}

    result, query = score(), features.dataset.at_level(level).query
    if "shift" in query and query.loc[:, "shift"].nunique() > 1:
        shifts = query["shift"].to_numpy()
        result["by_shift"] = {f"{s:.2f}": score(shifts == s) for s in sorted(set(shifts))}
    return result


def evaluate_run(
    path: str | Path,
    dataset: ReIDDataset,
    *,
    device: str = "auto",
    use_rerank: bool = False,
    multi_query: bool = False,
    flip: Flip | None = None,
    ap: APForm = "step",
    camera_rule: bool | None = None,
    interpolation: Interpolation = "bilinear",
    priors: PriorTable | TextureTable | None = None,
    prior_tool: Tool | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a finished run again with other options, on its own or on another data set; writes no run file.

    path: a run folder, or the name of a shipped network (`find_run`).
    flip, camera_rule: None as `form_on` says. priors: for networks that rectify test images; None finds or
    builds them with `prior_tool` (default: the run's own tool on its own data set, else the data set's).
    Returns the metrics, how they were tested (`test`), on which data set, and the provenance; `seen_in_training`: how
    many test images show people whom the run was trained on, None where that is not known. A warning says it too.
    Raises DatasetError where no query of the data set can have a match.
    """
    run = find_run(path)
    form = form_on(run, dataset, flip=flip, camera_rule=camera_rule)
    form = replace(form, ap=ap, rerank=use_rerank, multi_query=multi_query, interpolation=interpolation)
    how = {"priors": priors, "prior_tool": prior_tool, "cache": cache, "workers": workers, "progress": progress}
    features, seen = _features_of(run, dataset, form, device, **how), warn_of_seen_people(run, dataset)
    metrics = {level: _one_level(features, level) for level in levels_of(dataset)}
    return {
        "run": str(path),
        "trained_on": run.read_settings()["dataset"],
        "seen_in_training": seen,
        "dataset": dataset.label,
        "test": form.as_dict(),
        "rerank": use_rerank,
        "multi_query": multi_query,
        "flip": form.flip,
        "ap": ap,
        "metrics": metrics,
        "provenance": provenance(features.device, **numerics(features.device)),
    }


def rank_runs(
    runs: Sequence[str | Path],
    dataset: ReIDDataset,
    form: TestForm,
    *,
    levels: Sequence[str] | None = None,
    device: str = "auto",
    prior_tool: Tool | None = None,
    cache: bool = True,
    workers: int = 0,
    progress: bool = True,
) -> list[dict[str, RankingResult]]:
    """{test level: ranking, query by query} of each finished run, all tested in one form on the same queries.

    levels: of the data set, default all. Errors are those of `evaluate_run`, of any run before the first is tested.
    """
    how = {"prior_tool": prior_tool, "cache": cache, "workers": workers, "progress": progress}
    found = [find_run(run) for run in runs]
    features = [_features_of(run, dataset, form, device, **how) for run in found]
    for run in found:
        warn_of_seen_people(run, dataset)
    return [{level: own.ranking(level) for level in levels or levels_of(dataset)} for own in features]


def form_on(
    run: RunFolder, dataset: ReIDDataset, *, flip: Flip | None = None, camera_rule: bool | None = None
) -> TestForm:
    """How a run is tested on a data set by its own recipe, but for what is given here.

    A recipe without the camera rule is so for the sake of its own data set: on another one the rule holds again.
    """
    recipe, settings = run.recipe(), run.read_settings()
    loaded = (settings["source"] or dataset.source).get("name")
    if (settings["dataset"], loaded) != (dataset.label, dataset.source.get("name")):
        recipe = replace(recipe, camera_rule=True)
    form = form_of(recipe_on(dataset, recipe) if camera_rule is None else recipe)
    chosen = form.camera_rule if camera_rule is None else camera_rule
    return replace(form, flip=form.flip if flip is None else flip, camera_rule=chosen)


def _features_of(
    run: RunFolder, dataset: ReIDDataset, form: TestForm, device: str, *, priors=None, prior_tool=None, **how
) -> _Features:
    """The features of a run's network, once everything that can be refused has been; priors are found or built."""
    settings, recipe = run.read_settings(), run.recipe()
    check_form(dataset, form)
    check_matches(dataset, form.camera_rule)
    chosen, model = choose_device(device), load_run(run.path)
    if priors is None and model.needs_prior_at_test:
        own = settings["prior_tool"] if settings["dataset"] == dataset.label else None
        tool = prior_tool or own or default_prior_tool(dataset)
        priors = priors_for(model, dataset, recipe, tool, how["progress"], test_only=True)
    return _Features(model, dataset, recipe, form, chosen, priors, **how)
