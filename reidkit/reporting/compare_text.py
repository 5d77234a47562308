"""A comparison as text for a terminal, 120 columns wide: one row a level, then the queries that changed most."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

import pandas as pd

from reidkit.reporting.compare import Comparison
from reidkit.reporting.text import fitted, wrapped

WHAT_IT_SAYS = (
    "The interval says how these two networks would stand on other people. How two other trainings of them would, only "
    "seeds say: compare variants, or tables of runs."
)


def comparison_text(comparison: Comparison, top: int = 5) -> str:
    """Names, how it was compared, notes, the table of levels and, of two runs, the `top` queries of each level."""
    return "\n".join(_paragraphs(comparison, top))


def _paragraphs(c: Comparison, top: int) -> Iterator[str]:
    yield from (wrapped(f"{letter}  {name}", indent="   ") for letter, name in (("A", c.a), ("B", c.b)))
    yield wrapped(f"{c.metric} in percent, {c.about}")
    yield from (wrapped(f"note: {note}", indent="  ") for note in c.notes)
    for scale, part in c.levels.groupby("scale", sort=False):
        yield f"\n{wrapped(str(scale))}\n{fitted(_levels(part, queries=len(c.queries) > 0), left=('level', 'verdict'))}"
    if len(c.queries):
        yield "\n" + wrapped(WHAT_IT_SAYS)
        for level in dict.fromkeys(c.queries.level) if top else ():
            changed = c.changed(level, top)
            yield f"\nqueries of {level} whose AP changed most" + ("" if len(changed) else ": none has changed")
            if len(changed):
                yield fitted(_queries(changed))


def _levels(part: pd.DataFrame, queries: bool) -> pd.DataFrame:
    """The rows of `Comparison.levels` as text; of several systems each row has its system's name before it."""
    named = any(part["row"])
    columns = {"level": part["level"]} if named else {}
    columns |= {name: part[key].map(_number) for name, key in (("A", "a"), ("B", "b"))}
    columns["A - B"] = part["difference"].map(_signed)
    columns["95 % interval"] = [
        "-" if low == "-" else f"[{low}, {high}]"
        for low, high in zip(part["low"].map(_signed), part["high"].map(_signed))
    ]
    columns["queries" if queries else "seeds"] = part["n"].astype(str)
    if queries:
        columns["people"] = part["people"].astype(str)
    table = pd.DataFrame(columns | {"verdict": part["verdict"]})
    return table.set_axis(pd.Index(part["row"] if named else part["level"], name="system" if named else "level"))


def _queries(changed: pd.DataFrame) -> pd.DataFrame:
    columns = {"AP in A": changed.ap_a.map("{:.3f}".format), "AP in B": changed.ap_b.map("{:.3f}".format)}
    columns["A - B"] = changed.difference.map("{:+.3f}".format)
    columns |= {f"first match in {x}": changed[f"first_{x.lower()}"].astype(str) for x in "AB"}
    return pd.DataFrame(columns).set_axis(pd.Index(changed.file, name="file"))


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.1f}"


def _signed(value: float) -> str:
    return "-" if isnan(value) else f"{value:+.1f}"
