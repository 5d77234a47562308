"""What several notebooks say in the same way: two results compared, an error shown, our numbers
beside a paper's."""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from reidkit.errors import ReIDKitError
from reidkit.reporting import claims, plots, report
from reidkit.training.suites import SUITES

AGREED: list[bool] = []  # one entry a comparison of this notebook


def compare(name: str, by_hand: Any, kit: Any) -> None:
    """Print whether two results are bit for bit the same, the same up to rounding, and how far
    apart they are."""
    by_hand, kit = torch.as_tensor(by_hand).detach(), torch.as_tensor(kit).detach()
    exact, close = torch.equal(by_hand, kit), torch.allclose(by_hand, kit, atol=1e-5, rtol=1e-4)
    AGREED.append(close)
    difference = (by_hand - kit).abs().max().item()
    print(f"{name:34s} exact {exact!s:5}  approximate {close!s:5}  max difference {difference:.1e}")


WIDTH = 98  # columns of what a cell prints: a projector shows a hundred


def say(*parts: Any) -> None:
    """`print`, with long lines wrapped."""
    for line in " ".join(map(str, parts)).splitlines() or [""]:
        print(textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def told(call: Callable[[], Any], **folders: str | Path) -> None:
    """Print what a call returns, its warnings, or the error that it raises; folders: names to print
    for long paths."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            text = str(call())
        except ReIDKitError as error:
            text = f"{type(error).__name__}: {error}"
    text = "\n".join(
        [*(f"warning: {w.message}" for w in caught if w.category is UserWarning), text]
    )
    for name, folder in folders.items():
        for long in (os.path.abspath(folder), os.path.realpath(folder)):  # not the same for a link
            text = text.replace(long, name)
    say(text)


# a paper's tables over several seeds (05, 09, 13)


def label_of(dataset: Mapping[str, str]) -> str:
    """How results name a data set: {"name": "sidewalk", "size": "small"} -> "sidewalk-small"."""
    return "-".join(filter(None, (dataset["name"], dataset.get("size"))))


def all_results(places: Sequence[Path], wanted: str = "") -> tuple[pd.DataFrame, str]:
    """The runs of the first place that holds one whose system begins with `wanted`, and that place.

    places: tables (csv) or folders of runs.
    """
    for place in places:
        if place.is_file() or any(place.glob("*/result.json")):
            table = report.collect_results(place)
            if table.system.str.startswith(wanted).any():
                return table, place.as_posix()
    return report.no_results(), "nowhere"


def missing_runs(
    results: pd.DataFrame, suites: Sequence[str], seeds: int, **where: str
) -> dict[str, pd.DataFrame]:
    """{suite: its rows that lack some of the seeds}; prints them and the command that trains
    them."""
    missing = {suite: claims.missing_runs(suite, results, seeds, **where) for suite in suites}
    for suite, table in missing.items():
        rows, lacking = len(SUITES[suite]), len(table)
        print(
            f"{suite}: {rows - lacking} of {rows} rows have {seeds} seeds"
            + ("" if lacking else ", complete")
        )
        if lacking:
            say("   missing:", "; ".join(f"{r.system} (seed {r[2]})" for r in table.itertuples()))
            print(f"   {table.command.iloc[0]}")
    return missing


def beside_the_paper(suite: str, results: pd.DataFrame, lacking: pd.DataFrame) -> pd.DataFrame:
    """The paper's table and our columns, the metric as a second line of the heading; rows that the
    kit can build."""
    table = report.report_table(suite, results)
    table.columns = pd.MultiIndex.from_tuples([tuple(c.rsplit(" ", 1)) for c in table.columns])
    built = set(report.paper_table(suite).query("variant != ''").row) | {
        entry.system for entry in SUITES[suite]
    }
    if len(lacking):
        print(f"rows that lack some seeds: {', '.join(lacking.system)}\n{lacking.command.iloc[0]}")
    return table.loc[[row for row in table.index if row in built]]


def pairs_as_predicted(prediction: Sequence[str] | None, results: pd.DataFrame, level: str) -> None:
    """Print how many pairs of a predicted order, from worst to best, come out in mAP."""
    if not prediction:
        print("you made no prediction; the cell above the tables waits for one")
        return
    rows = results[(results.level == level) & (results.metric == "mAP")]
    mean = report.mean_spread(rows).set_index("system")["mean"]
    have = [s for s in prediction if s in mean]
    pairs = [(a, b) for i, a in enumerate(have) for b in have[i + 1 :]]
    print(
        f"{sum(mean[a] < mean[b] for a, b in pairs)} of {len(pairs)} pairs as you predicted, on "
        f"{level}"
    )


def verdict_of(row: pd.Series) -> str:
    """A difference and its verdict, "+3.1 appears", or the verdict alone where there is no
    difference."""
    return f"{row.difference:+.1f} {row.verdict}" if row.seeds else row.verdict


def claims_overview(
    checked: Mapping[tuple[str, str], pd.DataFrame], first: tuple[str, str]
) -> pd.DataFrame:
    """The paper's claims, its own difference in mAP, and our verdict a (level, metric); seeds: of
    the first."""
    grid = {
        f"ours: {level} {metric}": t.apply(verdict_of, axis=1)
        for (level, metric), t in checked.items()
    }
    table = checked[first]
    about = table[["where", "better in the paper", "worse in the paper", "paper"]]
    about = (
        about.rename(columns={"paper": "paper: mAP"})
        .assign(**grid, seeds=table.seeds)
        .set_index("where")
    )
    about["paper: mAP"] = about["paper: mAP"].map(lambda v: "-" if np.isnan(v) else f"{v:+.1f}")
    return about


def interval_of(row: pd.Series) -> str:
    """A difference and its interval, "+1.2 [-0.3, +2.7]"; of one seed the difference alone."""
    interval = f" [{row.low:+.1f}, {row.high:+.1f}]" if row.seeds > 1 else ""
    return f"{row.difference:+.1f}{interval}"


def draw_claims(table: pd.DataFrame, title: str) -> Figure | None:
    """The intervals as a picture, or a line that says what is missing."""
    if (table.seeds == 0).all():
        print(f"{title}: no pair of systems was run; see the commands above")
        return None
    return plots.differences(table, title)


def tally_orderings(results: pd.DataFrame, suites: Sequence[str], **where: str) -> pd.DataFrame:
    """For each suite and level: how many pairs that the paper orders in mAP appear, are reversed or
    undecided."""
    counts = {}
    for suite in suites:
        pairs = report.paper_orderings(suite, "mAP")
        for level in dict.fromkeys(results.level):
            verdicts = report.ordering(results, pairs, "mAP", level=level, **where).verdict
            counts[suite, level] = verdicts.value_counts()
    order = [v for v in claims.VERDICTS if any(v in c for c in counts.values())]
    tally = pd.DataFrame(counts).T.reindex(columns=order).fillna(0).astype(int)
    return tally.assign(pairs=tally.sum(axis=1)).rename_axis(["orderings in mAP", "level"])


def power(checked: pd.DataFrame) -> None:
    """Print what the intervals of some claims can decide: chance findings, their length, seeds that
    would be needed."""
    decided = checked[checked.verdict.isin(["appears", "reversed", "undecided"])]
    chance = 0.05 * len(decided)
    say(
        f"{len(decided)} intervals at 95 %: even if no system differed from another, about "
        f"{chance:.0f} of them would leave out zero by chance."
    )
    if len(decided):
        half = (decided.high - decided.low) / 2
        small, printed = int((decided.paper.abs() < half).sum()), int(decided.paper.notna().sum())
        say(
            f"Median half length of an interval: {half.median():.1f} points; a smaller difference "
            "seldom shows here."
        )
        say(
            f"{small} of the {printed} differences that the paper prints are smaller than our half "
            "interval."
        )
    if len(needed := checked["seeds to decide"].dropna()):
        say(
            f"Undecided: {len(needed)}. Seeds that would decide half of them at their present "
            f"spread: {needed.median():.0f}"
        )
