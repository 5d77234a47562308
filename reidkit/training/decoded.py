"""The images of a run, decoded before anything else is begun."""

from __future__ import annotations

from itertools import chain

from tqdm.auto import tqdm

from reidkit.data import ReIDDataset
from reidkit.data.cache import ImageCache
from reidkit.data.loaders import test_batches
from reidkit.training.recipes import Recipe


def decoded(dataset: ReIDDataset, recipe: Recipe, workers: int, progress: bool, keep: bool) -> ImageCache | None:
    """The decoded training images; None where decoded images are not to be kept.

    Every image is decoded here in either case, those of the test too: a broken one is found now, before the folder of
    the run is claimed, and not after the training.
    """
    tables = [dataset.train, dataset.query, dataset.gallery, *(t for pair in dataset.levels.values() for t in pair)]
    tables = {tuple(t.path): t for t in tables}.values()
    options = {"size": recipe.size, "workers": workers}
    if keep:
        options |= {"root": dataset.root, "folder": dataset.derived("cache"), "progress": progress}
        train, *_ = [ImageCache.for_table(table, **options) for table in tables]
        return train
    batches = [test_batches(table, batch_size=32, **options) for table in tables]
    with tqdm(total=sum(map(len, batches)), unit="batch", desc="images", disable=not progress) as bar:
        for _ in chain(*batches):
            bar.update()
    return None
