"""Images without maps: how many, of which split, and where their maps may lie instead."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reidkit.priors.source import MapSource

KINDS = ("parsing", "segmentation")
DEPTH = 2  # levels above and below a folder in which its maps are looked for
MOST_FOLDERS = 50  # looked at on one level


def by_split(paths: Mapping[str, Sequence[str]], absent: Collection[str]) -> list[tuple[str, int, int]]:
    """[(split, how many of its images are `absent`, its images)]; a test level made of splits before it is left out."""
    found, seen = [], set()
    for split, images in paths.items():
        if not seen.issuperset(images):
            found.append((split, sum(path in absent for path in images), len(images)))
        seen.update(images)
    return found


def about_missing(absent: Sequence[str], paths: Mapping[str, Sequence[str]], source: MapSource) -> str:
    """The message of a build that lacks maps: how many images of which split, the first of them, and what to do."""
    listed = "".join(f"\n  {path}" for path in absent[:5]) + ("\n  ..." if len(absent) > 5 else "")
    total = len({path for images in paths.values() for path in images})
    split = ", ".join(f"{name} {n} of {of}" for name, n, of in by_split(paths, set(absent)) if n)
    return (
        f"{len(absent)} of {total} images have no maps ({split}; looked for {source.where(absent[0])}):{listed}\n"
        f"{source.hint(absent)}write the maps of these images, or divide them evenly and count them with "
        '--missing unreliable (in Python missing="unreliable")'
    )


def map_hint(kind: str, folder: Path, paths: Sequence[str]) -> str:
    """A line that says where the maps of these images lie instead, or what is wrong with their names; else "".

    kind: "parsing" or "segmentation". paths: images of which at least one map is missing in `folder`.
    """
    names = [Path(path).with_suffix(".png") for path in paths]
    absent = [name for name in names if not (folder / name).is_file()]
    if not absent:
        return ""
    if place := nearby_folder(kind, folder, [str(name) for name in absent]):
        return f"the {kind} maps lie in {place}: name that folder (--{kind} {place}, {kind}_dir=)\n"
    for name in (absent[0], absent[-1]):
        if (folder / name.name).is_file():
            return f"{folder / name.name} lies flat: move the {kind} maps of {name.parent}/ to {folder / name.parent}\n"
        if others := sorted((folder / name).parent.glob(f"{escape(name.stem)}.*")):
            return f"{others[0]} is no PNG: write the {kind} maps as PNGs of one channel\n"
    return f"{len(absent)} of these have no {kind} map in {folder}\n"


def nearby_folder(kind: str, folder: Path, paths: Sequence[str]) -> Path | None:
    """The folder up to two levels above or below `folder`, or beside it, that holds the maps of these images.

    A few images are looked for. Folders whose path below the common one names the other kind of map are no candidates;
    those that name this `kind` go first.
    """
    (other,) = {*KINDS} - {kind}
    above = list(folder.absolute().parents)[:DEPTH]
    places = [*_below(folder, DEPTH), *above, *(a / folder.name for a in above[1:])]
    places += [place for a in above for place in _below(a, 1)]
    names = [Path(path).with_suffix(".png") for path in {paths[0], paths[len(paths) // 2], paths[-1]}]
    for wanted in (True, False):
        for place in places:
            said = place.name.lower()
            if (kind in said) is wanted and other not in said and any((place / name).is_file() for name in names):
                return place
    return None


def _below(folder: Path, levels: int) -> Iterator[Path]:
    """Folders in `folder`, and in those, `levels` deep; of each level the first few in alphabetical order."""
    if not levels or not folder.is_dir():
        return
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir())[:MOST_FOLDERS]
    except OSError:  # a folder above that may not be read
        return
    yield from children
    for child in children:
        yield from _below(child, levels - 1)


def about_no_folder(kind: str, folder: Path) -> str:
    """The message for a folder of maps that does not exist; it names one beside it that is called alike."""
    beside = folder.absolute().parent
    names = [child.name for child in _below(beside, 1)]
    close = difflib.get_close_matches(folder.name, names, n=1)
    hint = f"Did you mean {beside / close[0]}? " if close else ""
    return (
        f"{folder}: no such folder of {kind} maps. {hint}Put the maps there, or name their folder "
        f"(`reidkit priors build ... --{kind} DIR`, {kind}_dir=); without maps a model trains "
        "with uniform division (`--set model.prior=uniform`)"
    )
