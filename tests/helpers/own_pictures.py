"""A folder of small pictures of persons, one colour a person, and files of every kind that people have."""

from pathlib import Path

import numpy as np
from PIL import Image


def person_image(pid: int, shot: int = 0, size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Noise around a colour that only this person has; every shot is another picture."""
    colour = np.random.default_rng(pid).integers(40, 216, 3)
    noise = np.random.default_rng([pid, shot]).integers(-40, 40, (*size, 3))
    return Image.fromarray((colour + noise).astype(np.uint8))


def save_person(path: Path, pid: int, shot: int = 0) -> Path:
    """Write one shot of a person; lossless where the suffix allows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    person_image(pid, shot).save(path)
    return path


def person_folders(root: Path, persons: int = 8, shots: int = 4, suffix: str = ".png") -> Path:
    """`root/p03/001.png`: a folder a person."""
    for pid in range(persons):
        for shot in range(shots):
            save_person(root / f"p{pid:02d}" / f"{shot:03d}{suffix}", pid, shot)
    return root
