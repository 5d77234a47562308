"""A tiny data set of random images in Market-1501's layout, written by PIL."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def write_image(path: Path, rng: np.random.Generator, height: int = 32, width: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)


def make_market_folder(root: Path, train_ids: int = 6, cameras: int = 2, images: int = 2, seed: int = 0) -> Path:
    """train_ids identities to train on (2, 3, ...), two to test (101, 102), one junk and one distractor image."""
    rng = np.random.default_rng(seed)
    for pid in range(2, 2 + train_ids):
        for cam in range(1, 1 + cameras):
            for i in range(images):
                write_image(root / "bounding_box_train" / f"{pid:04d}_c{cam}s1_{i:06d}_01.jpg", rng)
    for pid in (101, 102):
        write_image(root / "query" / f"{pid:04d}_c1s1_000001_00.jpg", rng)
        for cam in range(1, 1 + cameras):
            write_image(root / "bounding_box_test" / f"{pid:04d}_c{cam}s1_000002_01.jpg", rng)
    write_image(root / "bounding_box_test" / "-1_c1s1_000003_01.jpg", rng)
    write_image(root / "bounding_box_test" / "0000_c2s1_000004_01.jpg", rng)
    return root
