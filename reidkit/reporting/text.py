"""Tables as text that fits a terminal: at most 120 columns, whatever the number of columns and the length of names."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

import pandas as pd

from reidkit.reporting.report import (
    TEST_ORDER,
    has_paper_table,
    metrics_of_table,
    paper_table,
    percent,
    rows_of_table,
)
from reidkit.reporting.results import mean_spread

WIDTH = 120
GAP = "  "


def wrapped(text: str, indent: str = "", width: int = WIDTH) -> str:
    """Lines of at most `width`, all but the first indented; no path or command is cut in two."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def fitted(table: pd.DataFrame, *, left: Sequence[str] = (), width: int = WIDTH) -> str:
    """A table of text: row labels, cells flush right (those of the columns `left` flush left).

    Where it is too wide, headers are broken at spaces; columns that do not fit even then follow below, with the labels
    again: those whose names begin with the same word stay together where that fits, and rows that have no cell there
    are left out. Long labels take several lines.
    """
    labels = _column([table.index.name or "", *table.index], width // 3, str.ljust)
    room = width - len(labels[0][0])
    columns = {name: [name, *table[name]] for name in table.columns}
    for break_headers in (False, True):
        made = [
            (name.split()[0], _column(cells, room - len(GAP), str.ljust if name in left else str.rjust, break_headers))
            for name, cells in columns.items()
        ]
        if sum(map(_needs, made)) <= room:
            return _lines([labels, *(column for _, column in made)])
    parts, taken = [], room
    for _, group in groupby(made, key=lambda named: named[0]):
        group = list(group)
        if taken + (whole := sum(map(_needs, group))) > room >= whole:
            taken = room
        for named in group:
            if taken + _needs(named) > room:
                parts, taken = [*parts, []], 0
            parts[-1].append(named[1])
            taken += _needs(named)
    return "\n\n".join(_lines([labels, *part], only_full=True) for part in parts)


def _needs(named: tuple[str, list[list[str]]]) -> int:
    """Columns of the terminal that a column of the table takes."""
    return len(GAP) + len(named[1][0][0])


def _column(cells: Sequence[object], most: int, justify, break_header: bool = False) -> list[list[str]]:
    """Of each row its lines, all as wide as the widest one. break_header: where the cells are narrower."""
    head, *body = map(str, cells)
    rows = [textwrap.wrap(cell, most, break_on_hyphens=False) or [""] for cell in body]
    widest = max((len(line) for lines in rows for line in lines), default=0)
    room = min(most, max([widest, *map(len, head.split())])) if break_header else most
    rows = [textwrap.wrap(head, room, break_on_hyphens=False) or [""], *rows]
    width = max(len(line) for lines in rows for line in lines)
    return [[justify(line, width) for line in lines] for lines in rows]


def _lines(columns: Sequence[list[list[str]]], only_full: bool = False) -> str:
    """Columns beside each other; headers stand on their last line, cells on their first."""
    lines = []
    for i, row in enumerate(zip(*columns)):
        if only_full and all(cell[0].strip() == "-" for cell in row[1:]):
            continue
        height = max(map(len, row))
        blank = [[" " * len(cell[0])] * (height - len(cell)) for cell in row]
        full = [b + cell if i == 0 else cell + b for b, cell in zip(blank, row)]
        lines += [GAP.join(parts).rstrip() for parts in zip(*full)]
    return "\n".join(lines)


def report_blocks(
    results: pd.DataFrame, suite: str | None = None, *, paper: bool = False
) -> Iterator[tuple[str, pd.DataFrame]]:
    """(title, table) of a suite's rows, or of every system: the numbers of `report.report_table`, one test a table.

    Titles say the test, the data set, the preset and the form; columns the level and metric ("strong mAP"); cells are
    "77.2 ± 0.5 (3)", percent. Rows that were not run are left out. paper: the printed table first, where there is one.
    Raises UnknownNameError for a name that is neither a suite nor a table.
    """
    labels = {name: name for name in dict.fromkeys(results["system"])} if suite is None else rows_of_table(suite)
    metrics = ["rank1", "mAP"] if suite is None else metrics_of_table(suite)
    if suite and paper and has_paper_table(suite):
        printed = paper_table(suite)
        names = (printed.dataset + " " + printed.metric).str.strip()
        cells = printed.assign(column=names, text=printed.value.map("{:.1f}".format))
        yield "paper", _wide(cells, "row", list(dict.fromkeys(printed.row)))
    spread = mean_spread(results.loc[results["shift"].isna() & results["metric"].isin(metrics)])
    spread = spread.assign(order=spread["test"].map(TEST_ORDER.index), metric_order=spread["metric"].map(metrics.index))
    spread["column"] = spread["level"] + " " + spread["metric"]
    spread["text"] = [percent(*row) for row in zip(spread["mean"], spread["sd"], spread["n"])]
    for _, part in spread.groupby(["order", "test", "dataset", "preset", "form"]):
        title = "{test}: {dataset}, preset {preset}, {form}".format(**part.iloc[0])
        rows = {label: system for label, system in labels.items() if system in set(part["system"])}
        if rows:
            part = part.sort_values(["level", "metric_order"], kind="stable")
            table = _wide(part, "system", list(rows.values()))
            yield title, table.set_axis(list(rows))


def _wide(cells: pd.DataFrame, rows: str, order: list[str]) -> pd.DataFrame:
    """Long (row, column, text) -> a table in the order of `order` and of the columns' appearance; "-" where empty."""
    table = cells.loc[cells[rows].isin(order)].pivot(index=rows, columns="column", values="text")
    columns = list(dict.fromkeys(cells.loc[cells[rows].isin(order), "column"]))
    return table.reindex(index=order, columns=columns).fillna("-").rename_axis(index=None, columns=None)
