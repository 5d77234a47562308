"""Every loss of both papers, plain functions on tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossConfig:
    """Which losses a variant is trained with, and how they are summed.

    identity:   "sum" over the K part classifiers (MPN Eq. 1, CGPN Eq. 1) or "mean".
    triplet:    "embedding" (MPN Eq. 3, on h), "features" (CGPN: each of `triplet_features`), None.
    margin, metric: of the triplet loss; metric "cosine" or "euclidean".
    alignment:  None, "class" (Eq. 8), "sample" (Eq. 9), "batch" (Sec. 5.3.3), or "sample-triplet"
                ([10] in Sec. 5.3.3: the triplet loss sees h + g instead of h).
    *_weight:   weights in the total; the papers use 1 everywhere.
    """

    identity: str = "sum"
    triplet: str | None = "embedding"
    margin: float = 0.2
    metric: str = "cosine"
    alignment: str | None = None
    identity_weight: float = 1.0
    triplet_weight: float = 1.0
    alignment_weight: float = 1.0       # lambda of Eq. 10
    soft_sharing_weight: float = 0.0    # Fig. 10
    supervision_weight: float = 1.0     # CGPN Eq. 3 in Eq. 4
