"""Some test identities of a data set, so that a panel is ready in seconds and answers in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError


def subset(dataset: ReIDDataset, ids: int, seed: int = 0) -> ReIDDataset:
    """The data set with `ids` of its test identities: their queries, and their images in the gallery, on every level.

    Identities that share a `group` (siblings, the hard cases of Sidewalk) come together, so there may be a few more.
    Numbers on a subset are easier than on the whole gallery: a panel that shows them says how many images it ranks.
    """
    if ids < 2:
        raise ReIDKitError(f"ids={ids}: a ranking needs at least 2 identities")
    query, gallery = dataset.query, dataset.gallery
    group = query["group"] if "group" in query else query["pid"]
    chosen: set[int] = set()
    for g in np.random.default_rng(seed).permutation(np.unique(group)):
        if len(chosen) >= ids:
            break
        chosen |= set(query["pid"][group == g])
    of_chosen = lambda t: t.loc[t["pid"].isin(list(chosen))].reset_index(drop=True)  # noqa: E731
    levels = {level: (of_chosen(q), of_chosen(g)) for level, (q, g) in dataset.levels.items()}
    query, gallery = levels.get(dataset.level) or (of_chosen(query), of_chosen(gallery))
    if gallery.empty:
        raise ReIDKitError(f"{dataset.name}: the gallery has no image of the first {ids} query identities")
    return replace(dataset, query=query, gallery=gallery, levels=levels)


def matched_queries(dataset: ReIDDataset, count: int) -> pd.DataFrame:
    """Up to `count` queries, spread over the set and one a person, each with its first true match (another camera)."""
    queries = dataset.query.drop_duplicates("pid").reset_index(drop=True)
    pairs = queries.merge(dataset.gallery[["path", "pid", "camid"]], on="pid", suffixes=("", "_match"))
    pairs = pairs.loc[pairs.camid != pairs.camid_match].drop_duplicates("pid").reset_index(drop=True)
    if pairs.empty:
        raise ReIDKitError(f"{dataset.name}: no query has a true match under another camera; choose another level")
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int))
    return (
        pairs.iloc[rows]
        .reset_index(drop=True)
        .rename(columns={"path_match": "match_path", "camid_match": "match_camid"})
    )
