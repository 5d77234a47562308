"""Eight interactive panels, each with a picture that is drawn without a browser (`panel.picture`).

    from reidkit.panels import PriorStepper
    PriorStepper(dataset)                      # the last line of a notebook's cell
"""

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
