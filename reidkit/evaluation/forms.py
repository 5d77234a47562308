"""How a number was tested: the choices at test time that move mAP by tenths or by points, under one name.

Average precision has two forms (see `average_precision`), images are resized and mirrored in different ways, lists
may be re-ranked. Numbers of two forms never stand in one column: a result carries its `TestForm`, and a table
prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from reidkit.data.images import Interpolation
from reidkit.evaluation.features import Flip
from reidkit.evaluation.ranking import APForm


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

    def as_dict(self) -> dict[str, Any]:
        """For result.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TestForm:
        """The inverse of `as_dict`; what is missing has its default, what is unknown is left out."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


# The authors' released code of MPN: trapezoid AP, bicubic resize (training used bilinear), h(image) + h(mirror).
RELEASED = TestForm(ap="trapezoid", flip="sum", interpolation="bicubic")
