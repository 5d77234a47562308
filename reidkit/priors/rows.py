"""From maps to rows of a table: the coarse priors of one batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reidkit.priors.coarse import coarse_priors
from reidkit.priors.source import MapSource
from reidkit.priors.store import PriorTable, make_table


def batch_table(
    paths: list[str], stamps: Mapping[str, int], source: MapSource, settings: Mapping[str, Any]
) -> PriorTable:
    """Rows of one batch. Images may differ in size: those of one size go through the pipeline together."""
    h, w = settings["grid"]
    n = len(paths)
    mask, top, bottom = np.ones((n, h, w), bool), np.zeros(n, np.float32), np.ones(n, np.float32)
    reliable = np.zeros(n, bool)
    found = [row for row, path in enumerate(paths) if stamps[path]]  # the others stay "whole image"
    maps = dict(zip(found, source.maps([paths[row] for row in found])))
    by_size: dict[tuple[int, ...], list[int]] = {}
    for row, (parsing, _) in maps.items():
        by_size.setdefault(parsing.shape, []).append(row)
    for rows in by_size.values():
        parsings, segmentations = (np.stack([maps[row][i] for row in rows]) for i in (0, 1))
        thresholds = {key: settings[key] for key in ("min_head", "min_leg", "threshold")}
        priors = coarse_priors(parsings, segmentations, (h, w), **thresholds)
        for column, values in zip((mask, top, bottom, reliable), priors):
            column[rows] = values.numpy()
    marks = np.array([stamps[path] for path in paths], np.uint64)
    return make_table(paths, mask, top, bottom, reliable, marks, settings=settings)


def stacked(tables: list[PriorTable], settings: Mapping[str, Any]) -> PriorTable:
    """Tables of different paths, one below the other."""
    names = ("masks", "top", "bottom", "reliable", "stamps")
    columns = (np.concatenate([getattr(t, name) for t in tables]) for name in names)
    return make_table([path for t in tables for path in t.paths], *columns, settings=settings)
