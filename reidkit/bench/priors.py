"""How fast are priors made? CPU seconds of one process, so that other load on the machine does not count."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.bench.clock import measure
from reidkit.priors.coarse import coarse_priors
from reidkit.priors.files import FileMaps

SIZES = ((128, 64), (144, 48), (384, 128))  # Market-1501, Sidewalk small, Sidewalk full
TARGET = 2000.0  # images a second a core from maps to priors


def synthetic_maps(n: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Parsing maps [n, H, W] uint8 and segmentation maps [n, H, W] bool: upright figures of jittered place and size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    parsings = np.zeros((n, height, width), np.uint8)
    for parsing in parsings:
        top, tall = rng.uniform(0, 0.2) * height, rng.uniform(0.6, 0.95) * height
        middle, half = rng.uniform(0.4, 0.6) * width, rng.uniform(0.15, 0.3) * width
        v, inside = (y - top) / tall, np.abs(x - middle) < half
        for upper, lower, label in ((0, 0.07, 2), (0.07, 0.15, 13), (0.17, 0.5, 5), (0.5, 0.92, 9), (0.92, 1, 18)):
            parsing[inside & (v >= upper) & (v < lower)] = label
    segmentations = parsings > 0
    segmentations[:, 1:] |= segmentations[:, :-1]
    return parsings, segmentations


def run(n: int = 512, seconds: float = 1.0) -> dict[str, float]:
    """Images a CPU second, all threads added up: `maps_to_priors_<H>x<W>`; `files_to_priors_<H>x<W>` decodes PNGs too.

    n: images a size. seconds: how long each measurement lasts at least.
    """
    out: dict[str, float] = {"target_maps_to_priors": TARGET}
    for height, width in SIZES:
        maps = synthetic_maps(n, height, width)
        spent = measure(lambda maps=maps: coarse_priors(*maps), at_least=seconds, warm_up=1)
        out[f"maps_to_priors_{height}x{width}"] = n / spent.cpu
        with tempfile.TemporaryDirectory() as folder:
            source, paths = write_maps(Path(folder), *(m[:128] for m in maps))

            def read(source=source, paths=paths) -> None:
                parsings, segmentations = zip(*source.maps(paths))
                coarse_priors(np.stack(parsings), np.stack(segmentations))

            spent = measure(read, at_least=seconds, warm_up=1)
            out[f"files_to_priors_{height}x{width}"] = len(paths) / spent.cpu
    return out


def write_maps(root: Path, parsings: np.ndarray, segmentations: np.ndarray) -> tuple[FileMaps, list[str]]:
    """Images and their maps as files under `root`, and the source that reads them."""
    for folder in ("images", "parsing/images", "segmentation/images"):
        (root / folder).mkdir(parents=True)
    paths = [f"images/{i:04d}.jpg" for i in range(len(parsings))]
    for path, parsing, segmentation in zip(paths, parsings, segmentations):
        name = Path(path).with_suffix(".png")
        Image.fromarray(np.repeat(parsing[..., None], 3, axis=2) * 12).save(root / path)
        Image.fromarray(parsing).save(root / "parsing" / name)
        Image.fromarray(segmentation.astype(np.uint8) * 255).save(root / "segmentation" / name)
    return FileMaps(root, root / "parsing", root / "segmentation"), paths
