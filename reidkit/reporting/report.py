"""Measured numbers beside the papers' numbers: spread over seeds, paired differences, tables.

Everything below works on the one long table of `results.collect_results`.
Fractions in [0, 1] in that table; percent, as the papers print them, in `report_table` and `ordering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isclose, nan, sqrt
from pathlib import Path

import pandas as pd

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.reporting.results import COLUMNS, GROUP, PROVENANCE, collect_results, mean_spread, no_results

__all__ = [
    "COLUMNS",
    "GROUP",
    "PAPER",
    "PROVENANCE",
    "PairedDifference",
    "collect_results",
    "has_paper_table",
    "markdown",
    "mean_spread",
    "metrics_of_table",
    "no_results",
    "ordering",
    "paired_difference",
    "paper_orderings",
    "paper_table",
    "percent",
    "report_table",
    "rows_of_table",
    "t_quantile",
]

TEST_ORDER = ("released", "multi-query", "ours")  # of the columns of `report_table`
PAPER = Path(__file__).resolve().parents[2] / "results" / "paper"


@dataclass(frozen=True)
class PairedDifference:
    """a - b over the seeds that both have. mean, sd, low, high: fractions; low, high: the paired t interval
    (NaN for one seed). wins: seeds in which a is above b. n: seeds."""

    mean: float
    sd: float
    low: float
    high: float
    wins: int
    n: int

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}] ({self.wins} of {self.n} seeds)"


def paired_difference(
    results: pd.DataFrame,
    a: str,
    b: str,
    metric: str = "mAP",
    *,
    level: str | None = None,
    dataset: str | None = None,
    preset: str | None = None,
    confidence: float = 0.95,
) -> PairedDifference:
    """The difference of two systems, seed by seed, with a paired t interval.

    Variants of a seed share data, initial weights and batches, so their differences spread less than the
    numbers themselves. level, dataset, preset: needed where the table holds more than one.
    Raises UnknownNameError for a system that has no runs, ReIDKitError without a common seed, when ambiguous, and where
    the two were tested in different forms (one with mirror images, say).
    """
    columns = [_series(results, name, metric, level=level, dataset=dataset, preset=preset) for name in (a, b)]
    forms = [_forms(results, name, level=level, dataset=dataset, preset=preset) for name in (a, b)]
    if forms[0] != forms[1]:
        said = " and ".join(f"{name} with {', '.join(sorted(form))}" for name, form in zip((a, b), forms))
        raise ReIDKitError(f"{said}: numbers of two forms of testing have no difference; train both with one test_flip")
    d = (columns[0] - columns[1]).dropna().to_numpy()
    n = len(d)
    if n == 0:
        raise ReIDKitError(f"{a} and {b} have no seed in common; train both with the same seeds")
    mean = float(d.mean())
    if n == 1:
        return PairedDifference(mean, nan, nan, nan, int(mean > 0), 1)
    sd = float(d.std(ddof=1))
    half = t_quantile(confidence, n - 1) * sd / sqrt(n)
    return PairedDifference(mean, sd, mean - half, mean + half, int((d > 0).sum()), n)


def _forms(results: pd.DataFrame, system: str, **wanted: str | None) -> set[str]:
    """How a system was tested; empty where the table does not say."""
    t = results[(results["test"] == "ours") & (results["system"] == system)]
    for column, value in wanted.items():
        t = t if value is None else t[t[column] == value]
    return set(t["form"]) if "form" in t else set()


def _series(results: pd.DataFrame, system: str, metric: str, **wanted: str | None) -> pd.Series:
    """{seed: value} of one system; every other column must be one value."""
    t = results.loc[results["shift"].isna() & (results["test"] == "ours")]
    for column, value in {"system": system, "metric": metric, **wanted}.items():
        if value is not None:
            if value not in set(t[column]):
                raise unknown_name(column, value, set(t[column].astype(str)))
            t = t.loc[t[column] == value]
        elif t[column].nunique() > 1:
            raise ReIDKitError(
                f"{system} has results for several {column}s ({', '.join(sorted(set(t[column])))}); "
                f"name one with {column}=..."
            )
    return t.set_index("seed")["value"]


@cache
def t_quantile(confidence: float, degrees: int) -> float:
    """t with P(|T| < t) = confidence for Student's T with `degrees` >= 1 degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, degrees))


def ordering(
    results: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metric: str = "mAP",
    *,
    level: str | None = None,
    dataset: str | None = None,
    preset: str | None = None,
) -> pd.DataFrame:
    """Do the orderings (better, worse) that a paper reports appear in our runs?

    verdict: "appears" (the 95 % paired interval lies above zero), "reversed" (below zero), "undecided" (it holds
    zero), "one seed", "tested differently" (in two forms, see `evaluation.forms`), or "not run" (no seed has both).
    Differences in points (percent).
    """
    t = results.loc[results["shift"].isna() & (results["metric"] == metric) & (results["test"] == "ours")]
    for column, value in {"level": level, "dataset": dataset, "preset": preset}.items():
        t = t if value is None else t[t[column] == value]
    rows, seeds = [], {system: set(part["seed"]) for system, part in t.groupby("system")}
    for better, worse in pairs:
        if not seeds.get(better, set()) & seeds.get(worse, set()):
            rows.append([better, worse, metric, nan, nan, nan, 0, 0, "not run"])
            continue
        if _forms(t, better) != _forms(t, worse):
            rows.append([better, worse, metric, nan, nan, nan, 0, 0, "tested differently"])
            continue
        d = paired_difference(results, better, worse, metric, level=level, dataset=dataset, preset=preset)
        verdict = "one seed" if d.n == 1 else "appears" if d.low > 0 else "reversed" if d.high < 0 else "undecided"
        rows.append([better, worse, metric, 100 * d.mean, 100 * d.low, 100 * d.high, d.wins, d.n, verdict])
    return pd.DataFrame(
        rows,
        columns=[
            "better in the paper",
            "worse in the paper",
            "metric",
            "difference",
            "low",
            "high",
            "wins",
            "seeds",
            "verdict",
        ],
    )


def paper_table(suite: str, folder: str | Path = PAPER) -> pd.DataFrame:
    """The paper's table of a suite: row, variant, dataset, metric, value in percent (`results/paper/`)."""
    if not has_paper_table(suite, folder):
        raise unknown_name("table of the papers", suite, [p.stem for p in Path(folder).glob("*.csv")])
    return pd.read_csv(Path(folder) / f"{suite}.csv", keep_default_na=False, dtype={"value": float})


def has_paper_table(suite: str, folder: str | Path = PAPER) -> bool:
    """Whether the papers print a table of a suite's rows."""
    return (Path(folder) / f"{suite}.csv").is_file()


def paper_orderings(suite: str, metric: str = "mAP", folder: str | Path = PAPER) -> list[tuple[str, str]]:
    """Pairs (better, worse) of variants that the paper's table orders the same way on every data set it has."""
    t = paper_table(suite, folder)
    t = t[(t.metric == metric) & (t.variant != "")]
    wide = t.pivot_table(index="variant", columns="dataset", values="value", sort=False)
    pairs = []
    for a in wide.index:
        for b in wide.index:
            difference = (wide.loc[a] - wide.loc[b]).dropna()
            if a != b and len(difference) and (difference > 0).all():
                pairs.append((a, b))
    return pairs


def report_table(
    suite: str,
    results: pd.DataFrame | None = None,
    paper: bool = True,
    *,
    systems: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    folder: str | Path = PAPER,
) -> pd.DataFrame:
    """Our numbers beside the paper's: one line a row of the paper's table, all cells text, percent.

    metrics: of ours; default those of the paper's table (Rank-1 and mAP; CGPN Table 2 has Rank-5 and Rank-10 too).

    Columns "paper: market1501 mAP" hold the printed numbers; columns "ours: sidewalk-small quick mild (step AP) mAP"
    our mean +- standard deviation over seeds, with the number of seeds, and in brackets how they were tested; two
    forms of testing never share a column. The columns "released: ..." of runs of the preset `paper` are tested as the
    released code of MPN does, and stand first: they are what compares with MPN's printed numbers; "multi-query: ..."
    is the same test with all views of a query (MPN Table 5, sets that have them).
    Where the data are not the same, the labels say so.
    Rows of our suite that the paper's table lacks follow it (all of them, for a figure's suite).
    systems: other rows than the suite's. Raises UnknownNameError for a name that is neither a suite nor a table.
    """
    columns: dict[str, dict[str, str]] = {}
    labels = rows_of_table(suite, Path(folder)) if systems is None else {name: name for name in systems}
    if paper and systems is None and (Path(folder) / f"{suite}.csv").is_file():
        for _, part in paper_table(suite, folder).groupby(["dataset", "metric"], sort=False):
            name = " ".join(filter(None, ("paper:", part["dataset"].iloc[0], part["metric"].iloc[0])))
            columns[name] = {row: f"{value:.1f}" for row, value in zip(part.row, part.value)}
    if results is not None:
        columns |= _our_columns(results, labels, metrics or metrics_of_table(suite, Path(folder)))
    table = pd.DataFrame(columns, index=pd.Index(labels, name=suite), dtype=object)
    return table.fillna("-")


def rows_of_table(suite: str, folder: Path = PAPER) -> dict[str, str]:
    """{row label: system} of the paper's table, then of the suite's entries that the table lacks.

    A row of the paper is the suite's one entry of its variant: "IDE" is "ide test_flip=mean" in CGPN's Table 1.
    """
    from reidkit.training.suites import SUITES, systems_of

    entries = [e.system for e in SUITES.get(suite, ())]
    if entries and not (folder / f"{suite}.csv").is_file():
        return {name: name for name in entries}
    t, systems = paper_table(suite, folder), systems_of(suite)
    labels = {row: systems[name] if name in systems else name for row, name in zip(t.row, t.variant)}
    return labels | {name: name for name in entries if name not in labels.values()}


def metrics_of_table(suite: str, folder: Path = PAPER) -> list[str]:
    """The metrics that the paper's table prints of one test: Rank-1 and mAP at least."""
    usual = ["rank1", "mAP"]
    if not (folder / f"{suite}.csv").is_file():
        return usual
    printed = dict.fromkeys(paper_table(suite, folder).metric)
    found = [m for m in printed if m in ("rank1", "rank5", "rank10", "mAP")]
    return found if set(usual) <= set(found) else usual


def _our_columns(results: pd.DataFrame, labels: dict[str, str], metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """{column label: {row label: "77.2 +- 0.5 (3)"}} for every data set, preset and level that has a result."""
    spread = mean_spread(results.loc[results["shift"].isna() & results["metric"].isin(metrics)])
    order = {m: i for i, m in enumerate(metrics)}
    columns: dict[tuple, dict[str, str]] = {}
    for row, system in labels.items():
        for r in spread.loc[spread.system == system].to_dict("records"):
            key = (TEST_ORDER.index(r["test"]), r["dataset"], r["preset"], r["level"], r["form"], order[r["metric"]])
            name = "{test}: {dataset} {preset} {level} ({form}) {metric}".format(**r)
            columns.setdefault((key, name), {})[row] = percent(r["mean"], r["sd"], r["n"])
    return {name: column for (_, name), column in sorted(columns.items())}


def percent(mean: float, sd: float, n: int) -> str:
    """ "77.2 ± 0.5 (3)": mean and standard deviation in percent, and the number of seeds."""
    return f"{100 * mean:.1f} (1)" if n == 1 else f"{100 * mean:.1f} ± {100 * sd:.1f} ({n})"


def markdown(table: pd.DataFrame) -> str:
    """A DataFrame of text as a Markdown table (for notebooks and files under `results/`)."""
    head = [table.index.name or "", *map(str, table.columns)]
    rows = [[str(i), *map(_cell, row)] for i, row in zip(table.index, table.itertuples(index=False))]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else str(round(value)) if isclose(value, round(value)) else f"{value:.2f}"
    return str(value)
