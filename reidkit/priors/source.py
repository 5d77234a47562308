"""Where the two maps of an image come from: the tools by name, and what each of them must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from reidkit.data.dataset import ReIDDataset
from reidkit.errors import PriorError, unknown_name
from reidkit.priors.files import FileMaps, MapPair
from reidkit.priors.labels import LabelSet, label_table

Tool = Literal["files", "sidewalk", "torchvision+segformer"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
Missing = Literal["error", "unreliable"]
MISSING: tuple[Missing, ...] = get_args(Missing)
USES: Mapping[Tool, Mapping[str, str]] = {  # tool -> {where its maps come from: as it is typed}
    "files": {"parsing_dir": "--parsing", "segmentation_dir": "--segmentation", "label_set": "--label-set"},
    "torchvision+segformer": {
        "segmentation_model": "--segmentation-model",
        "segmentation_weights": "--segmentation-weights",
        "parsing_model": "--parsing-model",
    },
}


class MapSource(Protocol):
    """What produces the two maps of an image: `FileMaps` reads them, `NetworkMaps` computes them."""

    @property
    def batch_size(self) -> int:
        """How many images are asked for at a time."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What must be the same for cached priors to be valid."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the libraries that make the maps."""
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
    device: str = "cpu",
    batch_size: int | None = None,
    **maps: Any,
) -> MapSource:
    """The `MapSource` of a tool; arguments as in `build_priors`. Networks are loaded at the first image.

    maps: options of `USES`; None for the tool's own. PriorError for one that this tool has no use for.
    """
    check_choices(tool, label_set=maps.get("label_set"), maps=maps)
    options = {key: value for key, value in maps.items() if value is not None}
    options |= {"batch_size": batch_size} if batch_size else {}
    if tool == "torchvision+segformer":
        from reidkit.priors.networks import NetworkMaps

        return NetworkMaps(ds.root, device=device, **options)
    return FileMaps(Path(ds.root), **options)


def check_choices(
    tool: Tool,
    missing: Missing = "error",
    label_set: LabelSet | None = None,
    maps: Mapping[str, Any] | None = None,
) -> None:
    """UnknownNameError if one of these is not a name that `build_priors` knows; PriorError for maps of another tool.

    maps: options of `USES`; None stands for one that is not given.
    """
    if tool not in TOOLS:
        raise unknown_name("prior tool", tool, TOOLS)
    if missing not in MISSING:
        raise unknown_name("treatment of missing maps", missing, MISSING)
    if label_set is not None:
        label_table(label_set)
    given = {key for key, value in (maps or {}).items() if value is not None}
    for other, options in USES.items():
        if other != tool and (wrong := [f"{key} ({word})" for key, word in options.items() if key in given]):
            raise PriorError(
                f"{', '.join(wrong)}: only the prior tool {other!r} has a use for that, and the tool is {tool!r}; "
                f"leave it away, or take the tool {other!r}"
            )
