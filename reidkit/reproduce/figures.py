"""The figures of a page, as pictures that lie inside of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.reproduce.order import Prospect
from reidkit.training.runs import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, LEAST_HEIGHT = 4.6, 1.8  # inches: text keeps its size on a telephone
LETTERS = 50  # of a line below an axis
MOST_CURVES = 8  # of training, in one picture: there are as many colours


def bars(results: pd.DataFrame, systems: Sequence[str], level: str) -> str:
    """mAP of every row on a test level: mean, standard deviation, and a dot a seed. -> HTML, "" without a result."""
    from reidkit.reporting.plots import variant_bars

    ours = results.loc[(results["test"] == "ours") & (results["level"] == level)]
    here = [system for system in systems if system in set(ours.system)]
    if not here:
        return ""
    return _picture(variant_bars(ours, here, "mAP", level=level), f"mAP of the rows on the test level {level}")


def claims(table: pd.DataFrame, level: str) -> str:
    """The differences of a table of claims with their intervals. -> HTML, "" where none was run."""
    from reidkit.reporting.plots import differences

    try:
        figure = differences(table)
    except ReIDKitError:  # none was run
        return ""
    return _picture(figure, f"paired differences of the paper's claims on the test level {level}, with intervals")


def curves(prospect: Prospect) -> str:
    """The loss of the first seed of the first rows, epoch by epoch. -> HTML, "" where no run is finished."""
    from reidkit.reporting.plots import training_curves

    jobs = [job for job in prospect.plan.rows if job.finished and RunFolder(job.path).metrics.is_file()]
    jobs = [job for job in jobs if job.seed == jobs[0].seed][:MOST_CURVES]
    if not jobs:
        return ""
    figure = training_curves({job.system: RunFolder(job.path).metrics for job in jobs})
    return _picture(figure, f"training loss by epoch, seed {jobs[0].seed}: {', '.join(job.system for job in jobs)}")


def _picture(figure: Figure, about: str) -> str:
    """A figure as an SVG inside of an <img>, described in words."""
    figure.set_size_inches(WIDTH, max(LEAST_HEIGHT, figure.get_figheight()))
    for axes in figure.axes:
        axes.set_xlabel(fill(axes.get_xlabel(), LETTERS))
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    code, about = base64.b64encode(file.getvalue()).decode(), escape(about)
    return (
        f'<figure><img src="data:image/svg+xml;base64,{code}" alt="{about}"><figcaption>{about}</figcaption></figure>'
    )
