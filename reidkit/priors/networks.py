"""Tool "torchvision+segformer": both maps of Sec. 3.2 from two pretrained networks.

The paper's tools are a LIP parser [44] and a person segmenter [45]. Here the clothes parsing comes from a SegFormer
checkpoint through transformers and the segmentation from torchvision; each library downloads its weights on
first use, or takes them from a path. Label names in the checkpoint's `config.json` say how its labels become LIP.

Person crops are small (128x64), the networks were trained on large photographs: every image is enlarged to
`INPUT_SIZE`, which keeps the 2:1 shape of a person crop, and the outputs are brought back to the image's size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from reidkit.data.images import decode
from reidkit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reidkit.errors import DatasetError, PriorError, unknown_name
from reidkit.priors.files import MapPair, file_stamp
from reidkit.priors.labels import to_lip_table
from reidkit.tensor_files import load_tensors

INPUT_SIZE = (512, 256)  # height, width of what both networks see
SEGMENTATION_MODELS = (
    *(f"deeplabv3_{trunk}" for trunk in ("mobilenet_v3_large", "resnet50", "resnet101")),
    *("fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"),
    *("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"),
)
PERSON_OF = {21: 15, 2: 1}  # classes of a semantic head -> index of "person" (Pascal VOC's 21, or person alone)
COCO_PERSON = 1  # of an instance head
MIN_SCORE = 0.5  # instances below are not trusted


@dataclass(frozen=True)
class NetworkMaps:
    """Computes the two maps of an image; the networks are loaded at the first one.

    root: the data set's folder; image paths are relative to it.
    segmentation_model: one of `SEGMENTATION_MODELS`. segmentation_weights: a torchvision weights name
        ("DEFAULT", "COCO_V1" ...) or the path of a state dict.
    parsing_model: a folder that `save_pretrained` wrote (config, weights, preprocessor), or a name on the hub.
    """

    root: Path
    device: str = "cpu"
    segmentation_model: str = "deeplabv3_mobilenet_v3_large"
    segmentation_weights: str | Path = "DEFAULT"
    parsing_model: str | Path = "mattmdjaga/segformer_b2_clothes"
    batch_size: int = 16
    input_size: tuple[int, int] = INPUT_SIZE

    def __post_init__(self) -> None:
        if self.segmentation_model not in SEGMENTATION_MODELS:
            raise unknown_name("segmentation model", self.segmentation_model, SEGMENTATION_MODELS)

    @property
    def settings(self) -> dict[str, object]:
        """What must be the same for cached priors to be valid; weights given as files count by name, size and date."""
        return {
            "segmentation_model": self.segmentation_model,
            "segmentation_weights": _identity(self.segmentation_weights),
            "parsing_model": _identity(self.parsing_model),
            "input_size": list(self.input_size),
        }

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries, for the manifest."""
        import torchvision

        return {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "transformers": _transformers().__version__,
        }

    def stamp(self, path: str) -> int:
        """A number that changes when the image changes; 0 if it does not exist."""
        return file_stamp(path, Path(self.root) / path)

    def where(self, path: str) -> str:
        """The file that was looked for, for messages."""
        return f"the image itself, {Path(self.root) / path}"

    def hint(self, absent: Sequence[str]) -> str:
        """No other place where these images may be is known."""
        return ""

    def doubt(self, whole: bool = False) -> None:
        """Nothing to doubt: the labels' names come with the network."""

    @cached_property
    def segmenter(self) -> PersonSegmenter:
        """The network that finds persons, loaded on first use."""
        return load_segmenter(self.segmentation_model, self.segmentation_weights).to(self.device)

    @cached_property
    def parser(self) -> ClothesParser:
        """The network that finds clothes and body parts, loaded on first use."""
        return load_parser(self.parsing_model).to(self.device)

    @torch.inference_mode()
    def maps(self, paths: Sequence[str]) -> list[MapPair]:
        """Parsing [H, W] uint8 LIP and segmentation [H, W] float32 of each image, at the image's own size."""
        images = [_read_image(Path(self.root) / path) for path in paths]
        tensors = [_enlarged(image, self.input_size, self.device) for image in images]
        batch = torch.stack(tensors)  # [B, 3, h, w] in [0, 1]
        labels, persons = self.parser(batch), self.segmenter(batch)  # [B, L, h', w'] scores, [B, h, w] probability
        out = []
        for image, scores, person in zip(images, labels, persons):
            size = (image.shape[0], image.shape[1])
            parsing = self.parser.to_lip[_resized(scores, size).argmax(0).cpu().numpy()]
            out.append((parsing, _resized(person[None], size)[0].clamp(0, 1).float().cpu().numpy()))
        return out


class ClothesParser(nn.Module):
    """A SegFormer with its checkpoint's normalisation: images [B, 3, h, w] in [0, 1] -> scores [B, L, h/4, w/4]."""

    mean: Tensor  # [3, 1, 1]
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], to_lip: np.ndarray):
        super().__init__()
        self.network = network.eval()
        self.to_lip = to_lip  # [L] uint8
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std).logits


class PersonSegmenter(nn.Module):
    """A torchvision network as person probability: images [B, 3, h, w] in [0, 1] -> [B, h, w] in [0, 1].

    Semantic networks: softmax, the person's channel. Instance networks (Mask R-CNN): of the persons scored
    above `MIN_SCORE` the largest one, because a crop is drawn around one person and bystanders are smaller.
    """

    mean: Tensor  # [3, 1, 1]
    std: Tensor

    def __init__(self, network: nn.Module, person: int, instances: bool):
        super().__init__()
        self.network, self.person, self.instances = network.eval(), person, instances
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if self.instances:  # Mask R-CNN normalises by itself
            size = (images.shape[-2], images.shape[-1])
            return torch.stack([largest_person(found, size, self.person) for found in self.network(list(images))])
        scores = self.network((images - self.mean) / self.std)["out"]  # [B, classes, h, w]
        return scores.softmax(dim=1)[:, self.person]


def largest_person(found: dict[str, Tensor], size: tuple[int, int], person: int = COCO_PERSON) -> Tensor:
    """[h, w] mask probability of the largest confident person in one Mask R-CNN output; zeros if there is none."""
    masks = found["masks"][(found["labels"] == person) & (found["scores"] >= MIN_SCORE), 0]  # [n, h, w]
    if not len(masks):
        return torch.zeros(*size, device=masks.device, dtype=masks.dtype)
    return masks[masks.sum(dim=(1, 2)).argmax()]


def load_segmenter(model: str, weights: str | Path = "DEFAULT") -> PersonSegmenter:
    """A torchvision segmentation network; PriorError if its weights cannot be downloaded, read, or do not fit."""
    instances = model.startswith("maskrcnn")
    if not _looks_like_file(weights):
        names = [w.name for w in models.get_model_weights(model)]
        if str(weights) not in (*names, "DEFAULT"):
            raise unknown_name(f"weights of {model} (a name, or the path of a state dict)", str(weights), names)
        try:
            network = models.get_model(model, weights=str(weights))
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a damaged download is a RuntimeError
            url = models.get_model_weights(model)[str(weights)].url
            raise PriorError(
                f"torchvision could not download the weights of {model} from {url} ({error}); run this where the "
                "network is reachable, or fetch that file by hand and pass segmentation_weights=PATH"
            ) from error
        return PersonSegmenter(network, COCO_PERSON if instances else PERSON_OF[21], instances)
    state = _read_state(Path(weights))
    classes = _count_classes(state, Path(weights), model)
    # torchvision's published weights carry an auxiliary classifier where training used one
    auxiliary = {"aux_loss": True} if any(key.startswith("aux_classifier.") for key in state) else {}
    network = models.get_model(model, weights=None, weights_backbone=None, num_classes=classes, **auxiliary)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise PriorError(f"{weights} holds no weights of {model}: {_brief(error)}") from error
    return PersonSegmenter(network, COCO_PERSON if instances else PERSON_OF[classes], instances)


def load_parser(model: str | Path) -> ClothesParser:
    """A SegFormer clothes parser; PriorError if it cannot be downloaded or read, or its label names are not known."""
    transformers = _transformers()
    if _looks_like_file(model) and not Path(model).is_dir():
        raise PriorError(
            f"{model}: no such folder; a parsing model is a folder with config.json, the weights and "
            "preprocessor_config.json (what save_pretrained writes), or a name on the Hugging Face hub"
        )
    try:
        loaded = transformers.SegformerForSemanticSegmentation.from_pretrained(model, output_loading_info=True)
        processor = transformers.SegformerImageProcessor.from_pretrained(model)
    except (OSError, ValueError, RuntimeError) as error:
        raise PriorError(
            f"transformers could not load the parsing model {model} ({_brief(error)}); run this where the Hugging "
            "Face hub is reachable, or download the model's folder by hand and pass parsing_model=PATH"
        ) from error
    network, info = loaded
    if info["missing_keys"]:  # transformers would go on with random weights there
        raise PriorError(
            f"the parsing model {model} lacks weights ({', '.join(sorted(info['missing_keys'])[:3])} ...): it is not a "
            "trained SegFormer with a segmentation head; choose a clothes-parsing checkpoint"
        )
    names = [name for _, name in sorted(network.config.id2label.items())]
    table = to_lip_table(names, f"the parsing model {model}")
    return ClothesParser(network, processor.image_mean, processor.image_std, table)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise PriorError('clothes parsing needs transformers: pip install "reidkit[priors]"') from error
    return transformers


def _brief(error: Exception) -> str:
    """The start of a long message, on one line."""
    return " ".join(str(error).split())[:300]


def _looks_like_file(name: str | Path) -> bool:
    """A path rather than a name: it exists, is a Path, or is spelt like one (./x, /x, ~/x, x.pth)."""
    text = str(name)
    spelt = text.startswith((".", "/", "~")) or text.endswith((".pth", ".pt"))
    return isinstance(name, Path) or spelt or os.path.exists(text)


def _identity(name: str | Path) -> str:
    """A weights name as it is; a file or folder with size and date, so that other weights are noticed."""
    if not _looks_like_file(name) or not os.path.exists(name):
        return str(name)
    path = Path(name).resolve()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return f"{path}#{file_stamp('', *files):016x}"


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        state = load_tensors(file)
        return state["model"] if isinstance(state.get("model"), dict) else state  # torchvision's training script wraps
    except FileNotFoundError as error:
        raise PriorError(f"{file}: no such file of segmentation weights") from error
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise PriorError(
            f"{file} does not load as a state dict ({type(error).__name__}); fetch the file again"
        ) from error


def _count_classes(state: dict[str, Tensor], file: Path, model: str) -> int:
    """Classes of the head stored in a state dict; for semantic heads only 21 (Pascal VOC) and 2 are known."""
    heads = ("classifier.4", "classifier.low_classifier", "roi_heads.mask_predictor.mask_fcn_logits")
    found = [state[f"{head}.weight"].shape[0] for head in heads if f"{head}.weight" in state]
    if not found or (not model.startswith("maskrcnn") and found[0] not in PERSON_OF):
        said = f"a head of {found[0]} classes" if found else "no segmentation head"
        raise PriorError(f"{file}: {said}; expected a state dict of {model} with 21 (Pascal VOC) or 2 classes")
    return found[0]


def _read_image(file: Path) -> np.ndarray:
    """[H, W, 3] uint8."""
    try:
        return np.array(decode(file))
    except DatasetError as error:
        raise PriorError(
            f"{file} does not decode ({error}); restore the image, then call again: what is computed already is kept"
        ) from error


def _enlarged(image: np.ndarray, size: tuple[int, int], device: str) -> Tensor:
    """[H, W, 3] uint8 -> [3, h, w] in [0, 1]."""
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255
    return _resized(pixels, size).clamp(0, 1)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, h, w] -> [C, *size], bilinear, averaging where it shrinks."""
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
