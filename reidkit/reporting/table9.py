"""MPN Table 9: parameters, counted on the networks themselves, and the order of their times, from stored benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from reidkit.models import ReIDModel, create_model

IDENTITIES = 751  # Market-1501; classifiers are left out, so the counts do not depend on it


@cache
def sketch(name: str) -> ReIDModel:
    """A network of the preset `paper` (ResNet-50) without its numbers: what there is to count."""
    with torch.device("meta"):
        return create_model(name, IDENTITIES)


def test_parameters(name: str) -> int:
    """Parameters of the test-time network without classifiers, as Table 9 counts."""
    return sketch(name).count_parameters()


test_parameters.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  (not a test case)


def training_parameters(name: str) -> int:
    """Parameters of everything that is trained, without the classification layers."""
    model = sketch(name)
    layers = {id(p) for key, p in model.named_parameters() if "classifier" in key}
    return sum(p.numel() for p in model.parameters() if id(p) not in layers)


@dataclass(frozen=True)
class CountClaim:
    """A sentence of Sec. 5.2.4 or 5.4.5 about numbers of parameters, and whether the kit's networks agree."""

    where: str
    says: str
    counted: str
    holds: bool

    @property
    def verdict(self) -> str:
        """ "holds" or "does not hold": counting has no spread."""
        return "holds" if self.holds else "does not hold"


def million(count: int) -> str:
    """31389696 -> "31.39 M"."""
    return f"{count / 1e6:.2f} M"


def count_claims() -> list[CountClaim]:
    """Every sentence of MPN about the size of a network, counted now."""
    return [*_dsa_claims(), *_mpn_claims()]


def _dsa_claims() -> list[CountClaim]:
    dsa, mpn = (training_parameters("dsa"), test_parameters("dsa")), training_parameters("mpn")
    large = "The model size of DSA-reID is significantly larger in the training stage than in the testing stage."
    compact = "In the training stage MPN is much more compact than DSA."
    both = f"mpn {million(mpn)}, dsa {million(dsa[0])}"
    return [
        CountClaim("MPN 5.4.5", large, f"{million(dsa[0])} and {million(dsa[1])}", dsa[0] > 1.5 * dsa[1]),
        CountClaim("MPN 5.4.1", compact, both, dsa[0] > 2 * mpn),
    ]


def _mpn_claims() -> list[CountClaim]:
    test = {n: test_parameters(n) for n in ("mpn-no-ca", "baseline", "pcb", "pyramid", "mgn")}
    ours, trained = test["mpn-no-ca"], training_parameters("mpn-no-ca")
    says = {n: f"{n} {million(v)}" for n, v in test.items()}
    claims = [
        (
            "MPN 5.2.4",
            "In the testing stage the number of parameters of MPNo and of the baseline is exactly the same.",
            f"{ours:,} and {test['baseline']:,}",
            ours == test["baseline"],
        ),
        (
            "MPN 5.2.4",
            "In the training stage MPNo has more parameters only in the extra classification layers of the ATs.",
            f"without classifiers {trained:,} and {training_parameters('baseline'):,}",
            trained == training_parameters("baseline"),
        ),
        (
            "MPN 5.4.5",
            "Except for the classification layers, MPNo has as many parameters in training as in testing.",
            f"{trained:,} and {ours:,}",
            trained == ours,
        ),
        (
            "MPN 5.4.5",
            "MPNo has more parameters than PCB and Pyramid, as it adopts more 1x1 convs.",
            f"{says['mpn-no-ca']}, {says['pcb']}, {says['pyramid']}",
            ours > max(test["pcb"], test["pyramid"]),
        ),
        (
            "MPN 5.4.5",
            "MGN has more than twice as many (Table 9).",
            f"{says['mgn']}, {says['mpn-no-ca']}",
            test["mgn"] > 2 * ours,
        ),
    ]
    return [CountClaim(*c) for c in claims]


# Sec. 5.4.5: "only slightly higher than PCB" and "lower than that of [7], [10], [30]": (slower, faster)
TIME_CLAIMS = (("mgn", "mpn-no-ca"), ("pyramid", "mpn-no-ca"), ("dsa", "mpn-no-ca"), ("mpn-no-ca", "pcb"))


def training_times(folder: Path) -> list[tuple[str, Mapping[str, float]]]:
    """(device and preset, {variant: milliseconds an image}) of each stored `reidkit bench train` in a folder."""
    found = []
    for file in sorted(folder.glob("train*.json")):
        stored: dict[str, Any] = json.loads(file.read_text())
        times = {
            name: 1000 * row["seconds_a_step"] / row["batch"]
            for name, row in stored.get("variants", {}).items()
            if {"seconds_a_step", "batch"} <= set(row)
        }
        if times:
            found.append((f"{stored['provenance']['device']}, {stored['preset']}", times))
    return found


def time_verdicts(folder: Path) -> pd.DataFrame:
    """The order of training times: slower, faster, where, ms_slower, ms_faster (an image), verdict.

    A time has no seeds: the verdict says how the two measured times stand. "not run" without a stored measurement.
    """
    rows = []
    measured = training_times(folder)
    for slower, faster in TIME_CLAIMS:
        have = [(where, t[slower], t[faster]) for where, t in measured if slower in t and faster in t]
        rows += [[slower, faster, where, a, b, "appears" if a > b else "reversed"] for where, a, b in have]
        if not have:
            rows.append([slower, faster, "", nan, nan, "not run"])
    return pd.DataFrame(rows, columns=["slower", "faster", "where", "ms_slower", "ms_faster", "verdict"])
