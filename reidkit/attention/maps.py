"""Part attention: which regions of an image does part classifier k listen to? (MPN Sec. 5.2.5, Fig. 8 and 9)

    part_attention        the K maps of K classifiers                             MPN Fig. 8, 9
    similarity_attention  which regions of A make it match B, part by part        no classes needed
    channel_responses     what single channels of the backbone respond to         MPN Fig. 2
    global_maps           responses of CGPN's global parts                        CGPN Fig. 5

The first two need the `grad-cam` package (pip install grad-cam); `reidkit.attention.cam` is the bridge to it and
says why K maps here cost little more than one pass of the backbone. `reidkit.attention.scores` measures the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from reidkit.attention.cam import METHODS, Method, explain, to_image_size
from reidkit.errors import ReIDKitError
from reidkit.evaluation.features import eval_mode
from reidkit.models import ReIDModel
from reidkit.models.base import Maps
from reidkit.models.cgpn import CGPN
from reidkit.priors import PriorBatch

__all__ = [
    "METHODS",
    "attention_from_maps",
    "channel_responses",
    "global_maps",
    "part_attention",
    "predicted_classes",
    "similarity_attention",
]


def part_attention(
    model: ReIDModel,
    images: Tensor,
    method: Method = "gradcam",
    prior: PriorBatch | None = None,
    *,
    classes: Tensor | None = None,
    parts: Sequence[int] | None = None,
) -> Tensor:
    """One attention map per part classifier: [B, K, H, W] float32 in [0, 1] on the CPU, H x W the image size.

    images: [B, 3, H, W], normalised as in testing (`TestTransform`); moved to where the model is.
    method: one of `METHODS`, which says what each is; all work for every model.
    prior: PriorBatch of the B images, for models that need one at test time (`model.needs_prior_at_test`).
    classes: the identity to explain, [B] for all parts (the true training label, say) or [B, K]; default: what
        each classifier predicts by itself, as in the papers. Class index, not pid.
    parts: which maps to compute, in this order; default all K.

    A map is scaled as the package does it: smallest value 0, largest 1. It says where evidence is, not how much.
    One without any positive evidence is all zeros. Grad-CAM weighs whole channels of F: the map of a stripe model
    may light up outside of the stripe that part k reads. "hirescam" and "layercam" stay inside.
    The model runs in eval mode and comes back unchanged.
    Raises ReIDKitError when grad-cam is not installed or shapes do not fit, UnknownNameError, PriorError.
    """
    images = _ready(model, images)
    with _untouched(model):
        maps = _feature_maps(model, images)
    return attention_from_maps(model, maps, images, method, prior, classes=classes, parts=parts)


def attention_from_maps(
    model: ReIDModel,
    maps: Maps,
    images: Tensor,
    method: Method = "gradcam",
    prior: PriorBatch | None = None,
    *,
    classes: Tensor | None = None,
    parts: Sequence[int] | None = None,
) -> Tensor:
    """`part_attention` from cached `model.feature_maps(images)`: when only a part, class or method changes."""
    images = _ready(model, images)
    with _untouched(model):
        prior = prior and prior.to(images.device)
        if classes is not None:
            classes = _per_part(classes, len(images), model).to(images.device)
        elif method == "scorecam":  # masked images have predictions of their own: explain the whole image's
            classes = _predictions(model, maps, prior)
        return explain(model, maps, images, method, ClassScore(model, prior, classes), _parts(model, parts))


def similarity_attention(
    model: ReIDModel,
    images_a: Tensor,
    images_b: Tensor,
    method: Method = "gradcam",
    *,
    prior_a: PriorBatch | None = None,
    prior_b: PriorBatch | None = None,
    parts: Sequence[int] | None = None,
) -> Tensor:
    """Which regions of A make part k of A match part k of B: [B, K, H, W] in [0, 1], maps on A.

    The number to explain is the cosine similarity of the two features of part k; no class is involved, so this
    works for people whom the network was never trained on. images_b: [B, 3, H, W], or one image for all of A.
    Other arguments and errors as in `part_attention`. Swap A and B for the regions of B.
    """
    images_a, images_b = _ready(model, images_a), _ready(model, images_b)
    if len(images_b) not in (1, len(images_a)):
        raise ReIDKitError(f"{len(images_a)} images A came with {len(images_b)} images B: pass as many, or one")
    with _untouched(model):
        prior_a, prior_b = (p and p.to(images_a.device) for p in (prior_a, prior_b))
        with torch.no_grad():
            other = model.heads(_feature_maps(model, images_b), prior_b).part_features  # [B or 1, K, d]
        score = SimilarityScore(model, prior_a, other)
        maps = _feature_maps(model, images_a)
        return explain(model, maps, images_a, method, score, _parts(model, parts))


def predicted_classes(model: ReIDModel, images: Tensor, prior: PriorBatch | None = None) -> Tensor:
    """[B, K] class index that each part classifier predicts by itself."""
    images = _ready(model, images)
    with _untouched(model):
        return _predictions(model, _feature_maps(model, images), prior and prior.to(images.device))


def channel_responses(
    model: ReIDModel, images: Tensor, channels: int | Sequence[int] = 5, *, branch: int = 0
) -> tuple[Tensor, list[int]]:
    """Responses of single channels of the last feature map (MPN Fig. 2): maps [B, n, H, W] in [0, 1], channels.

    channels: which ones, or how many: those with the highest peak response, averaged over the images.
    branch: which map, for models with branches. Each map is scaled on its own. Needs no grad-cam package.
    """
    images = _ready(model, images)
    with _untouched(model):
        maps = _feature_maps(model, images)
    maps = maps if isinstance(maps, tuple) else (maps,)
    if not 0 <= branch < len(maps):
        raise ReIDKitError(f"branch {branch} of a model with {len(maps)} feature maps: choose 0 .. {len(maps) - 1}")
    responses = maps[branch]  # [B, C, h, w]
    if isinstance(channels, int):
        channels = responses.amax((2, 3)).mean(0).topk(min(channels, responses.shape[1])).indices.tolist()
    wrong = [c for c in channels if not 0 <= c < responses.shape[1]]
    if wrong:
        raise ReIDKitError(f"channel {wrong[0]} of {responses.shape[1]}: choose 0 .. {responses.shape[1] - 1}")
    return to_image_size(responses[:, list(channels)].cpu(), images.shape[2:]), list(channels)


def global_maps(model: ReIDModel, images: Tensor) -> Tensor:
    """Where CGPN's global parts respond (CGPN Fig. 5): [B, branches, P, H, W] in [0, 1].

    P maps a branch, P = 2 in the paper: the conv that is taught the upper body and the one taught the lower body
    (compare `cgpn` with `cgpn-4`, which is not taught). A map is the mean over channels of the positive responses
    before pooling. Needs no grad-cam package. Raises ReIDKitError for models other than CGPN, and for CGPN-3.
    """
    images = _ready(model, images)
    if not isinstance(model, CGPN):
        raise ReIDKitError(
            f"global_maps draws CGPN Fig. 5, and {model.name} has no supervised global parts: use a "
            "CGPN variant, or part_attention for any model"
        )
    with _untouched(model), torch.no_grad():
        responses = model.global_responses(model.feature_maps(images))  # [B, branches, P, c, h, w]
        return to_image_size(responses.relu().mean(3).cpu(), images.shape[2:])


# ---- the number to explain ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassScore:
    """The logit of `classes[:, k]` ([B, K]), or of the classifier's own favourite."""

    model: ReIDModel
    prior: PriorBatch | None
    classes: Tensor | None

    def __call__(self, k: int, maps: Maps) -> Tensor:
        logits = self.model.part_head(k, maps, _for(maps, self.prior))[1]  # [B, classes]
        if self.classes is None:
            return logits.max(1).values
        return logits.gather(1, self.classes[:, k : k + 1].expand(len(logits), 1))[:, 0]  # [B]

    def of_image(self, i: int) -> ClassScore:
        """The same score for image `i` of the batch alone, batch size 1."""
        classes = None if self.classes is None else self.classes[i : i + 1]
        return replace(self, prior=_row(self.prior, i), classes=classes)


@dataclass(frozen=True)
class SimilarityScore:
    """Cosine similarity of part k's feature with `other[:, k]` ([B or 1, K, d])."""

    model: ReIDModel
    prior: PriorBatch | None
    other: Tensor

    def __call__(self, k: int, maps: Maps) -> Tensor:
        feature = self.model.part_head(k, maps, _for(maps, self.prior))[0]  # [B, d]
        return F.cosine_similarity(feature, self.other[:, k])  # [B]

    def of_image(self, i: int) -> SimilarityScore:
        """The same score for image `i` of the batch alone, batch size 1; one `other` serves all images."""
        return replace(self, prior=_row(self.prior, i), other=self.other[i % len(self.other)].unsqueeze(0))


def _row(prior: PriorBatch | None, i: int) -> PriorBatch | None:
    return prior and prior.rows(slice(i, i + 1))


def _for(maps: Maps, prior: PriorBatch | None) -> PriorBatch | None:
    """The prior of one image for as many masked copies of it as there are maps; any other as it is."""
    if prior is None or len(prior.top) != 1:
        return prior
    return prior.expand(len(maps[0] if isinstance(maps, tuple) else maps))


@torch.no_grad()
def _predictions(model: ReIDModel, maps: Maps, prior: PriorBatch | None) -> Tensor:
    return model.heads(maps, prior).logits.argmax(2).T  # [B, K]


# ---- care for the model ---------------------------------------------------------------------------------------------


@contextmanager
def _untouched(model: ReIDModel) -> Iterator[None]:
    """Eval mode, no parameter gradients; afterwards modes and `requires_grad` are what they were."""
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    with ExitStack() as stack:
        stack.enter_context(eval_mode(model))
        stack.enter_context(torch.inference_mode(False))
        for p, before in wanted:
            stack.callback(p.requires_grad_, before)
            p.requires_grad_(False)
        yield


@torch.no_grad()
def _feature_maps(model: ReIDModel, images: Tensor) -> Maps:
    return model.feature_maps(images)


def _ready(model: ReIDModel, images: Tensor) -> Tensor:
    """Checked, and on the model's device."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not len(images):
        raise ReIDKitError(
            f"expected normalised float images [B, 3, H, W], got {images.dtype} {tuple(images.shape)}; "
            "TestTransform()(batch).images turns a uint8 batch into them"
        )
    return images.to(next(model.parameters()).device)


def _per_part(classes: Tensor, batch: int, model: ReIDModel) -> Tensor:
    """Class indices [B] or [B, K] -> long [B, K]."""
    classes = torch.as_tensor(classes)
    if classes.shape == (batch,):
        classes = classes.unsqueeze(1).expand(batch, model.num_parts)
    if classes.shape != (batch, model.num_parts) or classes.is_floating_point():
        raise ReIDKitError(
            f"classes are integers [{batch}] or [{batch}, {model.num_parts}], got {classes.dtype} "
            f"{tuple(classes.shape)}"
        )
    if classes.min() < 0 or classes.max() >= model.num_classes:
        raise ReIDKitError(
            f"classes {int(classes.min())} .. {int(classes.max())}: {model.name} knows class indices "
            f"0 .. {model.num_classes - 1} (of training identities, not pids)"
        )
    return classes.long()


def _parts(model: ReIDModel, parts: Sequence[int] | None) -> Sequence[int]:
    parts = range(model.num_parts) if parts is None else parts
    wrong = [k for k in parts if not 0 <= k < model.num_parts]
    if wrong or not len(parts):
        raise ReIDKitError(f"parts {list(parts)} of {model.name}: choose one or more of 0 .. {model.num_parts - 1}")
    return parts
