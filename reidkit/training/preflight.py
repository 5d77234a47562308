"""Everything that can be refused is refused here, before an image is decoded, a network trained or a folder made.

`check_start` looks at a whole run: the recipe against the network, the data set, the protocol, the priors and the
disk. `train` calls it for one run, `run_suite` for every row before the first of them starts.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from reidkit.data import PKSampler, ReIDDataset
from reidkit.data.sets.overlap import contents, warn_of_twins
from reidkit.errors import DatasetError, ReIDKitError, TrainingError
from reidkit.evaluation.protocol import queries_without_match
from reidkit.models import ReIDModel, create_model
from reidkit.models.lite import require_weights
from reidkit.models.zoo import variant
from reidkit.priors import PriorTable, find_priors, require_priors
from reidkit.priors.dense import TextureTable, find_textures, require_textures
from reidkit.priors.source import Tool
from reidkit.training.effect import BOTH_TASKS
from reidkit.training.processes import ids_per_process
from reidkit.training.recipes import Recipe, resolved


def check_start(
    name: str,
    dataset: ReIDDataset,
    recipe: Recipe,
    run: Path,
    *,
    prior_tool: Tool,
    ide: Recipe | None = None,
    cache: bool = True,
    world_size: int = 1,
    checked: set | None = None,
    weights: bool = True,
) -> None:
    """Raise the one error that says why `name` cannot be trained and tested here, and what to do; else return.

    ide: the recipe of an IDE that is trained first. world_size: processes. weights: whether the pretrained ones will be
    read, which a run that goes on does not. checked: a set that several calls for one data set share, so that what was
    found sound is not looked at again.
    """
    done = checked if checked is not None else set()
    dataset.refuse_unlabelled()
    check_alignment(name, recipe)
    check_batches(dataset, recipe, world_size)
    model = sketch(name, recipe, dataset.num_train_ids)
    check_size(model, recipe)
    if ide is not None:
        check_batches(dataset, ide, world_size)
        check_size(sketch("ide", ide, dataset.num_train_ids), ide)
    if weights:
        require_weights(recipe.backbone, recipe.pretrained)
    if ("matches", recipe.camera_rule) not in done:
        check_matches(dataset, recipe.camera_rule)
        done.add(("matches", recipe.camera_rule))
    needed = prior_splits(model)
    grid = grid_of(model, recipe)
    if needed and (needed, grid, model.prior_kind) not in done:
        if model.prior_kind == "dense":
            require_textures(dataset, prior_tool)
        else:
            require_priors(dataset, prior_tool, grid=grid, splits=needed)
        done.add((needed, grid, model.prior_kind))
    check_disk(model, dataset, recipe, run, cache)


def check_alignment(name: str, recipe: Recipe) -> None:
    """TrainingError for an alignment of main and auxiliary tasks where the variant does not have both."""
    v, (_, has_both) = resolved(variant(name), recipe), BOTH_TASKS
    if v.loss.alignment and not has_both(v, recipe):
        raise TrainingError(
            f"loss.alignment={v.loss.alignment} compares main and auxiliary tasks, and {name} does not have both; "
            "leave it away, or take a variant that has them, such as naive-mtl"
        )


def sketch(name: str, recipe: Recipe, num_classes: int) -> ReIDModel:
    """The network without its numbers (on torch's meta device): shapes and counts in a few milliseconds.

    Raises TrainingError where no layer can have the widths or rates of the recipe's model settings.
    """
    try:
        with torch.device("meta"):
            return create_model(name, num_classes, backbone=recipe.backbone, **recipe.model)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ReIDKitError):
            raise
        asked = ", ".join(f"model.{key}={value!r}" for key, value in recipe.model.items())
        raise TrainingError(f"no {name} network can be built with {asked} ({error}); choose other values") from error


def recipe_on(dataset: ReIDDataset, recipe: Recipe) -> Recipe:
    """The recipe, without the camera rule where the data set knows no cameras; a warning says so."""
    if dataset.cameras_known or not recipe.camera_rule:
        return recipe
    warnings.warn(
        f"{dataset.label}: nobody knows which camera took which picture, so it is ranked without the camera rule, and "
        "its results say so",
        stacklevel=2,
    )
    return replace(recipe, camera_rule=False)


def grid_of(model: ReIDModel, recipe: Recipe) -> tuple[int, int]:
    """(rows, columns) of the feature map, on which priors live."""
    return recipe.size[0] // model.stride, recipe.size[1] // model.stride


def prior_splits(model: ReIDModel) -> tuple[str, ...] | str:
    """The splits whose priors a network needs: () for none, all of them where test images are rectified too."""
    return "all" if model.needs_prior_at_test else ("train",) if model.needs_prior else ()


def default_prior_tool(dataset: ReIDDataset) -> Tool:
    """Sidewalk brings its maps; any other set has them in files."""
    return "sidewalk" if dataset.source.get("name") == "sidewalk" else "files"


def priors_for(
    model: ReIDModel, dataset: ReIDDataset, recipe: Recipe, tool: Tool, progress: bool, *, test_only: bool = False
) -> PriorTable | TextureTable | None:
    """The prior table the model needs, on the grid of its feature map; None where it needs none.

    test_only: the priors of the images to test on alone, for a data set that is not trained on.
    """
    if model.prior_kind == "dense":
        return None if test_only else find_textures(dataset, tool, progress=progress)
    splits = ("query", "gallery", *dataset.levels) if test_only else prior_splits(model)
    return find_priors(dataset, tool, grid=grid_of(model, recipe), splits=splits, progress=progress) if splits else None


def check_size(model: ReIDModel, recipe: Recipe) -> None:
    """The stride must divide the image, or stripes and priors would not lie on the rows of the feature map; and the
    network must accept that map, which is tried without numbers."""
    stride = model.stride
    if any(side % stride for side in recipe.size):
        fits = "x".join(str(max(stride, round(side / stride) * stride)) for side in recipe.size)
        raise TrainingError(
            f"the image size {recipe.size[0]}x{recipe.size[1]} (height x width) is no multiple of "
            f"{stride} pixels, which one cell of the {recipe.backbone} feature map covers; "
            f"the nearest that fits is --set size={fits}"
        )

    grid = grid_of(model, recipe)
    with torch.device("meta"):
        prior = model.example_prior(2, grid)
        try:
            model.train()(torch.empty(2, 3, *recipe.size), prior if model.needs_prior else None)
        except (RuntimeError, ValueError, IndexError) as error:
            raise TrainingError(
                f"{model.name} cannot work on a feature map of {grid[0]}x{grid[1]} cells, which the "
                f"{recipe.backbone} backbone makes of {recipe.size[0]}x{recipe.size[1]} images ({error}); "
                "choose a larger --set size=... or other --set model.* values"
            ) from error


def check_batches(dataset: ReIDDataset, recipe: Recipe, world_size: int = 1) -> None:
    """Can P x K be filled, and shared by the processes? The sampler itself says what is wrong with it, here in the
    words of the settings."""
    if dataset.train.empty:
        raise DatasetError(f"{dataset.label}: there is no training image, all are for the test; nothing can be trained")
    num_ids = ids_per_process(recipe.num_ids, world_size)
    try:
        PKSampler(
            dataset.train_labels(),
            num_ids,
            recipe.num_instances,
            mode=recipe.sampling,
            batches_per_epoch=recipe.batches_per_epoch,
            world_size=world_size,
        )
    except TrainingError as error:
        raise TrainingError(
            f"{dataset.label}: {error} (P is --set num_ids=..., K is --set num_instances=...)"
        ) from error


def check_matches(dataset: ReIDDataset, camera_rule: bool) -> None:
    """Every test level must have a query that can be right, and no picture may be its own match.

    A warning tells of copies of queries in the gallery, which only the camera rule would put aside.
    """
    dataset.refuse_unlabelled()
    for level in (dataset.level, *dataset.levels):
        ds = dataset.at_level(level)
        q, g = ds.query, ds.gallery
        if q.empty or g.empty:
            raise DatasetError(
                f"{ds.label}: {len(q)} query and {len(g)} gallery images of level {level!r}; it needs both"
            )
        alone = queries_without_match(q.pid, g.pid, q.camid, g.camid, ds.junk_pids, camera_rule=camera_rule)
        if len(alone) < len(q):
            if not camera_rule and (same := sorted(set(q.path) & set(g.path))):
                raise DatasetError(
                    f"{ds.label}: {len(same)} images are in the query and in the gallery (first: {same[0]}); "
                    "without the camera rule each would be its own match: take them out of the gallery"
                )
            if not camera_rule and ds.cameras_known:  # of other sets their parsers tell
                both = pd.concat([q.assign(split="query"), g.assign(split="gallery")], ignore_index=True)
                both = both.assign(person=both.pid)
                warn_of_twins(ds.label, both.assign(content=contents(both)))
            continue
        same = set(q.pid) & set(g.pid) - {*ds.junk_pids}
        why = (
            "none of their people are in the gallery"
            if not same
            else f"their people are in the gallery, but only under the query's own camera "
            f"(cameras there: {', '.join(map(str, sorted(set(g.camid))))})"
        )
        way = (
            ""
            if not same or not camera_rule
            else ". For a set without cameras, or with one, rank without the camera "
            "rule: --no-camera-rule (in Python camera_rule=False); every result then says so"
        )
        raise DatasetError(f"{ds.label}: none of the {len(q)} queries of level {level!r} can have a match: {why}{way}")


def check_disk(model: ReIDModel, dataset: ReIDDataset, recipe: Recipe, run: Path, cache: bool) -> None:
    """Room for the checkpoint (twice, for the moment of replacing it), the weights and the decoded images.

    The weights' own library opens no path that is not UTF-8.
    """
    try:
        str(run.absolute()).encode()
    except UnicodeEncodeError:
        raise TrainingError(
            f"the path {str(run.absolute())!r} is not UTF-8, so that the weights could be written there, but not read: "
            "name another folder with --run"
        ) from None
    weights = weight_bytes(model)
    _room(
        run, 2 * 2 * weights + weights, f"the checkpoints and weights of {run.name}", "name another folder with --run"
    )
    if cache:
        _room(
            dataset.derived("cache"),
            cache_bytes(dataset, recipe.size),
            "the decoded images",
            "name another folder with --cache-dir, or decode anew each time with --no-cache",
        )


def weight_bytes(model: ReIDModel) -> int:
    """Bytes of a network's weights on disk; its checkpoint has about twice as many, with the optimiser's momentum."""
    return 4 * sum(t.numel() for t in model.state_dict().values())


def cache_bytes(dataset: ReIDDataset, size: tuple[int, int]) -> int:
    """Bytes that the decoded images of a data set still need in its cache folder, at `size` (height, width)."""
    folder = dataset.derived("cache")
    tables = [dataset.train, dataset.query, dataset.gallery, *(t for pair in dataset.levels.values() for t in pair)]
    paths = {path for t in tables for path in t.path}
    held = sum(f.stat().st_size for f in folder.glob(f"*-{size[0]}x{size[1]}-*.u8*")) if folder.is_dir() else 0
    return max(0, 3 * size[0] * size[1] * len(paths) - held)


def _room(folder: Path, needed: int, what: str, way: str) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ReIDKitError(
            f"{what} need {needed / 1e9:.2f} GB in {folder}, the disk has {free / 1e9:.2f} GB: make room, or {way}"
        )
