"""docs/claims.md: every table, figure and ordering sentence of both papers, where it is tested, and the verdict.

No verdict on the page is typed: sentences come from `claim_list.py`, verdicts from stored results, sizes from the
networks, costs from the recipes. `reidkit claims --save docs/claims.md` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.readers import read_table
from reidkit.reporting import table9
from reidkit.reporting.claim_list import (
    ARM_CLAIMS,
    CGPN_CLAIMS,
    FIG7_CLAIMS,
    MAP_CLAIMS,
    MPN_CLAIMS,
    SHARPER_CLAIMS,
    Claim,
)
from reidkit.reporting.claims import VERDICTS, paper_difference
from reidkit.reporting.exhibits import EXHIBITS, Exhibit
from reidkit.reporting.full_test import full_test
from reidkit.reporting.report import PAPER, paper_table
from reidkit.reporting.verdicts import NEEDED, arm_verdicts, map_verdicts, sharper, verdicts

SHIPPED = PAPER.parent / "sidewalk"
PAIRS = (*MPN_CLAIMS, *FIG7_CLAIMS, *CGPN_CLAIMS)
# Tables that print rows of another table on other photographs: their claims are listed once.
SAME_ROWS = {"mpn-table6": "mpn-table5", "mpn-table7": "mpn-table5"}


def claims_page(
    results: pd.DataFrame,
    scores: pd.DataFrame,
    benchmarks: Path,
    metric: str = "mAP",
    arms: pd.DataFrame | None = None,
) -> str:
    """The page as Markdown.

    results: a table of `collect_results`; scores: of `reidkit attention-scores`, arms: the same with --sleeves (None:
    not measured); benchmarks: folder of stored benchmarks. metric: of the differences.
    """
    found = verdicts(results, PAIRS, metric)
    parts = [
        _head(results, metric),
        "## At a glance\n",
        _summary(found),
        "## Tables and figures\n",
        _exhibits(found, _main_scale(found)),
        "## Sentences\n",
        "Difference in points between the two systems; *paper*: as printed, the mean over the data sets that "
        "the sentence speaks of.\n",
        *(_sentence(group, found, metric) for group in _groups(PAIRS)),
        _sharper(sharper(results, SHARPER_CLAIMS, metric)),
        _maps(map_verdicts(scores, MAP_CLAIMS)),
        _arms(arm_verdicts(read_arms(None) if arms is None else arms, ARM_CLAIMS)),
        _sizes(),
        _times(table9.time_verdicts(benchmarks)),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def read_scores(file: Path | None) -> pd.DataFrame:
    """A table of `reidkit attention-scores`; None: no score. ReIDKitError for no such file, or two of one."""
    whose = ["variant", "seed", "level", "method", "data"]
    table = _read(file, {*whose, *(claim.measure for claim in MAP_CLAIMS)}, "reidkit attention-scores --out")
    if len(twice := table.loc[table.duplicated(whose, keep=False)]):
        lines = ", ".join(str(row + 2) for row in twice.index)
        raise ReIDKitError(f"{file} has several scores of one variant and seed (lines {lines}); keep one of each")
    return table


def read_arms(file: Path | None) -> pd.DataFrame:
    """The same with --sleeves: how part maps lie on arms."""
    needed = {"run", "variant", "level", "method", "measure", "value", "low", "high", "people"}
    return _read(file, needed, "reidkit attention-scores --sleeves --out")


def _read(file: Path | None, needed: set[str], command: str) -> pd.DataFrame:
    if file is None:
        return pd.DataFrame(columns=sorted(needed))
    kinds = {"seed": int, **dict.fromkeys(("run", "variant", "level", "method", "data", "measure"), str)}
    columns = {name: kinds.get(name, float) for name in sorted(needed)}
    missing = f"there are no attention scores at {file}; write them with `{command}`"
    return read_table(file, columns, missing=missing, remedy=f"write it with `{command}`")


def _head(results: pd.DataFrame, metric: str) -> str:
    sets = ", ".join(f"`{name}`" for name in dict.fromkeys(results.dataset))
    words = "\n".join(f"- *{verdict}*: {meaning}" for verdict, meaning in VERDICTS.items())
    return f"""# The papers' claims

Written by `reidkit claims --save docs/claims.md`; do not edit. From {results.run.nunique()} runs on {sets}.

A verdict is about the difference of two systems in {metric}, paired by seed, with a 95 % t interval, at one scale: data
set, preset and settings of the runs. Behind *undecided*, in brackets: how many seeds would decide it at the mean and
spread seen so far.

{words}

Sidewalk is rendered and its runs are small: a verdict there is about this code at that scale, not about the papers. The
column *full test* says what a test on a paper's own photographs takes. That the differences printed in the texts are
those of the printed tables is a test of its own (`tests/reporting/test_paper_tables.py`)."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], columns: int = 0) -> str:
    """A Markdown table; columns: how many there are, where a cell holds several."""
    lines = [head, ["---"] * (columns or len(head)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _main_scale(found: pd.DataFrame) -> str:
    """The scale at which most claims were run; "" if none was."""
    return "" if found.empty else str(found.groupby("scale", sort=False).size().idxmax())


def _tally(verdict: pd.Series) -> str:
    """ "appears 4, undecided 2" of a column of verdicts."""
    counts = verdict.value_counts()
    return ", ".join(f"{v} {counts[v]}" for v in VERDICTS if v in counts) or "not run"


def _summary(found: pd.DataFrame) -> str:
    """One line a paper, scale and level."""
    asked = [v for v in VERDICTS if v != "not run"]
    keys = [" | ".join(key) for key in zip(found["where"].str.split(" ").str[0], found.scale, found.level)]
    rows = [
        [str(key), *(str((part.verdict == v).sum()) for v in asked)] for key, part in found.groupby(keys, sort=False)
    ]
    return _table(["paper | scale | level", *asked], rows, columns=3 + len(asked))


def _exhibits(found: pd.DataFrame, scale: str) -> str:
    at = found.loc[found.scale == scale]
    rows = [
        [
            f"{e.paper} {e.name}: {e.about}",
            _places(e),
            _verdict_of(e, at) if e.what == "numbers" else f"{e.what}, nothing to decide",
            full_test(e.suite) if e.suite else "-",
        ]
        for e in EXHIBITS
    ]
    head = ["what", "where in the kit", f"verdicts of its claims, {scale or 'not run'}", "full test"]
    return _table(head, rows)


def _places(e: Exhibit) -> str:
    """Notebook, panel and suite of an exhibit."""
    places = [f"[`{e.notebook}`](../notebooks/{e.notebook}.ipynb)"] if e.notebook else []
    places += [f"panel `{e.panel}`"] if e.panel else []
    places += [f"suite `{e.suite}`"] if e.suite else []
    return ", ".join(places)


def _verdict_of(e: Exhibit, at: pd.DataFrame) -> str:
    """The verdicts of an exhibit's claims, level by level."""
    if e.name == "Table 9":
        return "see [Sizes](#sizes) and [Times](#times)"
    listed = SAME_ROWS.get(e.suite, e.suite)
    if not any(claim.suite == listed for claim in PAIRS):
        return "no two of its rows are built"
    part = at.loc[at.suite == listed]
    if e.suite in SAME_ROWS:
        printed = set(paper_table(e.suite).variant)
        part = part.loc[part.better.isin(printed) & part.worse.isin(printed)]
    if part.empty:
        return "not run"
    return "; ".join(f"{level}: {_tally(rows.verdict)}" for level, rows in part.groupby("level", sort=False))


def _groups(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims of one sentence together."""
    groups: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.where, claim.says), []).append(claim)
    return list(groups.values())


def _sentence(group: list[Claim], found: pd.DataFrame, metric: str) -> str:
    """A sentence of a paper and its pairs; one column a scale."""
    first = group[0]
    text = f"### {first.where}\n\n{first.says} Suite `{first.suite}`.\n\n"
    names = {(c.better, c.worse) for c in group}
    mine = found.loc[[pair in names for pair in zip(found.better, found.worse)]]
    scales = list(dict.fromkeys(mine.scale))
    rows = []
    for claim in group:
        at = mine.loc[(mine.better == claim.better) & (mine.worse == claim.worse)]
        cells = ["; ".join(map(_cell, at.loc[at.scale == s].to_dict("records"))) or "not run" for s in scales]
        printed = paper_difference(claim, metric)
        paper = "-" if printed != printed else f"{printed:+.1f}"
        rows.append([f"`{claim.better}` over `{claim.worse}`", paper, *(cells or ["not run"])])
    return text + _table(["claim", "paper", *(scales or ["ours"])], rows)


def _cell(row: dict) -> str:
    """ "strong appears +2.6", and for an undecided one how many seeds would settle it at its mean and spread."""
    text = f"{row['level']} {row['verdict']}"
    if row["difference"] == row["difference"]:
        text += f" {row['difference']:+.1f}"
    needed = row.get(NEEDED, float("nan"))
    if needed != needed:
        return text
    return f"{text} ({'over 1000' if needed == float('inf') else f'{needed:.0f}'} seeds)"


def _sharper(table: pd.DataFrame) -> str:
    """The claims about what is gained on occluded and cut people."""
    says = SHARPER_CLAIMS[0].says
    text = f"### {SHARPER_CLAIMS[0].where}, sharper\n\n{says} Here: the difference on strong minus that on mild.\n\n"
    rows = [[f"`{r['better']}` over `{r['worse']}`", r["scale"], _cell(r)] for r in table.to_dict("records")]
    return text + _table(["claim", "scale", "ours"], rows or [["all", "-", "not run"]])


def _maps(table: pd.DataFrame) -> str:
    """The sentences about attention maps."""
    text = "### MPN 5.2.5, Fig. 8 and 9\n\nScores of Grad-CAM maps (`reidkit attention-scores`), in points.\n\n"
    rows = []
    for r in table.to_dict("records"):
        ours = "not run" if r["verdict"] == "not run" else f"{r['scale']} {_cell(r)}"
        rows.append([r["says"], f"`{r['measure']}`: `{r['more']}` over `{r['less']}`", ours])
    return text + _table(["sentence", "score", "ours"], rows)


def _arms(table: pd.DataFrame) -> str:
    """The sentences about arms and sleeves."""
    text = """### MPN 5.2.5, arms and sleeves

Grad-CAM maps of one network (`reidkit attention-scores --sleeves`), 95 % interval over people. `lower_difference`: the
energy on lower arms relative to their area, long sleeves minus short. `upper_lead`: in how much larger a share of the
images map 2 has the most energy on upper arms than any other map.

"""
    rows = []
    for r in table.to_dict("records"):
        number = f"{r['value']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}], {r['people']:.0f} people"
        ours = "not run" if r["verdict"] == "not run" else f"`{r['run']}`, {r['level']}: {r['verdict']} {number}"
        rows.append([r["says"], f"`{r['measure']}` of `{r['variant']}`", ours])
    return text + _table(["sentence", "score", "ours"], rows)


def _sizes() -> str:
    """Table 9's parameters, and the sentences about them."""
    printed = paper_table("mpn-table9").pivot(index="row", columns="metric", values="value")
    variants = dict(zip(paper_table("mpn-table9").row, paper_table("mpn-table9").variant))
    rows = []
    for row, name in variants.items():
        paper = [f"{printed.loc[row, f'{stage} parameters (M)']:.1f} M" for stage in ("training", "testing")]
        counts = (table9.training_parameters, table9.test_parameters)
        ours = [table9.million(count(name)) for count in counts] if name else ["-", "-"]
        rows.append([row, f"`{name}`" if name else "-", paper[0], ours[0], paper[1], ours[1]])
    head = ["row", "variant", "paper: training", "ours: training", "paper: testing", "ours: testing"]
    claims = [[c.where, c.says, c.counted, c.verdict] for c in table9.count_claims()]
    text = """## Sizes

MPN Table 9, without classification layers; counted on the kit's networks with ResNet-50. Why DSA-reID is smaller here
in training: the head of `reidkit/models/dsa.py`.

"""
    return text + _table(head, rows) + "\n" + _table(["where", "sentence", "counted", "verdict"], claims)


def _times(table: pd.DataFrame) -> str:
    """The order of training times."""
    text = """## Times

MPN Sec. 5.4.5: MPNo is slightly slower than PCB, and faster than the others of Table 9. Milliseconds an image, from
`reidkit bench train --set names=pcb,mpn-no-ca,pyramid,mgn,dsa --save results/benchmarks/train-NAME.json`: one
measurement without an interval.

"""
    rows = []
    for r in table.to_dict("records"):
        ours = f"{r['verdict']}, {r['ms_slower']:.2f} and {r['ms_faster']:.2f}" if r["where"] else r["verdict"]
        rows.append([f"`{r['slower']}` slower than `{r['faster']}`", r["where"] or "-", ours])
    return text + _table(["claim", "device and preset", "ours"], rows)
