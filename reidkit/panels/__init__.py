"""Eight interactive panels, each with a picture that is drawn without a browser (`panel.picture`).

    from reidkit.panels import PriorStepper
    PriorStepper(dataset)                      # the last line of a notebook's cell

A panel's module, and ipywidgets with it, is imported when the panel is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reidkit.panels.attention_panel import AttentionPanel
    from reidkit.panels.cgpn_explorer import CGPNExplorer
    from reidkit.panels.comparator import VariantComparator
    from reidkit.panels.k_sweep import KSweep
    from reidkit.panels.loss_playground import LossPlayground
    from reidkit.panels.misalignment import MisalignmentSandbox
    from reidkit.panels.prior_stepper import PriorStepper
    from reidkit.panels.ranked_list import RankedList

__all__ = [
    "AttentionPanel",
    "CGPNExplorer",
    "KSweep",
    "LossPlayground",
    "MisalignmentSandbox",
    "PriorStepper",
    "RankedList",
    "VariantComparator",
]
MODULES = dict(
    zip(
        __all__,
        (
            "attention_panel",
            "cgpn_explorer",
            "k_sweep",
            "loss_playground",
            "misalignment",
            "prior_stepper",
            "ranked_list",
            "comparator",
        ),
        strict=True,
    )
)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'reidkit.panels' has no attribute {name!r}")
    return getattr(import_module(f"reidkit.panels.{MODULES[name]}"), name)
