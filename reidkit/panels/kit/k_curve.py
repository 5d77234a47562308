"""Networks that were trained for each K (MPN Fig. 7): their curve, from a table of results."""

from __future__ import annotations

import pandas as pd

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError
from reidkit.reporting.report import _series
from reidkit.training.suites import suite

MAX_K = 12  # the largest K of the suite mpn-fig7


def systems_of(parts: int) -> list[str]:
    """The names in a table of results of the suite's MPN with K parts; "mpn" itself has its default K."""
    names = [e.system for e in suite("mpn-fig7") if e.settings["model.num_parts"] == parts]
    return [*names, *(["mpn"] if parts == 6 else [])]


def trained_curve(results: pd.DataFrame, metric: str, dataset: ReIDDataset) -> dict[int, pd.Series]:
    """{K: one value a seed}, fractions, of the preset that was trained with the most K; empty with fewer than two K."""
    parts_of = {system: parts for parts in range(1, MAX_K + 1) for system in systems_of(parts)}
    here = results.loc[(results.dataset == dataset.label) & results.system.isin(parts_of)]
    if here.empty:
        return {}
    trained = here.system.map(parts_of).groupby(here.preset, sort=False).nunique()  # how many K, by preset
    here = here.loc[here.preset == trained.idxmax()]
    have, curve = set(here.system), {}
    for system, parts in parts_of.items():
        if system in have and parts not in curve:
            try:
                curve[parts] = _series(here, system, metric, level=dataset.level)
            except ReIDKitError as error:
                raise ReIDKitError(f"the curve over K cannot be drawn: {error}") from error
    return curve if len(curve) > 1 else {}
