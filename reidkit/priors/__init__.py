"""Coarse priors of body part locations (MPN Sec. 3.2)."""

from reidkit.priors.coarse import CoarsePrior, PriorBatch

__all__ = ["CoarsePrior", "PriorBatch"]
