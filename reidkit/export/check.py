"""Is the file the network? Differences, scores and times beside those of PyTorch, on the CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from reidkit.data import ReIDDataset
from reidkit.data.images import FILTERS
from reidkit.data.loaders import Batch, test_batches
from reidkit.data.sidewalk.plan import Settings, plan, take
from reidkit.data.transforms import TestTransform
from reidkit.errors import ReIDKitError
from reidkit.evaluation import evaluate_ranking
from reidkit.evaluation.features import Flip, embed
from reidkit.export.formats import Runner
from reidkit.models import ReIDModel
from reidkit.training.recipes import Recipe

BATCHES = (1, 3, 16)  # numbers of images at once that the file is tried with
LATENCY_BATCHES = (1, 16)
CALIBRATION_IMAGES = 128


def pytorch(model: ReIDModel, flip: Flip) -> Runner:
    """What `extract_features` does with a batch, by its own code: the truth that the file is compared with."""

    @torch.no_grad()
    def run(images: Tensor) -> Tensor:
        index = torch.arange(len(images))
        return embed(model, TestTransform()(Batch(images, index, index, index)), flip)

    return run


def sidewalk_images(count: int, size: tuple[int, int]) -> Tensor:
    """uint8 [count, 3, H, W]: queries of the tiny Sidewalk set, rendered here (nothing is written)."""
    settings = Settings("tiny")
    shots = [shot for chunk in plan(settings) for shot in chunk if shot.folder == "query"][:count]
    pictures = [Image.fromarray(take(settings, shot)[0].image) for shot in shots]
    resized = [np.asarray(p.resize((size[1], size[0]), FILTERS["bilinear"])) for p in pictures]
    return torch.from_numpy(np.stack(resized).transpose(0, 3, 1, 2).copy())


def compare(exported: Runner, reference: Runner, images: Tensor) -> tuple[float, int]:
    """(largest difference, D) of two runners on the last 1, 3 and 16 of `images`, as far as there are so many.

    The difference of two embeddings is that of their entries, divided by the largest |entry| of the reference's.
    Raises ReIDKitError where the file gives another shape, or NaN.
    """
    worst = 0.0
    for count in (n for n in BATCHES if n <= len(images)):
        found, wanted = exported(images[-count:]), reference(images[-count:])
        if found.shape != wanted.shape or found.dtype != torch.float32:
            raise ReIDKitError(
                f"the exported network gives {tuple(found.shape)} {found.dtype} for {count} images, "
                f"PyTorch gives {tuple(wanted.shape)} {wanted.dtype}; nothing was written"
            )
        _check_embeddings(found)
        scale = wanted.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)  # [B, 1]
        worst = max(worst, ((found - wanted).abs() / scale).max().item())
    return worst, wanted.shape[1]


def scores(runners: dict[str, Runner], dataset: ReIDDataset, recipe: Recipe, progress: bool = True) -> dict[str, Any]:
    """mAP and rank1 (fractions) of both runners on the current test level, and the change; see `ExportReport`.

    recipe: the run's; its `size` and its `camera_rule` are those of the run's own evaluation.
    """
    q, g = dataset.query, dataset.gallery
    query, gallery = (_features(runners, table, recipe.size, progress) for table in (q, g))
    how = {"junk_pids": dataset.junk_pids, "camera_rule": recipe.camera_rule}
    found = {}
    for name in runners:
        ranking = evaluate_ranking(query[name], gallery[name], q.pid, g.pid, q.camid, g.camid, **how)
        found[name] = {"mAP": float(ranking.mAP), "rank1": float(ranking.cmc[0])}
    change = {k: found["exported"][k] - found["pytorch"][k] for k in ("mAP", "rank1")}
    return {"dataset": dataset.label, "level": dataset.level, **found, "change": change}


def _features(
    runners: dict[str, Runner], table: pd.DataFrame, size: tuple[int, int], progress: bool
) -> dict[str, Tensor]:
    """[N, D] of every runner; each image is decoded once."""
    parts = {name: [] for name in runners}
    for batch in tqdm(test_batches(table, size=size, batch_size=32), desc="embeddings", disable=not progress):
        for name, run in runners.items():
            parts[name].append(run(batch.images))
            _check_embeddings(parts[name][-1])
    return {name: torch.cat(p) for name, p in parts.items()}


def calibration_batches(dataset: ReIDDataset, size: tuple[int, int]) -> Sequence[Tensor]:
    """uint8 batches of 16 of at most 128 training images, evenly spread over the table and so over identities."""
    rows = np.unique(np.linspace(0, len(dataset.train) - 1, CALIBRATION_IMAGES).round().astype(int))
    return [batch.images for batch in test_batches(dataset.train.iloc[rows], size=size, batch_size=16)]


def latency(runners: dict[str, Runner], images: Tensor, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Median milliseconds a batch of 1 and of 16 `images`: {"batch": 16, name: ms, ...}. At least 5 calls each."""
    return [
        {"batch": count, **{name: _median_ms(run, images[:count], seconds) for name, run in runners.items()}}
        for count in LATENCY_BATCHES
        if count <= len(images)
    ]


def _median_ms(run: Runner, images: Tensor, seconds: float) -> float:
    run(images)  # the first call allocates
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return round(1000 * median(times), 3)


def _check_embeddings(features: Tensor) -> None:
    if not features.isfinite().all():
        raise ReIDKitError(
            "the exported network gives NaN or infinite embeddings, so nothing was written; values too "
            "large for fp16? Use --precision fp32"
        )
