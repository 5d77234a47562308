"""Measured numbers beside the papers' numbers: collect runs, spread over seeds, paired differences.

A result is one row: run, system (the variant and what was changed in its recipe), data set, preset, seed,
test level, test and form (how it was tested: "ours" by the run's own recipe, "released" as the released code of MPN
does; the form says it in words, see `evaluation.forms`), metric, value, and where it comes from.
Everything below works on that one long table, so it can also be kept as a CSV.
Fractions in [0, 1] in the table; percent, as the papers print them, in `report_table` and `ordering`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isclose, nan, sqrt
from pathlib import Path

import numpy as np
import pandas as pd

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.forms import TestForm

PROVENANCE = ["commit", "device", "command"]
COLUMNS = [
    "run",
    "system",
    "variant",
    "dataset",
    "preset",
    "seed",
    "level",
    "test",
    "form",
    "shift",
    "metric",
    "value",
    *PROVENANCE,
]
GROUP = ["system", "variant", "dataset", "preset", "level", "test", "form", "shift", "metric"]  # all but the seed
PAPER = Path(__file__).resolve().parents[2] / "results" / "paper"
COUNTS = ("queries",)  # entries of a level's metrics that are no metric


def collect_results(path: str | Path, tests: Sequence[str] = ("ours",)) -> pd.DataFrame:
    """All finished runs under a folder (itself and its sub-folders), or a CSV that this table was saved to.

    tests: "ours", and "released" for the second test of runs of the preset `paper`.

    Returns a DataFrame with the columns of `COLUMNS`; `shift` is NaN except for the controlled-shift queries,
    `value` a fraction. Raises ReIDKitError where there is no finished run, a file cannot be read, or two runs
    stand for the same system, data set, preset and seed (no mean over seeds could be trusted then).
    """
    path = Path(path)
    if path.suffix == ".csv" and path.is_file():
        table = pd.read_csv(path, dtype=dict.fromkeys(PROVENANCE, str)).fillna(dict.fromkeys(PROVENANCE, ""))
        if "test" not in table and "form" not in table:  # written by an older kit
            table = table.assign(test="ours", form="form of the test not recorded")
        table = _checked(table, path).loc[:, COLUMNS]
        return table.loc[table["test"].isin(tests)].reset_index(drop=True)
    files = sorted([*path.glob("result.json"), *path.glob("*/result.json")])  # not what is nested deeper
    if not files:
        raise ReIDKitError(f"{path} holds no finished run (no result.json); train one with `reidkit train`")
    rows = [row for file in files for row in _rows(file)]
    table = _checked(pd.DataFrame(rows, columns=COLUMNS), path)
    return table.loc[table["test"].isin(tests)].reset_index(drop=True)


def no_results() -> pd.DataFrame:
    """The table of `collect_results` without a row, for pages that are written before the first run ends."""
    return pd.DataFrame(columns=COLUMNS).astype({"seed": int, "shift": float, "value": float})


def _rows(file: Path) -> Iterable[list]:
    """The rows of one result.json."""
    try:
        r = json.loads(file.read_text())
        head = [file.parent.name, _system(r), r["variant"], _dataset(r), r["preset"], int(r["seed"])]
        tail = [str(r.get("provenance", {}).get(k, "")) for k in PROVENANCE]
        tests = {"ours": (_form(r), r["metrics"])}
        if "released" in r:
            tests["released"] = TestForm.from_dict(r["released"]["test"]), r["released"]["metrics"]
        levels = [(level, test, str(form), m) for test, (form, found) in tests.items() for level, m in found.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ReIDKitError(
            f"{file} is not a result of `reidkit train` ({type(e).__name__}: {e}); delete it or train the run again"
        ) from e
    for level, test, form, metrics in levels:
        for shift, values in {nan: metrics, **metrics.get("by_shift", {})}.items():
            for metric, value in values.items():
                if metric not in (*COUNTS, "by_shift"):
                    yield [*head, level, test, form, float(shift), metric, float(value), *tail]


def _form(result: dict) -> TestForm:
    """How a result was tested. Older kits did not write it down, but had one form only: step AP, the recipe's flip."""
    recipe = result.get("recipe") or {}
    return TestForm.from_dict(result.get("test") or {"flip": recipe.get("test_flip", "none")})


def _dataset(result: dict) -> str:
    """`sidewalk-small` instead of `sidewalk`: a number means nothing without the size of the set."""
    name, size = result["dataset"], result.get("dataset_info", {}).get("size")
    return f"{name}-{size}" if size and str(size) not in name else name


def _system(result: dict) -> str:
    """The variant's name, followed by the settings that differ from its preset: "mpn model.num_parts=4".

    A run says itself what was changed. One of an older kit does not: its recipe is held against the preset.
    """
    from reidkit.training.ide import own_changes
    from reidkit.training.recipes import PRESETS, Recipe

    changes = result.get("changes")
    if changes is None and result.get("recipe") is not None:
        if result["preset"] not in PRESETS:
            return f"{result['variant']} (preset {result['preset']})"
        changes = own_changes(result["variant"], Recipe.from_dict(result["recipe"]), result["preset"])
        changes.pop("precision", None)  # older kits wrote what "auto" became
    if changes is not None and result["preset"] not in PRESETS:
        return f"{result['variant']} (preset {result['preset']})"
    return " ".join([result["variant"], *(f"{k}={v}" for k, v in sorted((changes or {}).items()))])


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if missing := set(COLUMNS) - set(table.columns):
        raise ReIDKitError(f"{path} lacks the columns {sorted(missing)}; write it from `collect_results`")
    twice = table[table.duplicated([*GROUP, "seed"], keep=False)]
    if len(twice):
        row = twice.iloc[0]
        runs = sorted(set(twice.run[(twice.system == row.system) & (twice.seed == row.seed)]))
        raise ReIDKitError(
            f"{path}: several runs of {row.system!r} on {row.dataset}, preset {row.preset}, seed "
            f"{row.seed}: {', '.join(runs)}. Keep one of them"
        )
    return table


def mean_spread(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds of every system, data set, preset, level and metric.

    Adds the columns `mean`, `sd` (NaN for one seed) and `n`, the number of seeds.
    """
    grouped = results.groupby(GROUP, dropna=False, sort=False)["value"]
    return grouped.agg(mean="mean", sd="std", n="count").reset_index()


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
    Raises UnknownNameError for a system that has no runs, ReIDKitError without a common seed or when ambiguous.
    """
    columns = [_series(results, name, metric, level=level, dataset=dataset, preset=preset) for name in (a, b)]
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
    """t with P(|T| < t) = confidence for Student's T with `degrees` >= 1 degrees of freedom.

    With T = sqrt(degrees) tan(x) the density of x is proportional to cos(x)^(degrees - 1) on (-pi/2, pi/2):
    smooth and bounded, so the trapezoid rule and an interpolation suffice (1e-5 up to 99 %).
    """
    x = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(x) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(sqrt(degrees) * np.tan(np.interp(confidence * mass[-1], mass, x)))


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
    zero), "one seed", or "not run" (no seed has both). Differences in points (percent).
    """
    t = results.loc[results["shift"].isna() & (results["metric"] == metric) & (results["test"] == "ours")]
    for column, value in {"level": level, "dataset": dataset, "preset": preset}.items():
        t = t if value is None else t[t[column] == value]
    rows, seeds = [], {system: set(part["seed"]) for system, part in t.groupby("system")}
    for better, worse in pairs:
        if not seeds.get(better, set()) & seeds.get(worse, set()):
            rows.append([better, worse, metric, nan, nan, nan, 0, 0, "not run"])
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
    file = Path(folder) / f"{suite}.csv"
    if not file.is_file():
        raise unknown_name("table of the papers", suite, [p.stem for p in Path(folder).glob("*.csv")])
    return pd.read_csv(file, keep_default_na=False, dtype={"value": float})


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
    metrics: Sequence[str] = ("rank1", "mAP"),
    folder: str | Path = PAPER,
) -> pd.DataFrame:
    """Our numbers beside the paper's: one line a row of the paper's table, all cells text, percent.

    Columns "paper: market1501 mAP" hold the printed numbers; columns "ours: sidewalk-small quick mild (step AP) mAP"
    our mean +- standard deviation over seeds, with the number of seeds, and in brackets how they were tested; two
    forms of testing never share a column. The columns "released: ..." of runs of the preset `paper` are tested as the
    released code of MPN does, and stand first: they are what compares with MPN's printed numbers.
    Where the data are not the same, the labels say so.
    Rows of our suite that the paper's table lacks follow it (all of them, for a figure's suite).
    systems: other rows than the suite's. Raises UnknownNameError for a name that is neither a suite nor a table.
    """
    columns: dict[str, dict[str, str]] = {}
    labels = _rows_of(suite, Path(folder)) if systems is None else {name: name for name in systems}
    if paper and systems is None and (Path(folder) / f"{suite}.csv").is_file():
        for _, part in paper_table(suite, folder).groupby(["dataset", "metric"], sort=False):
            name = " ".join(filter(None, ("paper:", part["dataset"].iloc[0], part["metric"].iloc[0])))
            columns[name] = {row: f"{value:.1f}" for row, value in zip(part.row, part.value)}
    if results is not None:
        columns |= _our_columns(results, labels, metrics)
    table = pd.DataFrame(columns, index=pd.Index(labels, name=suite), dtype=object)
    return table.fillna("-")


def _rows_of(suite: str, folder: Path) -> dict[str, str]:
    """{row label: system} of the paper's table, then of the suite's entries that the table lacks."""
    from reidkit.training.suites import SUITES

    entries = [e.system for e in SUITES.get(suite, ())]
    if entries and not (folder / f"{suite}.csv").is_file():
        return {name: name for name in entries}
    t = paper_table(suite, folder)
    labels = dict(zip(t.row, t.variant))
    return labels | {name: name for name in entries if name not in labels.values()}


def _our_columns(results: pd.DataFrame, labels: dict[str, str], metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """{column label: {row label: "77.2 +- 0.5 (3)"}} for every data set, preset and level that has a result."""
    spread = mean_spread(results.loc[results["shift"].isna() & results["metric"].isin(metrics)])
    order = {m: i for i, m in enumerate(metrics)}
    columns: dict[tuple, dict[str, str]] = {}
    for row, system in labels.items():
        for r in spread.loc[spread.system == system].to_dict("records"):
            key = (r["test"] != "released", r["dataset"], r["preset"], r["level"], r["form"], order[r["metric"]])
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
