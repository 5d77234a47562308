"""The network of test time, from pixels to the embedding, with nothing in it that only training needs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from reidkit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reidkit.errors import ReIDKitError, unknown_name
from reidkit.evaluation.features import FLIPS, Flip
from reidkit.models import ReIDModel


class EmbeddingNetwork(nn.Module):
    """uint8 (or float, 0 to 255) RGB images [B, 3, H, W] -> embedding [B, D], float32.

    Normalisation and the mirror image of the test recipe are inside; classifiers and auxiliary tasks are gone. The
    model handed in is copied and stays as it is.

    flip: the recipe's `test_flip`: "none", or "sum" or "mean" of the embeddings of image and mirror image.
    half: weights and feature maps in float16; pixels are normalised, and image and mirror image added, in float32.
    Raises ReIDKitError for a model that needs a prior at test time, UnknownNameError for an unknown flip.
    """

    mean: Tensor  # of ImageNet in units of uint8, [3, 1, 1]
    std: Tensor

    def __init__(self, model: ReIDModel, flip: Flip = "none", half: bool = False):
        super().__init__()
        if model.needs_prior_at_test:
            raise ReIDKitError(
                f"{model.name} cannot be exported: at test time it cuts the body parts out with coarse "
                "priors (parsing and segmentation maps of every picture), and a file that sees pixels "
                "only has none. Export a network that needs no prior then, such as mpn"
            )
        if flip not in FLIPS:
            raise unknown_name("flip", flip, FLIPS)
        self.flip, self.dtype = flip, torch.float16 if half else torch.float32
        self.net = without_training_parts(model).to(self.dtype)
        for name, value in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, 255 * torch.tensor(value)[:, None, None])  # [3, 1, 1]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D]."""
        x = ((images.float() - self.mean) / self.std).to(self.dtype)
        if self.flip == "none":
            return self.net.embed(x).float()
        both = self.net.embed(torch.cat([x, x.flip(-1)])).float()  # [2B, D], one pass
        pairs = both.unflatten(0, (2, -1))  # [2, B, D]
        return pairs.mean(0) if self.flip == "mean" else pairs.sum(0)


def without_training_parts(model: ReIDModel) -> ReIDModel:
    """A copy in eval mode, on the CPU, without classifiers and auxiliary tasks (`classifier`, `aux_*` in every model).

    Only its `embed` is of use: the logits of its output are none.
    """
    net = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    for name, _ in list(net.named_children()):
        if name.startswith("aux_"):
            setattr(net, name, None)
    net.classifier = nn.Identity()
    return net
