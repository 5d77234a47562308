"""The difference of two systems over seeds, in numbers and as a picture: dots, their mean, its paired interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.panels.kit.drawing import BLUE, GREY, INK, MUTED, ORANGE, text
from reidkit.panels.kit.sketch import Sketch
from reidkit.reporting.report import PairedDifference, _series, collect_results, paired_difference


def read_results(results: pd.DataFrame | str | Path | None, folders: list[Path]) -> pd.DataFrame:
    """The table of `collect_results`: as given, or of a folder or CSV; runs that it lacks add what they scored."""
    if results is None:
        table = pd.DataFrame(columns=["run"])
    else:
        table = results if isinstance(results, pd.DataFrame) else collect_results(results)
    lacking = [collect_results(folder) for folder in folders if folder.name not in set(table["run"])]
    return pd.concat([t for t in (table, *lacking) if len(t)], ignore_index=True) if lacking else table


@dataclass(frozen=True)
class Seeds:
    """difference: over the common seeds, or None; points: {seed: difference}; words: it, or why there is none."""

    words: str
    difference: PairedDifference | None = None
    points: dict[int, float] = field(default_factory=dict)


def run_row(results: pd.DataFrame, run: str) -> pd.Series | None:
    """The system, data set and preset of a run in a table of results; None where it is not in there."""
    rows = results[results["run"] == run]
    return rows.iloc[0] if len(rows) else None


def seed_differences(results: pd.DataFrame, a: pd.Series | None, b: pd.Series | None, metric: str, level: str) -> Seeds:
    """a - b seed by seed (`report.paired_difference`); where that means nothing, the reason."""
    if a is None or b is None:
        return Seeds("not known (a run is not in the results)")
    if (a.dataset, a.preset) != (b.dataset, b.preset):
        return Seeds(f"not comparable ({a.dataset} {a.preset}, {b.dataset} {b.preset})")
    if a.system == b.system:
        return Seeds(f"two runs of one system, {a.system}")
    where = {"level": level, "dataset": a.dataset, "preset": a.preset}
    try:
        difference = paired_difference(results, a.system, b.system, metric, **where)
    except ReIDKitError as error:
        return Seeds(f"none ({error})")
    points = (_series(results, a.system, metric, **where) - _series(results, b.system, metric, **where)).dropna()
    words = f"{100 * difference.mean:+.1f} on one seed, so no interval" if difference.n == 1 else str(difference)
    return Seeds(words, difference, points.to_dict())


def draw_interval(picture: Sketch, box: Sequence[float], seeds: Seeds, title: str) -> None:
    """A number line: a dot a seed, a bar for the 95 % interval, zero marked. box: x0, y0, x1, y1."""
    x0, y0, x1, y1 = box
    if seeds.difference is None:
        return
    d, y = seeds.difference, y0 + 14
    ends = [*seeds.points.values(), *((d.low, d.high) if d.n > 1 else ())]
    reach = 1.15 * max(*map(abs, ends), 0.005)
    at = lambda v: (x0 + x1) / 2 + v / reach * (x1 - x0) / 2  # noqa: E731
    picture.line([x0, y, x1, y], GREY)
    picture.line([at(0), y - 10, at(0), y + 10], INK, 2)
    if d.n > 1:
        colour = BLUE if d.low > 0 else ORANGE if d.high < 0 else GREY
        picture.rectangle([at(d.low), y - 5, at(d.high), y + 5], fill=colour)
        picture.line([at(d.mean), y - 8, at(d.mean), y + 8], INK, 3)
    for value in seeds.points.values():
        picture.ellipse([at(value) - 4, y - 4, at(value) + 4, y + 4], fill="white", outline=INK, width=2)
    text(picture, (at(0), y1), "0", 12, MUTED, "mm")
    text(picture, (x0, y1), f"B better {-100 * reach:.1f}", 12, MUTED, "lm")
    text(picture, (x1, y1), f"{100 * reach:.1f} A better", 12, MUTED, "rm")
    text(picture, ((x0 + x1) / 2 + 14, y1), title, 12, MUTED, "lm")
