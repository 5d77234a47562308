"""Where the two maps of an image come from: files beside the images or in folders of their own, or networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from reidkit.data.dataset import ReIDDataset
from reidkit.errors import unknown_name
from reidkit.priors.files import FileMaps, MapPair
from reidkit.priors.labels import LabelSet

Tool = Literal["files", "sidewalk", "torchvision+segformer"]
TOOLS: tuple[Tool, ...] = get_args(Tool)


class MapSource(Protocol):
    """What produces the two maps of an image: `FileMaps` reads them, `NetworkMaps` computes them."""

    @property
    def batch_size(self) -> int:
        """How many images `maps` is given at once."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the maps; priors of other settings are stale."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the packages that make the maps; priors of others are kept."""
        ...

    def stamp(self, path: str) -> int:
        """A number that changes when the maps of this image do; 0 where one is missing."""
        ...

    def where(self, path: str) -> str:
        """Where the maps of this image come from, for messages."""
        ...

    def hint(self, absent: Sequence[str]) -> str:
        """What to do about images without maps, for messages."""
        ...

    def maps(self, paths: Sequence[str]) -> list[MapPair]:
        """Parsing [H, W] uint8 and segmentation [H, W] of each image. PriorError for maps that cannot be used."""
        ...

    def doubt(self, whole: bool = False) -> str | None:
        """Why the maps seen so far look like those of another label set, or None; whole: none will follow."""


def open_source(
    ds: ReIDDataset,
    tool: Tool,
    *,
    parsing_dir: str | Path | None = None,
    segmentation_dir: str | Path | None = None,
    label_set: LabelSet = "lip",
    batch_size: int | None = None,
    **networks: Any,
) -> MapSource:
    """The `MapSource` of a tool; arguments as in `build_priors`. Networks are loaded at the first image."""
    size: dict[str, Any] = {"batch_size": batch_size} if batch_size else {}
    if tool == "sidewalk":
        return FileMaps(Path(ds.root), **size)
    if tool == "files":
        return FileMaps(Path(ds.root), parsing_dir, segmentation_dir, label_set, **size)
    if tool == "torchvision+segformer":
        from reidkit.priors.networks import NetworkMaps

        return NetworkMaps(ds.root, **networks, **size)
    raise unknown_name("prior tool", tool, TOOLS)
