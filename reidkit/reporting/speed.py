"""A figure of `reidkit bench train`: how many images a second, of each step and of the real loop beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.reporting.plots import COLOURS, _plain, axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"step": "", "loop": "//"}  # hatch of a bar


def speed_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Steps and loops of a report as one table: network, mode, batch, kind, images_a_second, times_bare.

    Raises ReIDKitError for a report of another benchmark, or of one without rows.
    """
    if found.get("bench") != "train" or not found.get("rows"):
        raise ReIDKitError(
            f"expected a report of `reidkit bench train` with rows, got one of {found.get('bench')!r} with the "
            f"entries {list(found)}; measure it anew with --save"
        )
    parts = [pd.DataFrame(found["rows"]).assign(kind="step"), pd.DataFrame(found["loops"]).assign(kind="loop")]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table.reindex(columns=["network", "mode", "batch", "kind", "images_a_second", "times_bare"])


def training_speed(found: Mapping[str, Any], title: str = "") -> Figure:
    """Bars from zero, one panel a batch size: images a second of each network, in each mode; a hatched bar is the loop.

    found: what `reidkit bench train` returned or saved. The device stands in the title.
    """
    table = speed_table(found)
    names, modes = list(dict.fromkeys(table.network)), list(dict.fromkeys(table["mode"]))
    ways = [(mode, kind) for mode in modes for kind in KINDS if ((table["mode"] == mode) & (table.kind == kind)).any()]
    batches, height = sorted(table.batch.unique()), 0.8 / len(ways)
    figure, axes = axes_of(1, len(batches), 1 + 4.2 * len(batches), 1.2 + 0.28 * len(names) * len(ways), sharey=True)
    for ax, batch in zip(axes[0], batches):
        _plain(ax, xlabel="images a second", title=f"batch {batch}")
        for i, (mode, kind) in enumerate(ways):
            rows = table[(table.batch == batch) & (table["mode"] == mode) & (table.kind == kind)]
            y = np.array([names.index(name) for name in rows.network]) + (i - (len(ways) - 1) / 2) * height
            style = {"color": COLOURS[modes.index(mode)], "hatch": KINDS[kind], "edgecolor": "white"}
            ax.barh(y, rows.images_a_second, height, label=f"{kind}, {mode}", **style)
            for at, value in zip(y, rows.images_a_second):
                ax.text(value, at, f" {value:.3g}", va="center", fontsize=8)
        ax.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.15 * table.images_a_second.max()))
    axes[0, 0].invert_yaxis()
    axes[0, -1].legend(frameon=False, fontsize=8)
    source = found["provenance"]
    figure.suptitle(title or f"Training on {source['device']} ({source['threads']} threads)", fontsize=10)
    return figure
