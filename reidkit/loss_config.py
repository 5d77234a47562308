"""Which losses a variant is trained with, as a plain value, and the names that `losses` knows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from reidkit.errors import TrainingError, unknown_name

Metric = Literal["cosine", "euclidean", "squared-euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Average = Literal["violating", "all"]
AVERAGES: tuple[Average, ...] = get_args(Average)
Reduction = Literal["sum", "mean"]
Triplet = Literal["embedding", "features"]
FeatureAlignment = Literal["class", "sample", "batch"]  # of h and g
Alignment = Literal[FeatureAlignment, "sample-triplet"]
CHOICES = {
    "identity": get_args(Reduction),
    "triplet": (*get_args(Triplet), None),
    "metric": METRICS,
    "alignment": (*get_args(Alignment), None),
}


@dataclass(frozen=True)
class LossConfig:
    """Which losses a variant is trained with, and how they are summed.

    identity:   "sum" over the K part classifiers (MPN Eq. 1, CGPN Eq. 1) or "mean".
    triplet:    "embedding" (MPN Eq. 3, on h), "features" (CGPN: each of `triplet_features`), None.
    margin, metric: of the triplet loss; metric "cosine", "euclidean" or "squared-euclidean".
    alignment:  None, "class" (Eq. 8), "sample" (Eq. 9), "batch" (Sec. 5.3.3), or "sample-triplet"
                ([10] in Sec. 5.3.3: the triplet loss sees h + g instead of h).
    *_weight:   weights in the total; the papers use 1 everywhere.
    soft_sharing_weight: of the squared distance of softly shared weights (MPN Fig. 10); 0 = no such term. The loop
                takes its step apart from SGD (see `total_loss`), so no recipe can make it unstable, and as long as
                SGD's are in the long run (`training.steps.proximal_rate`), so at rest it pulls as it would inside SGD.
    """

    identity: Reduction = "sum"
    triplet: Triplet | None = "embedding"
    margin: float = 0.2
    metric: Metric = "cosine"
    alignment: Alignment | None = None
    identity_weight: float = 1.0
    triplet_weight: float = 1.0
    alignment_weight: float = 1.0  # lambda of Eq. 10
    soft_sharing_weight: float = 0.0  # Fig. 10
    supervision_weight: float = 1.0  # CGPN Eq. 3 in Eq. 4

    def __post_init__(self):
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise unknown_name(field, getattr(self, field), map(str, choices))
        if self.alignment == "sample-triplet" and self.triplet != "embedding":
            raise TrainingError(
                "alignment='sample-triplet' puts h + g in the triplet loss, so it needs "
                f"triplet='embedding', not {self.triplet!r}"
            )
        for name in ("margin", *(f.name for f in fields(self) if f.name.endswith("_weight"))):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < float("inf")):
                raise TrainingError(f"{name}={value!r}: expected a finite number, 0 or more")
