"""What a paper's text claims about its rows, and what our runs say to each claim.

A claim (`claim_list.py`) is a pair of systems that the text orders. It is checked on the seeds that both have, with a
paired t interval (`report.ordering`): a claim appears, is reversed, or stays undecided. "Undecided" is no "no": it says
that the spread over so few seeds is larger than the difference, so `seeds_needed` says how many would settle it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan, nan, sqrt

import pandas as pd

from reidkit.reporting.claim_list import CGPN_CLAIMS, MPN_CLAIMS, Claim
from reidkit.reporting.report import has_paper_table, ordering, paper_table, t_quantile

__all__ = [
    "CGPN_CLAIMS",
    "MPN_CLAIMS",
    "VERDICTS",
    "Claim",
    "by_scale",
    "check_claims",
    "explain",
    "missing_runs",
    "paper_difference",
    "scale_of",
    "seeds_needed",
]


def paper_difference(claim: Claim, metric: str = "mAP") -> float:
    """better - worse as printed, in points, mean over the data sets that the sentence speaks of; NaN where no table
    prints both."""
    if not has_paper_table(claim.suite):
        return nan
    t = paper_table(claim.suite)
    wide = t.loc[(t.metric == metric) & (t.variant != "")].pivot(index="dataset", columns="variant", values="value")
    if not {claim.better, claim.worse} <= set(wide.columns):
        return nan
    gaps = wide[claim.better] - wide[claim.worse]
    return float(gaps[[claim.speaks_of(name) for name in gaps.index]].mean())


def check_claims(
    results: pd.DataFrame,
    claims: Iterable[Claim] = MPN_CLAIMS,
    metric: str = "mAP",
    *,
    level: str | None = None,
    dataset: str | None = None,
    preset: str | None = None,
) -> pd.DataFrame:
    """The table of `report.ordering` for those of the claims that speak of these data and levels, with three columns
    more.

    where: the section; paper: the paper's own difference in points (other data: only its sign compares);
    seeds to decide: how many seeds an undecided claim would need at its present mean and spread (NaN elsewhere).
    """
    about = ({level} if level else set(results.level)) | ({dataset} if dataset else set(results.dataset))
    claims = [claim for claim in claims if not about or claim.speaks_of(*about)]
    pairs = [c.systems for c in claims]
    table = ordering(results, pairs, metric, level=level, dataset=dataset, preset=preset)
    half = (table["high"] - table["low"]) / 2
    needed = [
        seeds_needed(m, h * sqrt(n) / t_quantile(0.95, n - 1)) if v == "undecided" else nan
        for m, h, n, v in zip(table.difference, half, table.seeds, table.verdict)
    ]
    return table.assign(
        where=[c.where for c in claims],
        paper=[paper_difference(c, metric) for c in claims],
        **{"seeds to decide": needed},
    )


def seeds_needed(mean: float, sd: float, confidence: float = 0.95, most: int = 1000) -> float:
    """The smallest number of seeds whose paired t interval, mean -+ t sd / sqrt(n), would leave out zero.

    mean, sd: of the differences, in the same unit. inf when more than `most` seeds would be needed.
    """

    def settles(n: int) -> bool:
        return t_quantile(confidence, n - 1) * sd / sqrt(n) < abs(mean)

    if isnan(mean) or isnan(sd):
        return nan
    if not settles(most):
        return float("inf")
    low, high = 1, most  # low seeds do not settle it, high do; the half length falls with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return float(high)


def scale_of(results: pd.DataFrame) -> pd.Series:
    """For each result, how its run was trained apart from the variant: data set, preset and settings in one text, such
    as "sidewalk-small quick" or "sidewalk-small long backbone=small-256"."""
    settings = [system.removeprefix(variant) for system, variant in zip(results.system, results.variant)]
    return results.dataset + " " + results.preset + settings


def by_scale(
    results: pd.DataFrame, pairs: Iterable[tuple[str, str]], metric: str = "mAP", *, level: str | None = None
) -> pd.DataFrame:
    """Do (better, worse) pairs of variants change with the scale? The tables of `report.ordering`, one a scale.

    Column `scale`: see `scale_of`; scales without any of the pairs are left out. For pairs with two scales or more, a
    last line follows, "mean of N scales": the difference is first averaged over the scales, seed by seed, with the
    seeds that all of them have. Its interval speaks of these scales, not of others.
    """
    pairs = list(pairs)
    t = results.loc[results["shift"].isna() & (results["metric"] == metric) & (results["test"] == "ours")]
    t = t if level is None else t.loc[t["level"] == level]
    t = t.assign(system=t.variant, scale=scale_of(t))
    tables = [ordering(part, pairs, metric).assign(scale=scale) for scale, part in t.groupby("scale", sort=False)]
    values = t.pivot_table(index="seed", columns=["scale", "system"], values="value")
    for pair in pairs:
        have = [s for s in values.columns.unique("scale") if all((s, system) in values for system in pair)]
        if len(have) > 1:
            both = values.loc[:, [(s, system) for s in have for system in pair]].dropna()
            mean = both.T.groupby(level="system").mean().T
            mean = mean.stack().rename("value").reset_index()
            mean = mean.assign(metric=metric, shift=nan, level="", dataset="", preset="", test="ours")
            tables.append(ordering(mean, [pair], metric).assign(scale=f"mean of {len(have)} scales"))
    nothing = ordering(t.iloc[:0], pairs, metric).assign(scale="")  # the columns, should there be no scale at all
    table = pd.concat([nothing, *tables]).query("seeds > 0").reset_index(drop=True)
    return table.loc[:, ["scale", *table.columns.drop("scale")]]


VERDICTS = {
    "appears": "the interval lies above zero",
    "reversed": "the interval lies below zero: here the other one is better",
    "undecided": "the interval holds zero",
    "one seed": "a difference without an interval",
    "tested differently": "one with mirror images, say, the other without: no difference",
    "not run": "no seed has both",
}


def explain(table: pd.DataFrame) -> str:
    """A table of `check_claims` (or `report.ordering`) in words, as Markdown: one list a verdict, nothing added."""
    count = f"{len(table)} orderings" if len(table) != 1 else "1 ordering"
    lines = [
        f"{count} in {', '.join(sorted(set(table.metric)))}: difference in points, [95 % paired t interval over seeds]."
    ]
    for verdict, meaning in VERDICTS.items():
        rows = table.loc[table.verdict == verdict].to_dict("records")
        if not rows:
            continue
        lines += ["", f"**{verdict}** ({len(rows)}; {meaning}):"]
        if verdict in ("not run", "tested differently"):
            lines[-1] += " " + "; ".join(f"{r['better in the paper']} over {r['worse in the paper']}" for r in rows)
        else:
            lines += ["", *map(_line, rows)]
    return "\n".join(lines)


def _line(row: dict) -> str:
    """One claim that was run, in one line."""
    text = f"- {row['better in the paper']} over {row['worse in the paper']}"
    text += f": {row['difference']:+.1f}"
    if row["seeds"] > 1:
        text += f" [{row['low']:+.1f}, {row['high']:+.1f}]"
    text += f", above in {row['wins']} of {row['seeds']} seeds"
    needed = row.get("seeds to decide", nan)
    if isnan(needed):
        return text
    number = "more than 1000" if needed == float("inf") else f"about {needed:.0f}"
    return f"{text}; at this mean and spread {number} seeds would decide"


def missing_runs(
    suite: str, results: pd.DataFrame, seeds: int = 3, *, dataset: str = "sidewalk-small", preset: str = "quick"
) -> pd.DataFrame:
    """Rows of a suite that lack some of the seeds 0 .. seeds-1: system, missing (a list as text), command.

    The command trains all of them and skips what is finished. Raises UnknownNameError for an unknown suite.
    """
    from reidkit.training.suites import suite as rows_of

    here = results[(results["dataset"] == dataset) & (results["preset"] == preset)]
    name, _, size = dataset.partition("-") if dataset.startswith("sidewalk-") else (dataset, "", "")
    command = f"reidkit ablate {suite} --dataset {name}" + (f" --size {size}" if size else "")
    command += f" --preset {preset} --seeds {seeds}"
    rows = []
    for entry in rows_of(suite):
        lacking = sorted(set(range(seeds)) - set(here.seed[here.system == entry.system]))
        if lacking:
            rows.append([entry.system, ", ".join(map(str, lacking)), command])
    return pd.DataFrame(rows, columns=["system", "missing seeds", "command"])
