"""The bridge to the `grad-cam` package: one class activation map per part from one feature map.

Used as usual, the package runs the whole network forwards and backwards once a map, K times an image. But every map
is a function of the backbone's feature map F and of one head. So F is computed once, without gradients, and the
package is shown a tiny "network" instead:

    usual:  image -> backbone -> F -> K heads -> logit of part k       gradients through everything, K times
    here:                        F -> head k  -> logit of part k       F plays the image

Same numbers, at a fraction of the work: `reidkit bench attention` measures both. ScoreCAM alone needs the
image itself, which it masks: there the network runs as often as the map has channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidkit.errors import ReIDKitError, unknown_name
from reidkit.models import ReIDModel
from reidkit.models.base import Maps

Method = Literal[
    "gradcam",
    "gradcam++",
    "xgradcam",
    "layercam",
    "hirescam",
    "eigencam",
    "eigengradcam",
    "scorecam",
]
# method -> (class in the package, where it comes from and what to know)
METHODS: dict[Method, tuple[str, str]] = {
    "gradcam": ("GradCAM", "Selvaraju et al. 2017: channels weighted by their mean gradient; the papers' choice"),
    "gradcam++": ("GradCAMPlusPlus", "Chattopadhay et al. 2018: positive gradients, weighted cell by cell"),
    "xgradcam": ("XGradCAM", "Fu et al. 2020: gradients weighted by the share of a channel's response"),
    "layercam": ("LayerCAM", "Jiang et al. 2021: positive gradient times response in every cell"),
    "hirescam": ("HiResCAM", "Draelos and Carin 2020: gradient times response in every cell"),
    "eigencam": (
        "EigenCAM",
        "Muhammad and Yeasin 2020: first principal component of F. Asks no classifier: parts "
        "that read the same F get the same map. A control, not an explanation of a part",
    ),
    "eigengradcam": ("EigenGradCAM", "first principal component of gradient times response"),
    "scorecam": (
        "ScoreCAM",
        "Wang et al. 2020: score of the image seen through each channel as a mask. Runs the "
        "whole network once a channel: 2048 times an image for ResNet-50, shared by the parts",
    ),
}


class Score(Protocol):
    """The number to explain."""

    def __call__(self, k: int, maps: Maps) -> Tensor:
        """Part k's score of B images from their feature maps: [B]."""
        ...

    def of_image(self, i: int) -> Score:
        """The same for (any number of masked copies of) image i."""
        ...


def explain(model: ReIDModel, maps: Maps, images: Tensor, method: Method, score: Score, parts: Sequence[int]) -> Tensor:
    """Maps [B, len(parts), H, W] in [0, 1] on the CPU. The caller sees to eval mode and frozen parameters.

    maps: `model.feature_maps(images)`, made without gradients. Raises ReIDKitError when grad-cam is missing or
    values are not finite, UnknownNameError for a method that is not in `METHODS`.
    """
    cam_class = find_method(method)
    if not all(m.isfinite().all() for m in (maps if isinstance(maps, tuple) else (maps,))):
        raise ReIDKitError(
            f"the feature map of {model.name} holds NaN or infinite values: a diverged training, or "
            "images that are not finite"
        )
    if method == "scorecam":
        cams = torch.cat(
            [_score_cams(cam_class, model, images[i : i + 1], score.of_image(i), parts) for i in range(len(images))]
        )
    else:
        found: dict[int, Tensor] = {}
        for k in parts:
            key = model.map_index(k) if method == "eigencam" else k  # one decomposition a map is enough
            if key not in found:
                found[key] = to_image_size(_cam(cam_class, _HeadProbe(model, maps, k, score)), images.shape[2:])
        keys = [model.map_index(k) if method == "eigencam" else k for k in parts]
        cams = torch.stack([found[key] for key in keys], dim=1)  # [B, K, H, W]
    if not cams.isfinite().all():
        raise ReIDKitError(f"{method} gave values that are not finite on {model.name}: try method='gradcam'")
    return cams


def find_method(method: Method) -> type:
    """The package's class of a method. Raises UnknownNameError, or ReIDKitError when grad-cam is not installed."""
    if method not in METHODS:
        raise unknown_name("CAM method", method, METHODS)
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ReIDKitError("part attention maps need the grad-cam package: pip install grad-cam") from error
    return getattr(pytorch_grad_cam, METHODS[method][0])


def to_image_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """[..., h, w] -> [..., H, W] in [0, 1]: scale, resize bilinearly, scale again, as the package does it.

    Scaling twice matters: interpolation lowers a peak, and the second scaling lifts it back to 1.
    """
    flat = _scale(maps.float().flatten(0, -3))  # [N, h, w]
    flat = F.interpolate(flat.unsqueeze(1), tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return _scale(flat).unflatten(0, maps.shape[:-2])


def _scale(maps: Tensor) -> Tensor:
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (1e-7 + maps.amax((-2, -1), keepdim=True))


class _HeadProbe(nn.Module):
    """What the package takes for a network: head k. Its "image" is the feature map that part k reads.

    The model is no submodule of it: the package sets eval mode, clears gradients and hangs hooks on what it is
    given, and none of that may touch the model.
    """

    def __init__(self, model: ReIDModel, maps: Maps, part: int, score: Score):
        super().__init__()
        self.tap = nn.Identity()  # the package's target layer
        self.part, self.score, self.maps, self.index = part, score, maps, model.map_index(part)
        self.image = _pick(maps, self.index)
        self.anchor = nn.Parameter(torch.empty(0, device=self.image.device))  # tells the package the device

    def forward(self, image: Tensor) -> Tensor:
        tapped = self.tap(image)
        if isinstance(self.maps, tuple):
            tapped = (*self.maps[: self.index], tapped, *self.maps[self.index + 1 :])
        return self.score(self.part, tapped)  # [B]


def _cam(cam_class: type, probe: _HeadProbe) -> Tensor:
    """[B, h, w] in [0, 1] on the CPU."""
    with torch.enable_grad():
        return _call(cam_class, probe, probe.image.detach().clone().requires_grad_())


def _call(cam_class: type, probe: nn.Module, image: Tensor) -> Tensor:
    cam = cam_class(model=probe, target_layers=[probe.tap])
    try:
        return torch.from_numpy(cam(input_tensor=image, targets=[_itself] * len(image)))
    finally:
        cam.activations_and_grads.release()  # break the cycle of hooks now, not at the next garbage collection


def _itself(score: Tensor) -> Tensor:
    """The package's "target": what to read off the output of one image. Here the output is that number already."""
    return score


class _MaskProbe(nn.Module):
    """The whole network, for ScoreCAM. Parts that read the same map ask for the same masked images in the same
    order: the scores of all of them are computed in the first part's turn, and the others are told them."""

    def __init__(self, model: ReIDModel, parts: Sequence[int], score: Score, device: torch.device):
        super().__init__()
        self.tap, self.anchor = nn.Identity(), nn.Parameter(torch.empty(0, device=device))
        self.feature_maps, self.index = model.feature_maps, model.map_index(parts[0])
        self.parts, self.score, self.known = list(parts), score, []
        self.first_map, self.column, self.call = None, 0, 0

    def begin(self, part: int) -> None:
        """The package's next calls are about this part."""
        self.column, self.call = self.parts.index(part), 0

    def forward(self, images: Tensor) -> Tensor:
        if self.call == len(self.known):
            maps = self.feature_maps(images)
            if self.call == 0:
                self.first_map = _pick(maps, self.index)
            self.known.append(torch.stack([self.score(k, maps) for k in self.parts], dim=1))  # [b, parts]
        if self.call == 0:
            self.tap(self.first_map)  # the unmasked image: the package takes its masks from here
        self.call += 1
        return self.known[self.call - 1][:, self.column]  # [b]


@torch.no_grad()
def _score_cams(cam_class: type, model: ReIDModel, image: Tensor, score: Score, parts: Sequence[int]) -> Tensor:
    """ScoreCAM of one image [1, 3, H, W]: [1, K, H, W]. Memory: as many masked copies of it as there are channels."""
    cams: dict[int, Tensor] = {}
    for index in {model.map_index(k): None for k in parts}:
        group = [k for k in dict.fromkeys(parts) if model.map_index(k) == index]
        probe = _MaskProbe(model, group, score, image.device)
        for k in group:
            probe.begin(k)
            cams[k] = _call(cam_class, probe, image)  # scaled and resized already
    return torch.stack([cams[k] for k in parts], dim=1)


def _pick(maps: Maps, index: int) -> Tensor:
    return maps[index] if isinstance(maps, tuple) else maps
