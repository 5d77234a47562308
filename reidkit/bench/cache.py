"""What does the image cache save? Plain loader and cache, side by side in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reidkit.bench.clock import best_of_turns, finish, measure
from reidkit.data import load_dataset
from reidkit.data.cache import ImageCache
from reidkit.data.copies.check import _inspect
from reidkit.data.loaders import BatchLoader, train_loader
from reidkit.data.transforms import AugmentConfig, TrainAugment


def run(
    *,
    num_ids: int = 64,
    images_per_id: int = 16,
    size: tuple[int, int] = (384, 128),
    rounds: int = 3,
    device: str | torch.device | None = None,
) -> dict[str, object]:
    """Images a second of 6 x 8 batches from 128x64 JPEG files (Market-1501's size), in one process.

    files: decode and resize every time. cache: memory-mapped uint8. "+augment" adds flip, normalisation and
    erasing; "cache_on_<device>" keeps the cache there and augments there (default: CUDA where there is one).
    headers: look at a file as `reidkit data check` does when it decodes nothing.
    Values are [images a second of wall time, of CPU time], the best of `rounds` taken in turn.
    """
    device = device or ("cuda" if torch.cuda.is_available() else None)
    with tempfile.TemporaryDirectory() as folder:
        ds = load_dataset("market-layout", root=write_set(Path(folder) / "bench", num_ids, images_per_id))
        built = measure(lambda: ImageCache.for_split(ds, "train", size, progress=False))
        cache = ImageCache.for_split(ds, "train", size, progress=False)
        result: dict[str, object] = {"images": len(ds.train), "size": list(size), "cache_build_s": round(built.wall, 2)}
        settings = {"size": size, "num_ids": 6, "num_instances": 8, "seed": 0, "mode": "independent"}
        files, cached = train_loader(ds, **settings), train_loader(ds, **settings, cache=cache)
        augment = TrainAugment(AugmentConfig(size=size))
        ways = {
            "files": lambda: _epoch(files),
            "cache": lambda: _epoch(cached),
            "files+augment": lambda: _epoch(files, augment),
            "cache+augment": lambda: _epoch(cached, augment),
            "headers": lambda: len(_inspect(ds.train.path.tolist(), False, None, False)),
        }
        if device is not None:
            there = train_loader(ds, **settings, cache=cache.to(device))
            name = torch.device(device).type
            ways[f"files_to_{name}+augment"] = lambda: _epoch(files, augment, device)
            ways[f"cache_on_{name}+augment"] = lambda: _epoch(there, augment, device)
        images = {name: way() for name, way in ways.items()}
        best = best_of_turns(ways, rounds)
    rates = {name: tuple(images[name] / second for second in seconds) for name, seconds in best.items()}
    result |= {name: [round(r) for r in rate] for name, rate in rates.items()}
    result["cache_over_files_cpu"] = round(rates["cache"][1] / rates["files"][1], 1)
    result["cache_over_files_cpu_augmented"] = round(rates["cache+augment"][1] / rates["files+augment"][1], 1)
    return result


def _epoch(loader: BatchLoader, augment: TrainAugment | None = None, device: str | torch.device | None = None) -> int:
    """Go through one epoch; returns the number of images."""
    generator, images = torch.Generator().manual_seed(0), 0
    for batch in loader:
        batch = batch if device is None else batch.to(device)
        batch = batch if augment is None else augment(batch, generator)
        images += len(batch)
    if device is not None:
        finish(torch.device(device))
    return images


def write_set(root: Path, num_ids: int, images_per_id: int) -> Path:
    """A folder in Market-1501's layout with smooth random images of 128x64 pixels."""
    rng = np.random.default_rng(0)
    people = {"bounding_box_train": range(1, 1 + num_ids), "query": [9001], "bounding_box_test": [9001]}
    for folder, pids in people.items():
        (root / folder).mkdir(parents=True)
        for pid in pids:
            for i in range(images_per_id):
                pixels = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
                name = f"{pid:04d}_c{1 + i % 6}s1_{i:06d}_01.jpg"
                pixels.resize((64, 128), Image.Resampling.BICUBIC).save(root / folder / name, quality=90)
    return root
