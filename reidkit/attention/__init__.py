"""Part attention: what each part classifier looks at (MPN Fig. 8-9), as maps, checks of the maps, and scores.

    maps = part_attention(model, images, method="gradcam", prior=None)     # [B, K, H, W] in [0, 1]

`maps` makes them, `cam` holds the methods, `checks` asks whether a map can be believed, `scores` measures maps
against Sidewalk's ground truth.
"""

from reidkit.attention.cam import METHODS
from reidkit.attention.checks import consistency, randomised, sanity_check
from reidkit.attention.maps import (
    attention_from_maps,
    channel_responses,
    global_maps,
    part_attention,
    predicted_classes,
    similarity_attention,
)
from reidkit.attention.scores import score_model, score_runs

__all__ = [
    "METHODS",
    "attention_from_maps",
    "channel_responses",
    "consistency",
    "global_maps",
    "part_attention",
    "predicted_classes",
    "randomised",
    "sanity_check",
    "score_model",
    "score_runs",
    "similarity_attention",
]
