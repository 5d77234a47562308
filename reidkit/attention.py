"""Part attention: which regions of an image does part classifier k listen to? (MPN Sec. 5.2.5, Fig. 8 and 9)

Class activation maps come from the `grad-cam` package (pip install grad-cam). Used as usual, it runs the whole
network forwards and backwards once a map, K times an image. But every map is a function of the backbone's feature
map F and of one head: so F is computed once, without gradients, and the package is shown a tiny "network" instead:

    usual:  image -> backbone -> F -> K heads -> logit of part k       gradients through everything
    here:                        F -> head k  -> logit of part k       F plays the image, K times

Same numbers, at a fraction of the work: `benchmarks/bench_attention.py` measures both.

    part_attention        the K maps of K classifiers                             MPN Fig. 8, 9
    similarity_attention  which regions of A make it match B, part by part        no classes needed
    channel_responses     what single channels of the backbone respond to         MPN Fig. 2
    global_maps           responses of CGPN's global parts                        CGPN Fig. 5
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.features import eval_mode
from reidkit.models import ReIDModel
from reidkit.models.cgpn import CGPN
from reidkit.priors import PriorBatch

# method -> (class in the package, where it comes from and what to know)
METHODS: dict[str, tuple[str, str]] = {
    "gradcam": ("GradCAM", "Selvaraju et al. 2017: channels weighted by their mean gradient; the papers' choice"),
    "gradcam++": ("GradCAMPlusPlus", "Chattopadhay et al. 2018: positive gradients, weighted cell by cell"),
    "xgradcam": ("XGradCAM", "Fu et al. 2020: gradients weighted by the share of a channel's response"),
    "layercam": ("LayerCAM", "Jiang et al. 2021: positive gradient times response in every cell"),
    "hirescam": ("HiResCAM", "Draelos and Carin 2020: gradient times response in every cell"),
    "eigencam": ("EigenCAM", "Muhammad and Yeasin 2020: first principal component of F. Asks no classifier, so parts "
                             "that read the same F get the same map: a control, not an explanation of a part"),
    "eigengradcam": ("EigenGradCAM", "first principal component of gradient times response"),
    "scorecam": ("ScoreCAM", "Wang et al. 2020: score of the image seen through each channel as a mask. Runs the "
                             "whole network once a channel: 2048 passes an image for ResNet-50"),
}

Maps = Tensor | tuple[Tensor, ...]
Score = Callable[[int, Maps], Tensor]  # (part k, feature maps) -> the number to explain, [B]


def part_attention(model: ReIDModel, images: Tensor, method: str = "gradcam", prior: PriorBatch | None = None, *,
                   classes: Tensor | None = None, parts: Sequence[int] | None = None) -> Tensor:
    """One attention map per part classifier: [B, K, H, W] float32 in [0, 1] on the CPU, H x W the image size.

    images: [B, 3, H, W], normalised as in testing (`TestTransform`). method: see `METHODS`.
    prior: PriorBatch of the B images, for models that need one at test time (`model.needs_prior_at_test`).
    classes: the identity to explain, [B] for all parts (the true training label, say) or [B, K]; default: what
        each classifier predicts by itself, as in the papers. Class index, not pid.
    parts: which maps to compute, in this order; default all K.

    A map is scaled as the package does it: smallest value 0, largest 1. It says where evidence is, not how much.
    One without any positive evidence is all zeros. The model runs in eval mode and comes back unchanged.
    Raises ReIDKitError when grad-cam is not installed or shapes do not fit, UnknownNameError, PriorError.
    """
    _check_images(images)
    with _untouched(model):
        maps = _feature_maps(model, images)
        return attention_from_maps(model, maps, images, method, prior, classes=classes, parts=parts)


def attention_from_maps(model: ReIDModel, maps: Maps, images: Tensor, method: str = "gradcam",
                        prior: PriorBatch | None = None, *, classes: Tensor | None = None,
                        parts: Sequence[int] | None = None) -> Tensor:
    """`part_attention` from cached `model.feature_maps(images)`: when only a part, class or method changes."""
    with _untouched(model):
        prior = prior and prior.to(images.device)
        if classes is not None:
            classes = _per_part(classes, len(images), model).to(images.device)
        elif method == "scorecam":  # masked images have predictions of their own: explain the whole image's
            classes = _predictions(model, maps, prior)
        return _explain(model, maps, images, method, _class_score(model, prior, classes), parts)


def similarity_attention(model: ReIDModel, images_a: Tensor, images_b: Tensor, method: str = "gradcam", *,
                         prior_a: PriorBatch | None = None, prior_b: PriorBatch | None = None,
                         parts: Sequence[int] | None = None) -> Tensor:
    """Which regions of A make part k of A match part k of B: [B, K, H, W] in [0, 1], maps on A.

    The number to explain is the cosine similarity of the two features of part k; no class is involved, so this
    works for people whom the network was never trained on. images_b: [B, 3, H, W], or one image for all of A.
    Other arguments and errors as in `part_attention`. Swap A and B for the regions of B.
    """
    _check_images(images_a)
    _check_images(images_b)
    if len(images_b) not in (1, len(images_a)):
        raise ReIDKitError(f"{len(images_a)} images A came with {len(images_b)} images B: pass as many, or one")
    with _untouched(model):
        prior_a, prior_b = (p and p.to(images_a.device) for p in (prior_a, prior_b))
        with torch.no_grad():
            other = model.heads(_feature_maps(model, images_b), prior_b).part_features      # [B or 1, K, d]
        score = _similarity_score(model, prior_a, other)
        return _explain(model, _feature_maps(model, images_a), images_a, method, score, parts)


def predicted_classes(model: ReIDModel, images: Tensor, prior: PriorBatch | None = None) -> Tensor:
    """[B, K] class index that each part classifier predicts by itself."""
    _check_images(images)
    with _untouched(model):
        return _predictions(model, _feature_maps(model, images), prior and prior.to(images.device))


def channel_responses(model: ReIDModel, images: Tensor, channels: int | Sequence[int] = 5, *,
                      branch: int = 0) -> tuple[Tensor, list[int]]:
    """Responses of single channels of the last feature map (MPN Fig. 2): maps [B, n, H, W] in [0, 1], channels.

    channels: which ones, or how many: those with the highest peak response, averaged over the images.
    branch: which map, for models with branches. Each map is scaled on its own. Needs no grad-cam package.
    """
    _check_images(images)
    with _untouched(model):
        maps = _feature_maps(model, images)
    maps = maps if isinstance(maps, tuple) else (maps,)
    if not 0 <= branch < len(maps):
        raise ReIDKitError(f"branch {branch} of a model with {len(maps)} feature maps: choose 0 .. {len(maps) - 1}")
    responses = maps[branch]                                                            # [B, C, h, w]
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
    _check_images(images)
    if not isinstance(model, CGPN):
        raise ReIDKitError(f"global_maps draws CGPN Fig. 5, and {model.name} has no supervised global parts: use a "
                           "CGPN variant, or part_attention for any model")
    with _untouched(model), torch.no_grad():
        responses = model.global_responses(_feature_maps(model, images))                # [B, branches, P, c, h, w]
        return to_image_size(responses.relu().mean(3).cpu(), images.shape[2:])


def to_image_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """[..., h, w] -> [..., H, W] in [0, 1]: scale, resize bilinearly, scale again, as the package does.

    Scaling twice matters: interpolation lowers a peak, and the second scaling lifts it back to 1.
    """
    flat = _scale(maps.float().flatten(0, -3))                                          # [N, h, w]
    flat = F.interpolate(flat.unsqueeze(1), tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return _scale(flat).unflatten(0, maps.shape[:-2])


def _scale(maps: Tensor) -> Tensor:
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (1e-7 + maps.amax((-2, -1), keepdim=True))


# ---- the number to explain ------------------------------------------------------------------------------------------

def _class_score(model: ReIDModel, prior: PriorBatch | None, classes: Tensor | None) -> Score:
    """The logit of `classes[:, k]`, or of the classifier's own favourite."""
    def score(k: int, maps: Maps) -> Tensor:
        logits = model.part_head(k, maps, _repeated(prior, _length(maps)))[1]           # [B, classes]
        if classes is None:
            return logits.amax(1)
        return logits.gather(1, classes[:, k:k + 1].expand(len(logits), 1))[:, 0]
    score.for_image = lambda i: _class_score(model, prior and _row(prior, i), classes[i:i + 1])
    return score


def _similarity_score(model: ReIDModel, prior: PriorBatch | None, other: Tensor) -> Score:
    """Cosine similarity with the features `other` [B or 1, K, d]."""
    def score(k: int, maps: Maps) -> Tensor:
        feature = model.part_head(k, maps, _repeated(prior, _length(maps)))[0]          # [B, d]
        return F.cosine_similarity(feature, other[:, k])
    score.for_image = lambda i: _similarity_score(model, prior and _row(prior, i), other[i % len(other), None])
    return score


@torch.no_grad()
def _predictions(model: ReIDModel, maps: Maps, prior: PriorBatch | None) -> Tensor:
    return model.heads(maps, prior).logits.argmax(2).T                                  # [B, K]


def _row(prior: PriorBatch, i: int) -> PriorBatch:
    return PriorBatch(*(t[i:i + 1] for t in prior))


def _repeated(prior: PriorBatch | None, count: int) -> PriorBatch | None:
    """A prior of one image for `count` masked copies of it (ScoreCAM); any other prior as it is."""
    if prior is None or len(prior.top) == count or len(prior.top) > 1:
        return prior
    return PriorBatch(*(t.expand(count, *t.shape[1:]) for t in prior))


# ---- the package ----------------------------------------------------------------------------------------------------

def _explain(model: ReIDModel, maps: Maps, images: Tensor, method: str, score: Score,
             parts: Sequence[int] | None) -> Tensor:
    """CAMs of the parts, one by one: [B, K, H, W]."""
    cam_class = _cam_class(method)
    parts = range(model.num_parts) if parts is None else parts
    wrong = [k for k in parts if not 0 <= k < model.num_parts]
    if wrong:
        raise ReIDKitError(f"part {wrong[0]} of {model.name}: choose 0 .. {model.num_parts - 1}")
    if not all(m.isfinite().all() for m in (maps if isinstance(maps, tuple) else (maps,))):
        raise ReIDKitError(f"the feature map of {model.name} holds NaN or infinite values: a diverged training, or "
                           "images that are not finite")
    if method == "scorecam":
        cams = torch.cat([_score_cams(cam_class, model, images[i:i + 1], score.for_image(i), parts)
                          for i in range(len(images))])
    elif method == "eigencam":  # asks no classifier: one decomposition a map
        first = {model.map_index(k): k for k in parts}
        cams = {i: _cam(cam_class, _HeadProbe(model, maps, k, score)) for i, k in first.items()}
        cams = _stack([cams[model.map_index(k)] for k in parts], images)
    else:
        cams = _stack([_cam(cam_class, _HeadProbe(model, maps, k, score)) for k in parts], images)
    if not cams.isfinite().all():
        raise ReIDKitError(f"{method} gave values that are not finite on {model.name}: try method='gradcam'")
    return cams


def _stack(cams: list[Tensor], images: Tensor) -> Tensor:
    """K maps [B, h, w] (of different sizes in MGN) -> [B, K, H, W]."""
    return torch.stack([to_image_size(cam, images.shape[2:]) for cam in cams], dim=1)


class _HeadProbe(nn.Module):
    """What the package takes for a network: head k. Its "image" is the feature map that part k reads.

    The model itself is no submodule: the package sets eval mode, clears gradients and hangs hooks on what it is
    given, and none of that may touch the model.
    """

    def __init__(self, model: ReIDModel, maps: Maps, part: int, score: Score):
        super().__init__()
        self.tap = nn.Identity()  # the package's target layer
        self.part, self.score, self.maps, self.index = part, score, maps, model.map_index(part)
        self.image = maps[self.index] if isinstance(maps, tuple) else maps
        self.anchor = nn.Parameter(torch.empty(0, device=self.image.device))  # the package reads the device off it

    def forward(self, image: Tensor) -> Tensor:
        tapped = self.tap(image)
        if isinstance(self.maps, tuple):
            tapped = (*self.maps[:self.index], tapped, *self.maps[self.index + 1:])
        return self.score(self.part, tapped)                                            # [B]


def _cam(cam_class: type, probe: _HeadProbe) -> Tensor:
    """[B, h, w] in [0, 1] on the CPU."""
    cam = cam_class(model=probe, target_layers=[probe.tap])
    try:
        with torch.enable_grad():
            image = probe.image.detach().clone().requires_grad_()
            return torch.from_numpy(cam(input_tensor=image, targets=[_itself] * len(image)))
    finally:
        cam.activations_and_grads.release()


def _itself(score: Tensor) -> Tensor:
    """The package's "target": what to read off the output of one image. Here the output is that number already."""
    return score


class _MaskProbe(nn.Module):
    """The whole network for ScoreCAM, which masks the image. Parts that read the same map want the same masked
    images in the same order, so the scores of all of them are computed once, and handed out part by part."""

    def __init__(self, model: ReIDModel, parts: list[int], score: Score, device: torch.device):
        super().__init__()
        self.tap, self.anchor = nn.Identity(), nn.Parameter(torch.empty(0, device=device))
        self.run, self.parts, self.score, self.index = model.feature_maps, parts, score, model.map_index(parts[0])
        self.known, self.first_map, self.part, self.call = [], None, parts[0], 0

    def start(self, part: int) -> None:
        self.part, self.call = part, 0

    def forward(self, images: Tensor) -> Tensor:
        if self.call == len(self.known):
            maps = self.run(images)
            if self.first_map is None:
                self.first_map = maps[self.index] if isinstance(maps, tuple) else maps
            self.known.append(torch.stack([self.score(k, maps) for k in self.parts], dim=1))  # [b, parts]
        if self.call == 0:
            self.tap(self.first_map)
        self.call += 1
        return self.known[self.call - 1][:, self.parts.index(self.part)]


@torch.no_grad()
def _score_cams(cam_class: type, model: ReIDModel, image: Tensor, score: Score, parts: Sequence[int]) -> Tensor:
    """ScoreCAM of one image [1, 3, H, W]: [1, K, H, W]. Memory: all masked copies of the image at once."""
    cams: dict[int, Tensor] = {}
    for index in dict.fromkeys(model.map_index(k) for k in parts):
        group = [k for k in dict.fromkeys(parts) if model.map_index(k) == index]
        probe = _MaskProbe(model, group, score, image.device)
        for k in group:
            probe.start(k)
            cam = cam_class(model=probe, target_layers=[probe.tap])
            try:
                cams[k] = torch.from_numpy(cam(input_tensor=image, targets=[_itself]))  # scaled and resized already
            finally:
                cam.activations_and_grads.release()
    return torch.stack([cams[k] for k in parts], dim=1)


def _cam_class(method: str) -> type:
    if method not in METHODS:
        raise unknown_name("CAM method", method, METHODS)
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ReIDKitError("part attention maps need the grad-cam package: pip install grad-cam") from error
    return getattr(pytorch_grad_cam, METHODS[method][0])


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


def _length(maps: Maps) -> int:
    return len(maps[0] if isinstance(maps, tuple) else maps)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not len(images):
        raise ReIDKitError(f"expected normalised float images [B, 3, H, W], got {images.dtype} {tuple(images.shape)}; "
                           "TestTransform()(batch).images turns a uint8 batch into them")


def _per_part(classes: Tensor, batch: int, model: ReIDModel) -> Tensor:
    """Class indices [B] or [B, K] -> long [B, K]."""
    classes = torch.as_tensor(classes)
    if classes.shape == (batch,):
        classes = classes.unsqueeze(1).expand(batch, model.num_parts)
    if classes.shape != (batch, model.num_parts) or classes.is_floating_point():
        raise ReIDKitError(f"classes are integers [{batch}] or [{batch}, {model.num_parts}], got {classes.dtype} "
                           f"{tuple(classes.shape)}")
    if classes.min() < 0 or classes.max() >= model.num_classes:
        raise ReIDKitError(f"classes {int(classes.min())} .. {int(classes.max())}: {model.name} knows class indices "
                           f"0 .. {model.num_classes - 1} (of training identities, not pids)")
    return classes.long()
