"""Small networks for the tests of attention maps: one of every family, and one that looks at known rows."""

import torch
import torch.nn.functional as F
from torch import nn

from reidkit.attention import METHODS
from reidkit.models import create_model
from reidkit.models.mpn import MPNConfig
from reidkit.priors import PriorBatch

SIZE, GRID, CLASSES = (96, 32), (12, 4), 7
SMALL = {"part_dim": 8}
MODELS = {
    "mpn-no-ca": SMALL,
    "mpn": SMALL,
    "baseline": SMALL,
    "baseline-ub": SMALL,
    "pcb": SMALL,
    "ide": SMALL,
    "pyramid": {"reduced_dim": 8},
    "mgn": {"reduced_dim": 8},
    "cgpn": {"reduced_dim": 8},
    "cgpn-2": {"reduced_dim": 8},
    "cgpn-3": {"reduced_dim": 8},
    "cgpn-global-4": {"reduced_dim": 8},
}


GRADIENT = [m for m in METHODS if m not in ("eigencam", "scorecam")]


def make_model(name, seed=0):
    """A small network in eval mode whose weights, norms and classifiers are all far from their initial values."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = create_model(name, CLASSES, backbone="small", **MODELS[name])
    for key, value in model.state_dict().items():
        if key.endswith("_var"):
            value.copy_(torch.rand(value.shape, generator=g) + 0.5)
        elif key.endswith(("_mean", "bias")):
            value.copy_(torch.randn(value.shape, generator=g) * 0.1)
        elif "classifier" in key:
            value.copy_(torch.randn(value.shape, generator=g))
    return model.eval()


def make_images(batch=2, size=SIZE, seed=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def make_prior(batch=2):
    mask = torch.ones(batch, *GRID, dtype=torch.bool)
    mask[:, :, 0] = False
    top, bottom = torch.linspace(0.1, 0.2, batch), torch.linspace(0.9, 0.8, batch)
    return PriorBatch(mask, top, bottom, torch.ones(batch, dtype=torch.bool))


def prior_for(model, batch=2):
    return make_prior(batch) if model.needs_prior_at_test else None


class Planted(nn.Module):
    """A "backbone" without weights to learn: 8x8 pixels a cell; channel 0 of the map is red, 1 green, 2 blue."""

    channels, stride = 3, 8

    def forward(self, images):
        return F.avg_pool2d(images, 8).relu()


def planted_model():
    """MPN whose part k reads colour k: it must find red, green and blue wherever they are."""
    parts = 3
    model = MPNConfig(num_parts=parts, part_dim=2, aux=False).build(Planted(), num_classes=4).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        for norm in (model.conv1.norm, model.conv2.norm):
            norm.weight.fill_(1)
        for k in range(parts):
            model.conv1.conv.weight[k, 0, k] = 1
        model.conv2.conv.weight[:] = torch.eye(2)
        model.classifier.weight[:, 1, 0] = 20  # class 1 is "the colour is there"
    return model


def planted_images(rows=((0, 2), (4, 6), (9, 11)), batch=2):
    """[B, 3, 96, 32]: colour k at cell rows rows[k], columns 1-2."""
    images = torch.zeros(batch, 3, *SIZE)
    for colour, (start, stop) in enumerate(rows):
        images[:, colour, start * 8 : stop * 8, 8:24] = 1
    return images


def write_run(folder, variant, seed):
    """A finished run of a network that was never trained."""
    from reidkit.files import write_json
    from reidkit.training.recipes import recipe_for
    from reidkit.training.runs import RunFolder

    recipe = recipe_for(variant, "quick", {"size": list(SIZE), "model.part_dim": 8})
    run = RunFolder(folder / f"{variant}-s{seed}")
    write_json(
        run.settings,
        {
            "variant": variant,
            "dataset": "sidewalk-tiny",
            "seed": seed,
            "num_classes": 5,
            "prior_tool": "sidewalk",
            "recipe": recipe.as_dict(),
        },
    )
    torch.manual_seed(seed)
    run.save_weights(create_model(variant, 5, backbone=recipe.backbone, **recipe.model))
    about = {"variant": variant, "dataset": "sidewalk-tiny", "preset": "smoke", "seed": seed}
    write_json(run.result, {**about, "metrics": {"mild": {"mAP": 0.5}}, "provenance": {"commit": "b0b"}})
    return run.path
