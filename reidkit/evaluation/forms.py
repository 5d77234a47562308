"""How a number was tested: the choices at test time that move mAP by tenths or by points, under one name.

Average precision has two forms (see `average_precision`), images are resized and mirrored in different ways, lists
may be re-ranked. Numbers of two forms never stand in one column: a result carries its `TestForm`, and a table
prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args, get_type_hints

from reidkit.data.images import Interpolation
from reidkit.errors import unknown_name
from reidkit.evaluation.features import Flip
from reidkit.evaluation.ranking import APForm

NAMES = {"ap": "form of AP"}  # what a message calls a field


@dataclass(frozen=True)
class TestForm:
    """ap: "step" or "trapezoid". flip: "none", "mean" or "sum" of image and mirror image. interpolation: of the
    resize. rerank: k-reciprocal re-ranking. multi_query: the queries' features averaged per identity and camera.
    camera_rule: whether matches under the query's own camera are ignored, as the protocol says."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    ap: APForm = "step"
    flip: Flip = "none"
    interpolation: Interpolation = "bilinear"
    rerank: bool = False
    multi_query: bool = False
    camera_rule: bool = True

    def __post_init__(self) -> None:
        for key, kind in get_type_hints(type(self)).items():
            if (choices := get_args(kind)) and getattr(self, key) not in choices:
                raise unknown_name(NAMES.get(key, key), getattr(self, key), choices)

    def __str__(self) -> str:
        """ "step AP", "trapezoid AP, flip sum, bicubic": what is not the default is named."""
        words = [f"{self.ap} AP"]
        words += [f"flip {self.flip}"] if self.flip != "none" else []
        words += [self.interpolation] if self.interpolation != "bilinear" else []
        words += [
            name
            for name, on in (
                ("re-ranked", self.rerank),
                ("multi-query", self.multi_query),
                ("no camera rule", not self.camera_rule),
            )
            if on
        ]
        return ", ".join(words)

    @property
    def extraction(self) -> dict[str, Any]:
        """What of it decides the features: arguments of `extract_features`."""
        return {"flip": self.flip, "interpolation": self.interpolation}

    def as_dict(self) -> dict[str, Any]:
        """For result.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TestForm:
        """The inverse of `as_dict`; what is missing has its default, what is unknown is left out."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


# The authors' released code of MPN: trapezoid AP, bicubic resize (training used bilinear), h(image) + h(mirror), which
# it then normalises; cosine ranking does not see that.
RELEASED = TestForm(ap="trapezoid", flip="sum", interpolation="bicubic")
CGPN = TestForm(flip="mean")  # CGPN Sec. 4.2: the mean of the features of image and mirror image
