"""From any photograph to the crop of one person, which is what the networks of the kit read.

    picture = decode("street.jpg")
    crop_hint(picture.size)                   # words where the shape is not that of a standing person, else ""
    crop, found = cut_person(picture, load_detector(), "street.jpg")

A crop is not asked for a detector: its shape is judged from its width and height alone, and that is a hint, no proof.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reidkit.errors import ReIDKitError
from reidkit.tensor_files import load_tensors

USUAL = (1.3, 5.0)  # height over width of a crop of one standing person; the detectors of the data sets give 1.5 to 4
DETECTOR = "fasterrcnn_mobilenet_v3_large_320_fpn"  # torchvision's smallest person detector: 78 MB, a second a picture
COCO_PERSON = 1
LARGEST = 1600  # pixels a side that the detector is shown; it works with 640 at most
MIN_SCORE = 0.7  # of a box that counts as a person
Detector = Callable[[list[Tensor]], list[dict[str, Tensor]]]  # [3, H, W] in [0, 1] -> boxes [n, 4], labels, scores [n]


def crop_hint(size: tuple[int, int], name: str = "the picture") -> str:
    """What to know where (width, height) is not the shape of a crop of one standing person; "" where it is."""
    width, height = size
    if USUAL[0] * width <= height <= USUAL[1] * width:
        return ""
    return (
        f"{name} is {height / width:.2g} times as tall as wide, a crop of one standing person usually 2 to 3 times: "
        "the network sees it stretched"
    )


def cut_person(image: Image.Image, detector: Detector, name: str = "the picture") -> tuple[Image.Image, str]:
    """(crop of the largest person, what was found in words).

    detector: as `load_detector` gives it. Raises ReIDKitError where it is sure of no person.
    """
    boxes = person_boxes(image, detector)
    if not len(boxes):
        raise ReIDKitError(
            f"{name}: the detector is sure of no person in this picture of {image.width} x {image.height} pixels; "
            "crop it by hand, or leave --detect away to use all of it"
        )
    left, top, right, bottom = boxes[0].tolist()
    people = "1 person" if len(boxes) == 1 else f"{len(boxes)} people; the largest is used"
    where = f"{name}: {people}, the box {left}, {top} to {right}, {bottom} of {image.width} x {image.height} pixels"
    return image.crop((left, top, right, bottom)), where


@torch.no_grad()
def person_boxes(image: Image.Image, detector: Detector) -> np.ndarray:
    """int [n, 4] boxes (left, top, right, bottom) in pixels of the people found, the largest first."""
    small = image.convert("RGB")
    small.thumbnail((LARGEST, LARGEST))
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255  # [3, H, W]
    found = detector([pixels])[0]
    sure = (found["labels"] == COCO_PERSON) & (found["scores"] >= MIN_SCORE)
    scale = torch.tensor([image.width / small.width, image.height / small.height]).repeat(2)
    boxes = (found["boxes"][sure].cpu() * scale).round().long().numpy()  # [n, 4]
    boxes = boxes.clip(0, np.tile([image.width, image.height], 2))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # [n]
    return boxes[np.argsort(-area, kind="stable")][: int((area > 0).sum())]


def load_detector(weights: str | Path | None = None) -> nn.Module:
    """torchvision's person detector in eval mode on the CPU.

    weights: a state dict file; None: torchvision's own, from its folder of downloads or from the network.
    Raises ReIDKitError where they are not there and cannot be downloaded, or do not fit.
    """
    from torchvision.models import get_model, get_model_weights

    if weights is not None:
        network = get_model(DETECTOR, weights=None, weights_backbone=None)
        return _filled(network, Path(weights)).eval()
    published = get_model_weights(DETECTOR)["DEFAULT"]
    try:
        return get_model(DETECTOR, weights=published).eval()
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a damaged download a RuntimeError
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
        raise ReIDKitError(
            f"--detect needs the weights of torchvision's {DETECTOR}, which are not here and cannot be downloaded "
            f"({error}). Fetch {published.url} where there is a network and put the file at {place} (TORCH_HOME names "
            "another folder), or name it with --detector-weights"
        ) from error


def _filled(network: nn.Module, weights: Path) -> nn.Module:
    """The network with the weights of a file."""
    if not weights.is_file():
        raise ReIDKitError(f"{weights}: no such file; --detector-weights names a state dict of {DETECTOR}")
    try:
        network.load_state_dict(load_tensors(weights))
    except Exception as error:  # torch.load raises many kinds on damaged files
        raise ReIDKitError(
            f"{weights} holds no weights of torchvision's {DETECTOR} ({str(error).splitlines()[0]}); fetch the file "
            "again"
        ) from error
    return network
