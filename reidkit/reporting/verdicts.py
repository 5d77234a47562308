"""The papers' claims at every scale that was run: data set, preset, further settings, and test level.

`claims.check_claims` asks one scale; here all of them are found in the table of results, and each claim is asked
at each where both of its systems were run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import nan

import pandas as pd

from reidkit.reporting.claim_list import ArmClaim, Claim, MapClaim
from reidkit.reporting.claims import check_claims
from reidkit.reporting.report import ordering

COLUMNS = ["better", "worse", "where", "suite", "scale", "level", "difference", "low", "high", "seeds", "verdict"]
NEEDED = "seeds to decide"


def split_system(system: str) -> tuple[str, tuple[str, ...]]:
    """ "mpn backbone=small-256 size=[96, 32]" -> ("mpn", ("backbone=small-256", "size=[96, 32]"))."""
    variant, *settings = re.split(r" (?=[\w.]+=)", system)
    return variant, tuple(settings)


def with_settings(system: str, more: Sequence[str]) -> str:
    """A system with further settings, named as a table of results names it."""
    variant, own = split_system(system)
    return " ".join([variant, *sorted({*own, *more}, key=lambda s: s.split("=")[0])])


def scales_of(results: pd.DataFrame, system: str) -> dict[tuple[str, str, tuple[str, ...]], None]:
    """{(data set, preset, further settings)} at which a system was run, in the order of the table."""
    variant, own = split_system(system)
    rows = results.loc[results.variant == variant, ["system", "dataset", "preset"]].drop_duplicates()
    found = {}
    for name, dataset, preset in rows.itertuples(index=False):
        settings = split_system(name)[1]
        if set(own) <= set(settings):
            found[dataset, preset, tuple(s for s in settings if s not in own)] = None
    return found


def verdicts(results: pd.DataFrame, claims: Iterable[Claim], metric: str = "mAP") -> pd.DataFrame:
    """One row a claim, scale and level at which both systems were run (levels of shifted queries left out).

    Columns `COLUMNS` (differences in points) and "seeds to decide" (see `claims.check_claims`). A claim that was run
    nowhere has no row.
    """
    shifted = set(results.loc[results["shift"].notna(), "level"])
    t = results.loc[(results.test == "ours") & (results.metric == metric) & ~results.level.isin(shifted)]
    rows = []
    for claim in claims:
        first, second = (scales_of(t, system) for system in claim.systems)
        for dataset, preset, more in [s for s in first if s in second]:
            better, worse = (with_settings(system, more) for system in claim.systems)
            at = replace(claim, better=better, worse=worse)
            part = t.loc[(t.dataset == dataset) & (t.preset == preset) & t.system.isin((at.better, at.worse))]
            for level in dict.fromkeys(part.level):
                found = check_claims(part, [at], metric, level=level)
                scale = " ".join([dataset, preset, *more])
                head = [claim.better, claim.worse, claim.where, claim.suite, scale, level]
                table = found.loc[found.verdict != "not run", [*COLUMNS[6:], NEEDED]]
                rows += [[*head, *row] for row in table.itertuples(index=False)]
    return pd.DataFrame(rows, columns=[*COLUMNS, NEEDED])


def sharper(results: pd.DataFrame, claims: Iterable[Claim], metric: str = "mAP") -> pd.DataFrame:
    """The table of `verdicts` for what a difference gains from mild to strong: (better - worse) on strong minus mild.

    Only Sidewalk has both levels. Paired by seed, like every other difference.
    """
    t = results.loc[(results.test == "ours") & (results.metric == metric) & results["shift"].isna()]
    keys = ["run", "system", "variant", "dataset", "preset", "seed", "test", "form", "metric"]
    wide = t.pivot_table(index=keys, columns="level", values="value", sort=False)
    if not {"mild", "strong"} <= set(wide.columns):
        return verdicts(t.iloc[:0], claims, metric)
    gain = (wide["strong"] - wide["mild"]).dropna().rename("value").reset_index()
    return verdicts(gain.assign(level="strong minus mild", shift=nan), claims, metric)


def map_verdicts(scores: pd.DataFrame, claims: Iterable[MapClaim], method: str = "gradcam") -> pd.DataFrame:
    """The claims about attention maps (MPN Sec. 5.2.5) from a table of `reidkit attention-scores`.

    Columns: more, less, measure, says, scale (data set), level, difference (points), low, high, seeds, verdict. Claims
    that were not measured have the verdict "not run" and no scale.
    """
    t = scores.loc[scores.method == method]
    rows = []
    for claim in claims:
        head = [claim.more, claim.less, claim.measure, claim.says]
        both = t.loc[t.variant.isin((claim.more, claim.less))]
        found = [(key, part) for key, part in both.groupby(["data", "level"], sort=False) if part.variant.nunique() > 1]
        if not found:
            rows.append([*head, "", "", nan, nan, nan, 0, "not run"])
        for (dataset, level), part in found:
            long = part.assign(system=part.variant, metric=claim.measure, value=part[claim.measure])
            long = long.assign(test="ours", shift=nan, dataset=dataset, preset="")
            r = ordering(long, [(claim.more, claim.less)], claim.measure).iloc[0]
            rows.append([*head, dataset, level, *r[COLUMNS[6:]]])
    return pd.DataFrame(rows, columns=["more", "less", "measure", "says", "scale", "level", *COLUMNS[6:]])


def arm_verdicts(arms: pd.DataFrame, claims: Iterable[ArmClaim], method: str = "gradcam") -> pd.DataFrame:
    """The claims about arms and sleeves from a table of `reidkit attention-scores --sleeves`; one row a network.

    Columns: says, variant, measure, run, level, value, low, high, people, verdict. The interval is over people, of one
    network. Claims that were not measured have the verdict "not run" and no run.
    """
    t, rows = arms.loc[arms.method == method], []
    for claim in claims:
        head = [claim.says, claim.variant, claim.measure]
        found = t.loc[(t.variant == claim.variant) & (t.measure == claim.measure)]
        for r in found.to_dict("records"):
            verdict = "appears" if r["low"] > 0 else "reversed" if r["high"] < 0 else "undecided"
            rows.append([*head, *(r[key] for key in ("run", "level", "value", "low", "high", "people")), verdict])
        if found.empty:
            rows.append([*head, "", "", nan, nan, nan, 0, "not run"])
    columns = ["says", "variant", "measure", "run", "level", "value", "low", "high", "people", "verdict"]
    return pd.DataFrame(rows, columns=columns)
