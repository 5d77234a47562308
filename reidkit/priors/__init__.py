"""Coarse priors of body part locations (MPN Sec. 3.2): maps -> `CoarsePrior` -> part features of the AT."""

from reidkit.data.images import relative_path
from reidkit.data.prior import PriorBatch
from reidkit.priors.build import build_priors, default_file, image_paths
from reidkit.priors.coarse import CoarsePrior, PriorSteps, coarse_prior, coarse_priors, prior_steps
from reidkit.priors.find import build_command, find_priors, require_priors
from reidkit.priors.part_features import part_features
from reidkit.priors.sheet import prior_overlay, prior_quality, prior_sheet
from reidkit.priors.source import open_source
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
    "default_file",
    "find_priors",
    "image_paths",
    "open_source",
    "part_features",
    "prior_overlay",
    "prior_quality",
    "prior_sheet",
    "prior_steps",
    "relative_path",
    "require_priors",
]
