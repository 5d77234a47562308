"""From images (a table or paths) to a matrix of features.

How the image is resized and whether its mirror image is added differs between MPN's paper, its released code and CGPN's
paper, by some tenths of a point, so the choice has a name: a `TestForm`.

    features = extract_features(model, ds.query, size=(384, 128), **RELEASED.extraction)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from reidkit.data.images import Interpolation
from reidkit.data.loaders import Batch, BatchLoader, Images, image_table, test_batches
from reidkit.data.transforms import TestTransform
from reidkit.errors import PriorError, ReIDKitError, unknown_name
from reidkit.models import ReIDModel
from reidkit.priors import PriorBatch, PriorTable

Flip = Literal["none", "sum", "mean"]
FLIPS: tuple[Flip, ...] = get_args(Flip)
Precision = Literal["no", "bf16", "fp16"]
PRECISIONS: dict[Precision, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@torch.no_grad()
def extract_features(
    model: ReIDModel,
    images: Images,
    *,
    size: tuple[int, int],
    device: torch.device | str | None = None,
    batch_size: int = 128,
    flip: Flip = "none",
    interpolation: Interpolation = "bilinear",
    normalize: bool = False,
    priors: PriorTable | None = None,
    root=None,
    cache=None,
    workers: int = 0,
    amp: bool | str = False,
    to_cpu: bool = True,
    progress: bool = True,
) -> Tensor:
    """float32 [N, D]: `model.embed` of every image, in the order given.

    images: paths (one, or several), or a table with a column `path`. No labels are needed or read.
    size: (height, width) in pixels. device: where to compute; the model is moved there (default: where it is).
    flip: "none"; "sum" or "mean" of image and mirror image. interpolation: "bilinear" or "bicubic" resize.
    normalize: L2-normalise the rows at the end (cosine ranking does not need it).
    priors: looked up only if the model needs a prior at test time; `root` is the folder that the priors' paths
    are relative to. cache: an image cache to read instead of the files. workers: decoding processes.
    amp: False or "no", True or "bf16", "fp16": autocast; features come back in float32.
    to_cpu: False leaves the features on the device, for a ranking there. Either way they gather on the device and are
    checked and copied once, at the end: no batch waits for the one before.

    The model runs in eval mode, and every module is put back into the mode it was in.
    Raises ReIDKitError for no images and for a feature that is not finite (naming the image), PriorError if
    a needed prior is missing, UnknownNameError for an unknown flip or precision.
    """
    if flip not in FLIPS:
        raise unknown_name("flip", flip, FLIPS)
    table = image_table(images)
    if not len(table):
        raise ReIDKitError("there is no image to extract features from: the list has no paths, or the table no rows")
    if model.needs_prior_at_test and priors is None:
        raise PriorError(
            f"{getattr(model, 'name', type(model).__name__)} rectifies its test images: build the priors "
            "of this split and pass them on as priors="
        )
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device)
    batches = test_batches(
        table,
        size=size,
        batch_size=batch_size,
        interpolation=interpolation,
        workers=workers,
        priors=priors if model.needs_prior_at_test else None,
        root=root,
        cache=cache,
        device=device,
    )
    features = embed_batches(
        model, batches, table["path"].tolist(), device=device, flip=flip, amp=amp, progress=progress
    )
    features = F.normalize(features, dim=1) if normalize else features
    return features.cpu() if to_cpu else features


@torch.no_grad()
def embed_batches(
    model: ReIDModel,
    batches: BatchLoader,
    paths: list[str],
    *,
    device: torch.device,
    flip: Flip,
    amp: bool | str,
    progress: bool,
) -> Tensor:
    """[N, D] float32, on the device where the batches arrive and the model is: features in the order of the batches.
    paths: what messages call the images.

    Raises ReIDKitError for a feature that is not finite, once all are computed (no batch waits for the one before).
    """
    transform, features, done, batch_size = TestTransform(), torch.empty(0), 0, 0
    with (
        eval_mode(model),
        test_layout(model, device),
        autocast(device, amp),
        tqdm(total=len(paths), unit="img", desc="features", disable=not progress) as bar,
    ):
        for batch in batches:
            part = embed(model, transform(batch), flip)  # [B, D]
            if not len(features):
                features = torch.empty(len(paths), part.shape[1], device=device)  # [N, D]
                batch_size = len(part)
            features[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    check_finite(features, paths, batch_size)
    return features


def embed(model: ReIDModel, batch: Batch, flip: Flip = "none") -> Tensor:
    """[B, D] features of a normalised batch; with its mirror image added ("sum") or averaged ("mean")."""
    prior = cast("PriorBatch | None", batch.prior)
    features = model.embed(batch.images, prior).float()  # the sum below is never in half precision
    if flip == "none":
        return features
    mirrored = model.embed(batch.images.flip(-1), prior and prior.flip()).float()
    total = features + mirrored
    return total / 2 if flip == "mean" else total


def check_finite(features: Tensor, paths: list[str], batch_size: int) -> None:
    """ReIDKitError naming the first image whose feature (a row of [N, D]) holds NaN or infinity."""
    bad = ~features.isfinite().all(1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        start = first // batch_size * batch_size
        batch = bad[start : start + batch_size]
        raise ReIDKitError(
            f"{paths[first]}: the model's feature holds NaN or infinite values ({int(batch.sum())} of "
            f"{len(batch)} images of this batch); a diverged training, or fp16 where bf16 is needed?"
        )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is as it was (a frozen BN layer in a training model too)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def test_layout(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The weights in the memory format of a test inside; afterwards as they were.

    On a CUDA GPU channels_last, in which convolutions are fastest there, else the usual one. In bf16 the two round
    differently, and a training ends in channels_last on any device: so this is decided here, for every test alike.
    """
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    before = [(weight, weight.data) for weight in model.parameters()]
    model.to(memory_format=layout)
    try:
        yield
    finally:
        for weight, data in before:
            weight.data = data


def autocast(device: torch.device, amp: bool | str) -> torch.autocast:
    """The autocast context for `amp` (see `extract_features`)."""
    name = ("bf16" if amp else "no") if isinstance(amp, bool) else amp
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)
    return torch.autocast(device.type, PRECISIONS[name] or torch.bfloat16, enabled=name != "no")
