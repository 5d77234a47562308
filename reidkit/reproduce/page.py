"""The page of a reproduced suite: one HTML file that shows all and needs nothing, to be read on a telephone or sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from math import sqrt
from pathlib import Path

import pandas as pd

from reidkit.evaluation.forms import RELEASED
from reidkit.files import write_text
from reidkit.provenance import provenance
from reidkit.reporting.claims import CGPN_CLAIMS, MPN_CLAIMS, VERDICTS, check_claims
from reidkit.reporting.report import report_table, t_quantile
from reidkit.reporting.results import precision_of
from reidkit.reproduce import figures
from reidkit.reproduce.order import Prospect
from reidkit.reproduce.run import Outcome
from reidkit.training.runs import RunFolder

METRICS = {"rank1": "Rank-1", "mAP": "mAP"}
STYLE = """
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; }
h1, p, li, dd, pre, figcaption { overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
thead th { vertical-align: bottom; max-width: 9rem; font-weight: 600; }
th:first-child { position: sticky; left: 0; background: #fff; text-align: left; max-width: 9rem; }
.paper { background: #f3efe4; } .words { text-align: left; min-width: 8rem; } .bad { color: #a11; }
figure { margin: 1rem 0; } img { width: 30rem; max-width: 100%; height: auto; }
figcaption { font-size: .8rem; color: #555; } dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
pre { white-space: pre-wrap; font-size: .8rem; background: #f6f6f6; padding: .6rem; }
"""


def write_page(prospect: Prospect, outcome: Outcome, said: str, out: Path) -> None:
    """Write the page of what an order came to. said: `in_words` before the start.

    ReIDKitError where the disk does not take it.
    """
    parts = [
        _head(prospect, outcome),
        _failures(outcome),
        _beside_the_paper(prospect, outcome.results),
        *(_level(prospect, outcome.results, level) for level in _levels(outcome.results)),
        _training(prospect),
        _origin(prospect, outcome, said),
    ]
    title = escape(f"{prospect.order.suite} on {prospect.order.dataset.label}")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n{''.join(parts)}</body></html>\n"
    )
    write_text(out, page)


def summary(outcome: Outcome) -> str:
    """ "28 of 30 runs finished, 2 failed"; of IDEs that failed, too."""
    done, failed = len(outcome.report.finished), len(outcome.report.failed)
    return f"{done} {'run' if done == 1 else 'runs'} finished, {failed} failed"


def intervals(results: pd.DataFrame, systems: Iterable[str], level: str, test: str = "ours") -> pd.DataFrame:
    """One line a row of the suite: seeds, and of each metric the mean, sd and 95 % t interval in percent, as text.

    A row without a result has dashes; a row with one seed has neither sd nor interval.
    """
    chosen = (results["level"] == level) & (results["test"] == test) & results["shift"].isna()
    rows = {}
    for system in systems:
        own = results[chosen & (results["system"] == system)]
        cells = {"seeds": str(own.seed.nunique())}
        for metric, name in METRICS.items():
            values = 100 * own.loc[own["metric"] == metric, "value"]
            n, several = len(values), len(values) > 1
            half = t_quantile(0.95, n - 1) * values.std() / sqrt(n) if several else 0.0
            cells[name] = f"{values.mean():.1f}" if n else "-"
            cells[f"{name} sd"] = f"{values.std():.1f}" if several else "-"
            cells[f"{name} 95 % interval"] = (
                f"{values.mean() - half:.1f} to {values.mean() + half:.1f}" if several else "-"
            )
        rows[system] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


def claims_table(suite: str, results: pd.DataFrame, level: str) -> pd.DataFrame:
    """`check_claims` for the claims that a paper makes about this suite's rows, on one test level."""
    own = [claim for claim in (*MPN_CLAIMS, *CGPN_CLAIMS) if claim.suite == suite]
    return check_claims(results, own, level=level)


def _levels(results: pd.DataFrame) -> list[str]:
    """The test levels that have a result; "shift" is a curve over queries of another level."""
    return [level for level in dict.fromkeys(results["level"]) if level != "shift"]


def _head(prospect: Prospect, outcome: Outcome) -> str:
    order = prospect.order
    seeds = f"{len(order.seeds)} {'seed' if len(order.seeds) == 1 else 'seeds'}"
    words = f"{len(order.rows)} rows, {seeds}, preset {order.preset}: {summary(outcome)}."
    return f"<h1>{escape(order.suite)} on {escape(order.dataset.label)}</h1>\n<p>{escape(words)}</p>\n"


def _failures(outcome: Outcome) -> str:
    if not outcome.report.failed:
        return ""
    items = [f"<dt>{escape(p.name)}</dt><dd>{escape(why)}</dd>" for p, why in outcome.report.failed.items()]
    return (
        f'<h2 class="bad">What failed</h2>\n<p>The other runs do not depend on these. Called again, the same command '
        f"trains only what is missing.</p>\n<dl>{''.join(items)}</dl>\n"
    )


def _beside_the_paper(prospect: Prospect, results: pd.DataFrame) -> str:
    table = report_table(prospect.order.suite, results)
    table = table.loc[
        :, sorted(table.columns, key=lambda name: name.startswith("paper"))
    ]  # ours first: a narrow screen ends
    label = prospect.order.dataset.label
    note = (
        f"Percent. Columns named “paper” are as printed, on the data sets named there; ours are mean ± standard "
        f"deviation (seeds) on {label}. Numbers of different data sets do not compare, only which row is above which."
    )
    if "released" in set(results["test"]):
        note += f" The released code of MPN tests with {RELEASED}: its columns compare with those named “released”."
    return f"<h2>Beside the paper</h2>\n<p>{escape(note)}</p>\n{html_table(table)}"


def _level(prospect: Prospect, results: pd.DataFrame, level: str) -> str:
    """Numbers, figure and claims of one test level."""
    order, systems = prospect.order, [row.system for row in prospect.order.rows]
    form = ", ".join(sorted(set(results.loc[(results["level"] == level) & (results["test"] == "ours"), "form"])))
    text = f"<h2>{escape(order.dataset.label)}, test level {escape(level)}</h2>\n"
    text += f"<p>Percent, over seeds. Tested with {escape(form)}.</p>\n{html_table(intervals(results, systems, level))}"
    text += figures.bars(results, systems, level)
    table = claims_table(order.suite, results, level)
    if table.empty:
        return text
    text += (
        "<h3>What the paper claims</h3>\n<p>Differences in mAP, in points, seed by seed, with 95 % paired t intervals. "
        + "; ".join(
            f"<b>{verdict}</b>: {escape(meaning)}"
            for verdict, meaning in VERDICTS.items()
            if verdict in set(table.verdict)
        )
        + ".</p>\n"
    )
    run = table.loc[table.verdict != "not run"]
    text += html_table(_claims_in_words(run), words=("section", "verdict")) + figures.claims(run, level)
    rest = table.loc[table.verdict == "not run"]
    names = "; ".join(rest["better in the paper"] + " over " + rest["worse in the paper"])
    return text + (f"<p><b>not run</b> ({len(rest)}): {escape(names)}.</p>\n" if names else "")


def _claims_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A table of claims, all cells text."""

    def points(value: float) -> str:
        return "-" if value != value else f"{value:+.1f}"

    rows = {}
    for r in table.to_dict("records"):
        limits = f"{points(r['low'])} to {points(r['high'])}" if r["seeds"] > 1 else "-"
        found = {"verdict": r["verdict"], "ours": points(r["difference"]), "95 % interval": limits}
        found |= {"seeds": str(r["seeds"]), "paper: difference": points(r["paper"]), "section": r["where"]}
        rows[f"{r['better in the paper']} over {r['worse in the paper']}"] = found
    return pd.DataFrame.from_dict(rows, orient="index")


def _training(prospect: Prospect) -> str:
    picture = figures.curves(prospect)
    return f"<h2>Training</h2>\n{picture}\n" if picture else ""


def _origin(prospect: Prospect, outcome: Outcome, said: str) -> str:
    """Where the numbers come from: the command, the data, each run, and the plan as it was."""
    order, where = prospect.order, provenance("cpu")
    facts = {
        "command": where["command"],
        "reidkit": f"{where['reidkit']}, commit {where['commit']}",
        "torch, Python": f"{where['torch']}, {where['python']}",
        "data set": f"{order.dataset.label}, {order.dataset.num_train_ids} identities and {len(order.dataset.train)} "
        f"images to train on; fingerprint {order.dataset.fingerprint()[:16]}",
        "settings for every row": ", ".join(f"{k}={v}" for k, v in order.settings.items()) or "none",
    }
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    runs = html_table(_runs(prospect, outcome), words=("device", "log"))
    return (
        f"<h2>Where this comes from</h2>\n<dl>{listed}</dl>\n{runs}"
        f"<h3>What was said before the start</h3>\n<pre>{escape(said)}</pre>\n"
    )


def _runs(prospect: Prospect, outcome: Outcome) -> pd.DataFrame:
    """One line a finished run: commit, device, precision and times, and the logs of its Slurm task."""
    rows = {}
    for job in prospect.plan.jobs():
        if not job.finished or job.path in outcome.report.failed:
            continue
        where: Mapping = RunFolder(job.path).read_result().get("provenance", {})
        own = {"seed": job.seed, "commit": where.get("commit"), "minutes": _minutes(where.get("wall_s"))}
        own |= {"of training": _minutes(where.get("training_s")), "precision": precision_of(where) or None}
        own |= {"device": where.get("device")}
        if outcome.logs:
            own["log"] = ", ".join(log.name for log in outcome.logs.get(job.path, []) if log.is_file()) or "-"
        rows[job.path.name] = {key: "-" if value is None else str(value) for key, value in own.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _minutes(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 60:.1f}"


def html_table(table: pd.DataFrame, words: tuple[str, ...] = ()) -> str:
    """A table of text that scrolls by itself where it is wider than the screen. Columns "paper..." have a colour.

    words: columns of text, aligned to the left.
    """
    if table.empty:
        return ""
    kinds = ["paper" if str(c).startswith("paper") else "words" if c in words else "" for c in table.columns]
    head = "".join(f'<th scope="col" class="{k}">{escape(str(c))}</th>' for c, k in zip(table.columns, kinds))
    body = ""
    for name, row in zip(table.index, table.itertuples(index=False)):
        cells = "".join(f'<td class="{k}">{escape(str(v))}</td>' for v, k in zip(row, kinds))
        body += f'<tr><th scope="row">{escape(str(name))}</th>{cells}</tr>\n'
    head = f'<tr><th scope="col">{escape(str(table.index.name or ""))}</th>{head}</tr>'
    return f'<div class="wide" tabindex="0"><table><thead>{head}</thead>\n<tbody>{body}</tbody></table></div>\n'
