"""Coarse priors of body part locations (MPN Sec. 3.2): maps -> `CoarsePrior` -> part features of the AT."""

from reidkit.data.prior import PriorBatch
from reidkit.priors.build import build_priors, default_file, open_source, relative_path, relative_paths
from reidkit.priors.coarse import CoarsePrior, PriorSteps, coarse_prior, coarse_priors, prior_steps
from reidkit.priors.find import build_command, find_priors, require_priors
from reidkit.priors.part_features import part_features
from reidkit.priors.sheet import contact_sheet, prior_overlay, prior_quality
from reidkit.priors.store import PriorTable

__all__ = [
    "CoarsePrior",
    "PriorBatch",
    "PriorSteps",
    "PriorTable",
    "build_command",
    "build_priors",
    "coarse_prior",
    "coarse_priors",
    "contact_sheet",
    "default_file",
    "find_priors",
    "open_source",
    "part_features",
    "prior_overlay",
    "prior_quality",
    "prior_steps",
    "relative_path",
    "relative_paths",
    "require_priors",
]
