"""Map folders for tests: figures drawn in the labels of a set, and LIP maps translated to the other sets."""

from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.data.lip import LIP_LABELS
from reidkit.priors.labels import LABEL_SETS

FIGURES = {"lip": (13, 5, 9, 18), "atr": (11, 4, 6, 9), "pascal": (1, 2, 5, 6)}  # head, torso, legs, feet
TO_ATR = {"glove": "left-arm", "coat": "upper-clothes", "socks": "left-leg", "jumpsuits": "dress"}
TO_PASCAL = {
    **dict.fromkeys(["hat", "hair", "sunglasses", "face"], "head"),
    **dict.fromkeys(["upper-clothes", "dress", "coat", "jumpsuits", "scarf"], "torso"),
    **dict.fromkeys(["glove", "left-arm", "right-arm"], "lower-arms"),
    **dict.fromkeys(["pants", "skirt", "left-leg", "right-leg"], "upper-legs"),
    **dict.fromkeys(["socks", "left-shoe", "right-shoe"], "lower-legs"),
}


def translated(label_set: str) -> np.ndarray:
    """[20] uint8: LIP label -> label of this set, by name."""
    names = {"lip": {}, "atr": TO_ATR, "pascal": TO_PASCAL}[label_set]
    return np.array([LABEL_SETS[label_set].index(names.get(label, label)) for label in LIP_LABELS], np.uint8)


def figure(head: int, torso: int, legs: int, feet: int, height: int = 32, width: int = 16) -> np.ndarray:
    """[H, W] uint8: an upright person of four blocks."""
    labels = np.zeros((height, width), np.uint8)
    blocks = (
        (head, 0.05, 0.16, 0.35, 0.65),
        (torso, 0.16, 0.55, 0.24, 0.78),
        (legs, 0.55, 0.88, 0.28, 0.72),
        (feet, 0.88, 0.96, 0.28, 0.72),
    )
    for label, top, bottom, left, right in blocks:
        labels[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = label
    return labels


def write_map(folder: Path, root: Path, image: str, values: np.ndarray, palette: bool = False) -> Path:
    """Write one map as a grey or palette PNG where the tool "files" looks for it."""
    file = folder / Path(image).relative_to(root).with_suffix(".png")
    file.parent.mkdir(parents=True, exist_ok=True)
    png = Image.fromarray(values)
    if palette:
        png.putpalette(list(range(256)) * 3)
    png.save(file)
    return file


def write_figures(ds, table, labels, folder: Path | None = None, segmentation=None, palette: bool = False) -> None:
    """Maps of these images: `figure(*labels)` below `<folder>/parsing` and its outline below `<folder>/segmentation`.

    segmentation: [H, W] values instead of the outline. folder: default the data set's root.
    """
    folder = folder or ds.root
    for image in table.path:
        parsing = figure(*labels)
        outline = (parsing > 0).astype(np.uint8) * 255 if segmentation is None else segmentation
        write_map(folder / "parsing", ds.root, image, parsing, palette)
        write_map(folder / "segmentation", ds.root, image, outline, palette)
