"""`build_priors`: the coarse priors of every image of a data set, cached, resumable, and rebuilt when stale."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import relative_paths
from reidkit.errors import PriorError, unknown_name
from reidkit.files import probe
from reidkit.priors.anatomy import EARLY
from reidkit.priors.cache import Before, alone, cached, state, take_back
from reidkit.priors.coarse import MIN_HEAD, MIN_LEG, THRESHOLD
from reidkit.priors.labels import LabelSet
from reidkit.priors.missing import about_missing
from reidkit.priors.rows import batch_table, stacked
from reidkit.priors.source import MapSource, Missing, Tool, check_choices, open_source
from reidkit.priors.store import PriorTable, empty_table

PIPELINE_VERSION = 1  # raise when coarse_priors changes its results: older caches are then rebuilt
SAVE_SECONDS = 20  # at most this much work is lost when the machine goes down


def build_priors(
    ds: ReIDDataset,
    tool: Tool = "sidewalk",
    *,
    grid: tuple[int, int] = (24, 8),
    splits: Sequence[str] | str = ("train",),
    out: str | Path | None = None,
    parsing_dir: str | Path | None = None,
    segmentation_dir: str | Path | None = None,
    label_set: LabelSet | None = None,
    missing: Missing = "error",
    min_head: float = MIN_HEAD,
    min_leg: float = MIN_LEG,
    threshold: float = THRESHOLD,
    device: str = "cpu",
    segmentation_model: str | None = None,
    segmentation_weights: str | Path | None = None,
    parsing_model: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    rebuild: bool = False,
) -> PriorTable:
    """The coarse priors of a data set, from the cache where that is still valid.

    tool: "sidewalk" (`<root>/parsing` and `<root>/segmentation`, LIP), "files" (`parsing_dir`,
        `segmentation_dir`, `label_set`: see `files.py`) or "torchvision+segformer" (`device`,
        `segmentation_model`, `segmentation_weights`, `parsing_model`: see `networks.py`); None: the tool's own.
    grid: (rows, columns) of the feature map that the masks are for.
    splits: of "train", "query", "gallery" and the names of test levels (their query and gallery), or "all".
    out: the cache file; see `default_file`.
    missing: "error", or "unreliable" = an image without maps gets the prior of the whole image and is counted
        (still an error where no image has maps).
    min_head, min_leg, threshold: see `coarse_prior`.
    rebuild: ignore the cache.

    Rows whose files have changed since are computed again; a cache made with other settings is replaced, with a
    warning. An interrupted build, and one stopped by a bad file, goes on where it was. Several processes may build
    splits of one data set at once: each adds its rows to those that the file holds by then.
    Raises PriorError: images without maps (all of them counted, the first listed), maps that do not decode, of
    another size than their image or with labels outside the label set; maps that as a whole are of another label set
    or no such maps (`anatomy.py`; nothing made of them is kept); an option of another tool, a file that cannot be
    written (before any work).
    UnknownNameError: tool, split, label set, treatment of missing maps.
    """
    check_choices(tool, missing, label_set)
    maps = {"parsing_dir": parsing_dir, "segmentation_dir": segmentation_dir, "label_set": label_set}
    maps |= {"segmentation_model": segmentation_model, "segmentation_weights": segmentation_weights}
    maps |= {"parsing_model": parsing_model, "device": device, "batch_size": batch_size}
    limits = {"min_head": min_head, "min_leg": min_leg, "threshold": threshold}
    work = take_stock(
        ds, tool, grid=grid, splits=splits, out=out, missing=missing, rebuild=rebuild, limits=limits, **maps
    )
    table = work.table
    if work.todo:
        whole = len(work.todo) == len(work.paths)
        table = compute(
            table,
            work.todo,
            work.stamps,
            work.source,
            work.settings,
            work.out,
            whole=whole,
            rebuild=rebuild,
            progress=progress,
        )
    return table.subset(work.paths)


@dataclass(frozen=True)
class BuildWork:
    """What `build_priors` has before it and what it will do: `todo` of `paths`, from `source`, on top of `table`."""

    source: MapSource
    settings: Mapping[str, Any]
    out: Path
    paths: list[str]
    stamps: Mapping[str, int]
    table: PriorTable
    todo: list[str]


def take_stock(
    ds: ReIDDataset,
    tool: Tool,
    *,
    grid: tuple[int, int],
    splits: Sequence[str] | str,
    out: str | Path | None = None,
    missing: Missing = "error",
    rebuild: bool = False,
    limits: Mapping[str, float] | None = None,
    **maps: Any,
) -> BuildWork:
    """What `build_priors` would have to do; nothing is decoded or written. Arguments and errors as there.

    limits: `min_head`, `min_leg`, `threshold`. maps: where maps come from, as `open_source` takes it.
    """
    source = open_source(ds, tool, **maps)
    limits = limits or {"min_head": MIN_HEAD, "min_leg": MIN_LEG, "threshold": THRESHOLD}
    settings = {"tool": tool, "pipeline": PIPELINE_VERSION, "grid": list(grid), **limits, **source.settings}
    out = Path(out) if out else default_file(ds, tool, grid)
    divided = paths_by_split(ds, splits)
    paths = list(dict.fromkeys(path for split in divided.values() for path in split))
    stamps = {path: source.stamp(path) for path in paths}
    absent = [path for path in paths if stamps[path] == 0]
    if absent and (missing == "error" or len(absent) == len(paths)):
        raise PriorError(about_missing(absent, divided, source))
    table = empty_table(grid, settings) if rebuild else _valid_cache(out, grid, settings)
    known = dict(zip(table.paths, table.stamps.tolist()))
    return BuildWork(source, settings, out, paths, stamps, table, [p for p in paths if known.get(p) != stamps[p]])


def check_writable(file: Path) -> None:
    """PriorError if a prior file cannot be written here: better said now than after an hour of computing.

    Makes nothing: where the file's folder is not there yet, the first one above it that is has to take it.
    """
    place = file.parent
    while not os.path.lexists(place):
        place = place.parent
    try:
        probe(file, place)
    except OSError as error:
        raise PriorError(
            f"the priors cannot be written to {file} ({error.strerror or error}). Keep derived files elsewhere "
            "(--cache-dir DIR, load_dataset(cache_dir=DIR)); `reidkit priors build` takes another file too (--out FILE)"
        ) from error


def default_file(ds: ReIDDataset, tool: Tool, grid: tuple[int, int]) -> Path:
    """`<ds.root>/priors/<tool>-<h>x<w>.npz` (or in `ds.cache_dir`), where priors are cached if nothing else is said."""
    return ds.derived("priors") / f"{tool}-{grid[0]}x{grid[1]}.npz"


def image_paths(ds: ReIDDataset, splits: Sequence[str] | str = "all") -> list[str]:
    """Paths of the images of these splits relative to `ds.root`, each once, in the order of the tables."""
    return list(dict.fromkeys(path for paths in paths_by_split(ds, splits).values() for path in paths))


def paths_by_split(ds: ReIDDataset, splits: Sequence[str] | str = "all") -> dict[str, list[str]]:
    """{split: relative paths of its images}; a test level's are those of its query and gallery.

    Raises UnknownNameError for a split that the data set does not have, PriorError for an empty list of splits.
    """
    tables: dict[str, list[pd.DataFrame]] = {s: [getattr(ds, s)] for s in ("train", "query", "gallery")}
    tables |= {level: list(pair) for level, pair in ds.levels.items()}
    if ds.level not in tables:
        tables[ds.level] = [ds.query, ds.gallery]
    chosen = [splits] if isinstance(splits, str) else list(splits)
    for split in chosen:
        if split not in (*tables, "all"):
            raise unknown_name(f"split of {ds.name}", split, {*tables, "all"})
    if not chosen:
        raise PriorError(f"no split of {ds.name} is named; choose of: {', '.join(tables)}, all")
    chosen = tables if "all" in chosen else chosen
    return {s: [p for table in tables[s] for p in relative_paths(table["path"], ds.root)] for s in chosen}


def _valid_cache(out: Path, grid: tuple[int, int], settings: Mapping[str, Any]) -> PriorTable:
    """The cached table if it was made with these settings, else an empty one (with a warning that says why)."""
    table, wrong = cached(out, grid, settings)
    if wrong:
        warnings.warn(wrong, stacklevel=3)
    return table


def compute(
    table: PriorTable,
    todo: list[str],
    stamps: Mapping[str, int],
    source: MapSource,
    settings: Mapping[str, Any],
    out: Path,
    *,
    whole: bool,
    rebuild: bool = False,
    progress: bool,
) -> PriorTable:
    """`table` with the rows of `todo` added; saved every few seconds and whenever the work stops, for any reason.

    What another process has added to the file meanwhile is kept. rebuild: what it holds now is not.
    whole: `todo` is the whole set. After `EARLY` images, again after each further batch and at the end the maps read
    so far are judged as a set: if they are not what was announced, their rows are taken out of the file again, which
    then has what it had before and the rows of other processes, and PriorError.
    """
    check_writable(out)
    before = Before.of(out, table.grid, settings)
    settings = {**settings, "versions": dict(source.versions)}
    done: list[PriorTable] = []
    written: list[str] = []
    saved, seen = time.monotonic(), state(out) if rebuild else None

    def save() -> None:
        nonlocal table, saved, seen
        if done:
            with alone(out):
                if state(out) != seen:
                    table = table.merged(cached(out, table.grid, settings)[0])
                table = table.merged(stacked(done, settings))
                written.extend(path for rows in done for path in rows.paths)
                done.clear()
                table.save(out)
                seen = state(out)
        saved = time.monotonic()

    try:
        with tqdm(total=len(todo), desc="priors", unit="img", disable=not progress) as bar:
            for start in range(0, len(todo), source.batch_size):
                batch = todo[start : start + source.batch_size]
                rows, last = batch_table(batch, stamps, source, settings), start + len(batch) == len(todo)
                if (last or start + len(batch) >= EARLY) and (reason := source.doubt(whole=whole and last)):
                    raise PriorError(reason)
                done.append(rows)
                bar.update(len(batch))
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
    except BaseException:
        if source.doubt():  # also when the work was stopped before the set was judged
            done.clear()
            if written:
                take_back({path: stamps[path] for path in written}, before, settings, out)
        raise
    finally:
        save()
    return table
