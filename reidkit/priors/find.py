"""Before a training starts: are its priors there, or can they be made? `require_priors` asks, `find_priors` gets them.

A file that `reidkit priors build` wrote goes first, from whatever folders it was made; without one the maps beside the
images are used. A built file knows the folders and the state of its maps: where maps have changed since, priors are
made again.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidkit.data.dataset import ReIDDataset
from reidkit.errors import PriorError, ReIDKitError
from reidkit.priors.build import (
    PIPELINE_VERSION,
    build_priors,
    check_writable,
    compute,
    default_file,
    paths_by_split,
    take_stock,
)
from reidkit.priors.missing import KINDS, by_split, map_hint, nearby_folder
from reidkit.priors.source import MapSource, Tool, check_choices, open_source
from reidkit.priors.store import PriorTable

NETWORKS = "torchvision+segformer"
MAP_OPTIONS = ("parsing_dir", "segmentation_dir", "label_set")  # manifest entries that say where the maps are
THRESHOLDS = ("min_head", "min_leg", "threshold")


@dataclass(frozen=True)
class _Stock:
    """What there is for some images of a data set.

    images: their relative paths. built: the file that `reidkit priors build` wrote for this tool and grid, or None.
    known: {path: stamp} of the priors in it that can be used.
    source: where maps can be read; None if their folders are gone. stamps: {path: state of its maps, 0 = none}.
    """

    images: Sequence[str]
    built: PriorTable | None
    known: Mapping[str, int]
    source: MapSource | None
    stamps: Mapping[str, int]

    def outdated(self) -> list[str]:
        """The images whose prior has to be made: there is none, or their maps have changed since."""
        return [path for path in self.images if self.stamps[path] and self.stamps[path] != self.known.get(path)]


def require_priors(
    ds: ReIDDataset, tool: Tool, *, grid: tuple[int, int], splits: Sequence[str] | str = ("train",)
) -> None:
    """Check, without decoding a map, that `find_priors` will find or can make the prior of every image.

    Arguments as in `find_priors`. Raises one PriorError that says which grid is needed, which prior files there are,
    how many images of which split lack maps, and what to type; also where priors must be made and the folder cannot be
    written. UnknownNameError for an unknown tool or split.
    """
    _take_stock(ds, tool, grid, splits)


def prior_work(
    ds: ReIDDataset,
    tool: Tool,
    *,
    grid: tuple[int, int],
    splits: Sequence[str] | str = ("train",),
    maps: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
    """(images, how many of their priors are still to be made) of `make_priors`, which is not called.

    maps: `parsing_dir`, `segmentation_dir`, `label_set` of the tool "files"; None: as `find_priors` finds them.
    Raises PriorError and UnknownNameError as `require_priors`, and as `build_priors` for maps that are named.
    """
    if not maps:
        stock = _take_stock(ds, tool, grid, splits)
        if stock.built is not None:
            return len(stock.images), len(stock.outdated())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a cached file is said when it is built anew
        work = take_stock(ds, tool, grid=grid, splits=splits, **(maps or {}))
    if work.todo:
        check_writable(work.out)
        dict(work.source.versions)  # a library that the tool lacks is missed now
    return len(work.paths), len(work.todo)


def make_priors(
    ds: ReIDDataset,
    tool: Tool,
    *,
    grid: tuple[int, int],
    splits: Sequence[str] | str = ("train",),
    maps: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> PriorTable:
    """Make the priors where trainings look for them; what is made already is kept. Arguments as in `prior_work`."""
    if maps:
        return build_priors(ds, tool, grid=grid, splits=splits, progress=progress, **maps)
    return find_priors(ds, tool, grid=grid, splits=splits, progress=progress)


def find_priors(
    ds: ReIDDataset,
    tool: Tool,
    *,
    grid: tuple[int, int],
    splits: Sequence[str] | str = ("train",),
    progress: bool = True,
) -> PriorTable:
    """The priors of these splits: from the file that `reidkit priors build` wrote, else from the maps.

    tool, splits: as in `build_priors`. grid: (rows, columns) of the feature map.
    Priors whose maps have changed since the file was built are made again from the folders that the file names, with a
    warning. Where these folders or single maps are gone since, the priors in the file are used as they are.
    Raises PriorError as `require_priors`, and as `build_priors` where maps are read.
    """
    stock = _take_stock(ds, tool, grid, splits)
    if stock.built is None:
        return build_priors(ds, tool, grid=grid, splits=splits, progress=progress)
    images, table, file = stock.images, stock.built, default_file(ds, tool, grid)
    todo = stock.outdated()
    if changed := sum(path in stock.known for path in todo):
        warnings.warn(
            f"the maps of {changed} of {len(images)} images have changed since {file} was built: their "
            "priors are made again",
            stacklevel=2,
        )
    if todo and stock.source is not None:
        table = compute(
            table,
            todo,
            stock.stamps,
            stock.source,
            {**table.manifest, "grid": list(grid)},
            file,
            whole=len(todo) == len(images),
            progress=progress,
        )
    return table.subset(images)


def _take_stock(ds: ReIDDataset, tool: Tool, grid: tuple[int, int], splits: Sequence[str] | str) -> _Stock:
    """What there is for these splits; PriorError if it does not suffice."""
    check_choices(tool)
    paths = paths_by_split(ds, splits)
    images = list(dict.fromkeys(path for split in paths.values() for path in split))
    built = None if tool == "sidewalk" else _built(ds, tool, grid)  # its maps are always there
    known = {}
    if built is not None and built.manifest.get("pipeline", PIPELINE_VERSION) == PIPELINE_VERSION:
        known = dict(zip(built.paths, built.stamps.tolist()))
    source = _source(ds, tool, built)
    stamps = {path: source.stamp(path) if source else 0 for path in images}
    stock = _Stock(images, built, known, source, stamps)
    absent = {path for path in images if path not in known and not stamps[path]}
    if built is not None and tool == NETWORKS:  # the file does not tell where the networks' weights are
        absent.update(stock.outdated())
    if absent:
        raise PriorError(_about_absent(ds, tool, grid, splits, paths, absent, stock))
    file = default_file(ds, tool, grid)
    if stock.outdated() if built is not None else not file.exists():
        check_writable(file)  # something has to be made, and it is kept there
    return stock


def _built(ds: ReIDDataset, tool: Tool, grid: tuple[int, int]) -> PriorTable | None:
    """The prior file of this tool and grid: in the cache folder, else beside the images."""
    for folder in _prior_folders(ds):
        file = folder / default_file(ds, tool, grid).name
        if file.is_file() and (table := PriorTable.load(file)).grid == tuple(grid):
            return table
    return None


def _prior_folders(ds: ReIDDataset) -> list[Path]:
    return list(dict.fromkeys([ds.derived("priors"), Path(ds.root) / "priors"]))


def _source(ds: ReIDDataset, tool: Tool, built: PriorTable | None) -> MapSource | None:
    """Where the maps of a built file (or of the tool by default) are read; None if that cannot be found any more."""
    options: dict[str, Any] = {}
    if built is not None and tool == "files":
        options = {key: built.manifest.get(key) for key in MAP_OPTIONS}
        numbers = [built.manifest.get(key) for key in THRESHOLDS]
        if not all(isinstance(v, str) for v in options.values()) or not all(isinstance(n, float) for n in numbers):
            return None  # not a manifest that build_priors wrote
        options |= {key: Path(ds.root) / options[key] for key in ("parsing_dir", "segmentation_dir")}
    try:
        return open_source(ds, tool, **options)
    except ReIDKitError:  # no such folders
        return None


def _about_absent(
    ds: ReIDDataset,
    tool: Tool,
    grid: tuple[int, int],
    splits: Sequence[str] | str,
    paths: Mapping[str, list[str]],
    absent: set[str],
    stock: _Stock,
) -> str:
    """The one message: which grid, which images, which files there are, what to type, how to go on without priors."""
    lines = [
        f"no priors of {ds.label} on the grid {grid[0]}x{grid[1]} (tool {tool!r}) for {len(absent)} of "
        f"{len(stock.images)} images, and none can be made:"
    ]
    kind = "maps" if tool != NETWORKS else "prior made of them as they are now"
    lines += [f"  {split}: {n} of {of} images have no {kind}" for split, n, of in by_split(paths, absent)]
    lacking, files, maps = [path for path in stock.images if path in absent], _prior_files(ds), {}
    if tool != NETWORKS:
        folders = _map_folders(ds, stock.built)
        first = Path(lacking[0]).with_suffix(".png")
        lines.append("looked for " + " and ".join(str(folder / first) for folder in folders.values()))
        lines += [hint.rstrip() for kind in folders if (hint := map_hint(kind, folders[kind], lacking))]
        maps = _likely_folders(ds, stock.built, folders, lacking, files)
    listed = [
        f"{file} (tool {t.manifest.get('tool')}, grid {t.grid[0]}x{t.grid[1]}, {len(t)} images)"
        if t
        else f"{file} (damaged)"
        for file, t in files.items()
    ]
    lines.append(f"prior files there are: {', '.join(listed) or 'none in ' + str(ds.derived('priors'))}")
    if any(t is not None and t.grid != tuple(grid) for t in files.values()):
        lines.append(f"priors on one grid do not serve another: the feature map here has {grid[0]}x{grid[1]} cells")
    lines.append(f"Build them:\n  {build_command(ds, tool, grid, splits, maps)}")
    lines.append("or go on without: a variant that needs no prior (mt-only, ide), or --set model.prior=uniform")
    return "\n".join(lines)


def _map_folders(ds: ReIDDataset, built: PriorTable | None) -> dict[str, Path]:
    """{"parsing": its folder, "segmentation": its folder} as a built file names them, else the default ones."""
    manifest = built.manifest if built else {}
    return {kind: Path(ds.root) / str(manifest.get(f"{kind}_dir", kind)) for kind in KINDS}


def _likely_folders(
    ds: ReIDDataset,
    built: PriorTable | None,
    folders: Mapping[str, Path],
    lacking: Sequence[str],
    files: Mapping[Path, PriorTable | None],
) -> dict[str, object]:
    """Options for `build_command`: what the built file says, or one of another grid, or where maps lie nearby."""
    others = [table for table in files.values() if table is not None and table.manifest.get("tool") == "files"]
    maps: dict[str, object] = {}
    if built is not None or others:
        made = built if built is not None else others[0]
        maps = {f"{kind}_dir": folder for kind, folder in _map_folders(ds, made).items()}
        maps["label_set"] = made.manifest.get("label_set", "lip")
    near = {f"{kind}_dir": nearby_folder(kind, folder, lacking) for kind, folder in folders.items()}
    return maps | {key: place for key, place in near.items() if place is not None}


def _prior_files(ds: ReIDDataset) -> dict[Path, PriorTable | None]:
    """The prior files of a data set; None for one that does not load."""
    found: dict[Path, PriorTable | None] = {}
    for file in (file for folder in _prior_folders(ds) for file in sorted(folder.glob("*.npz"))):
        try:
            found[file] = PriorTable.load(file)
        except PriorError:
            found[file] = None
    return found


def build_command(
    ds: ReIDDataset,
    tool: Tool,
    grid: tuple[int, int],
    splits: Sequence[str] | str,
    maps: Mapping[str, object] | None = None,
) -> str:
    """The `reidkit priors build` that makes these priors, to be typed.

    maps: `parsing_dir`, `segmentation_dir`, `label_set` where they are known.
    """
    name, options = ds.source.get("name", ds.name), ds.source.get("options", {})
    chosen = [splits] if isinstance(splits, str) else list(splits)
    usual = set(chosen) <= {"train", "query", "gallery"}
    words = ["reidkit", "priors", "build", name, "--root", str(ds.root.parent if name == "sidewalk" else ds.root)]
    words += ["--size", options["size"]] if "size" in options else []
    words += [a for key, value in options.items() if key != "size" for a in ("--data", f"{key}={value}")]
    words += ["--cache-dir", str(ds.cache_dir)] if ds.cache_dir else []
    words += ["--tool", tool] if tool != "files" else []
    words += ["--grid", f"{grid[0]}x{grid[1]}", "--splits", ",".join(chosen) if usual else "all"]
    if tool == "files":
        maps = maps or {}
        words += ["--parsing", str(maps.get("parsing_dir", "DIR"))]
        words += ["--segmentation", str(maps.get("segmentation_dir", "DIR"))]
        words += ["--label-set", str(maps["label_set"])] if maps.get("label_set", "lip") != "lip" else []
    return shlex.join(words)
