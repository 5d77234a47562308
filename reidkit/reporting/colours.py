"""One colour and one marker for each system, in every figure.

Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
MARKERS = "osD^vPX*"
SYSTEMS = {  # one colour and marker a system, in every figure; MPN's family and CGPN's share the colours
    "mpn-no-ca": (COLOURS[0], "o"),
    "baseline": (COLOURS[1], "s"),
    "mpn": (COLOURS[2], "D"),
    "naive-mtl": (COLOURS[3], "^"),
    "psa": (COLOURS[4], "P"),
    "fsa": (COLOURS[5], "*"),
    "mt-only": (COLOURS[6], "v"),
    "baseline-ub": (COLOURS[7], "X"),
    "cgpn": (COLOURS[0], "P"),
    "mgn": (COLOURS[1], "X"),
    "cgpn-4": (COLOURS[2], "v"),
    "pcb": (COLOURS[4], "s"),
    "ide": (COLOURS[7], "v"),
}
LABELS = {"mpno": "mpn-no-ca", "naive mtl": "naive-mtl", "baseline (ub)": "baseline-ub"}  # how texts name a system


def styles(names: Sequence[str]) -> list[tuple[str, str]]:
    """(colour, marker) of each name: a system's own, in any order and company; others take what these leave free.

    What stands behind a comma is not the system's name: "MPNo, strong" is drawn as MPNo.
    """
    systems = [name.split(",")[0].lower() for name in names]
    known = [SYSTEMS.get(LABELS.get(system, system)) for system in systems]
    taken = {style[0] for style in known if style}
    free = [style for style in zip(COLOURS, MARKERS) if style[0] not in taken] or list(zip(COLOURS, MARKERS))
    others = iter(range(len(names)))
    return [style or free[next(others) % len(free)] for style in known]


def line_styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Colour and marker as `styles`, ready for `plot`; lines of one colour differ: solid, dashed, dotted."""
    chosen, seen = styles(names), Counter()
    lines = []
    for colour, marker in chosen:
        lines.append({"color": colour, "marker": marker, "ls": ("-", "--", ":")[seen[colour] % 3]})
        seen[colour] += 1
    return lines
