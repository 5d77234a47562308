"""Weights from files: open a checkpoint of any training code, find the backbone in it, name what does not fit.

state = read_state_dict("checkpoint.pth")            # {"epoch": 3, "model": {"module.conv1.weight": ...}} is opened
print(load_backbone_weights(backbone, "checkpoint.pth"))    # the report: what was taken, left aside, missing

How ReID projects lay out a network whose trunk is a ResNet, all of which are read:

    torchreid               conv1.weight ... layer4.2.bn3.bias     beside classifier, fc, PCB's conv5
    fast-reid               backbone.conv1.weight ...              beside heads, pixel_mean, pixel_std
    reid-strong-baseline    base.conv1.weight ...                  beside bottleneck, classifier
    MPN's released code     base.0.weight ... base.7.2.bn3.bias    the ResNet's children by number, beside its heads
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models import get_model, list_models

from reidkit.errors import CheckpointError
from reidkit.models.stages import Backbone
from reidkit.tensor_files import larger_than, load_tensors, not_finite

WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
# What ReID projects save beside tensors, and no code: numpy's numbers (the best Rank-1), options of a command line.
HARMLESS: tuple[Any, ...] = (
    *(
        (made.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for made, name in ((np.float64(0), "scalar"), (np.zeros(1), "_reconstruct"))
        for core in ("core", "_core")
    ),
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?", "U1")},
    *(np.dtype, np.ndarray, argparse.Namespace),
)
PREFIXES = (*WRAPPERS, "model.", "backbone.", "base.", "features.net.")  # the last two: ReID code, timm in this kit
TIMM_WRAPPERS = ("features.net.", "model.", "body.")  # of the kit and of timm's feature extractors
CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.", "bottleneck.", "conv5.", "pixel.")  # what others put on one
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")  # of a ResNet, by number
FOREIGN = {  # a piece of a name -> the architecture that it belongs to
    ".IN.": "instance-batch normalisation (IBN)",
    "NL_": "non-local blocks",
    ".se.": "squeeze-and-excitation",
}


@dataclass(frozen=True)
class WeightsReport:
    """What became of the tensors of a file. `print` it.

    taken: names in the file that now are the backbone's. ignored: names in the file that no backbone has (classifier,
    neck, optimiser ...). missing: names of the backbone's tensors that the file lacks, or has in another shape; they
    keep the values they had.
    """

    source: str
    backbone: str
    taken: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """The fraction of the backbone's tensors that was taken from the file."""
        return len(self.taken) / max(1, len(self.taken) + len(self.missing))

    def __str__(self) -> str:
        def some(names: tuple[str, ...]) -> str:
            return f" ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})" if names else ""

        return (
            f"{self.source} -> {self.backbone}: {len(self.taken)} tensors taken{some(self.taken)}, "
            f"{len(self.ignored)} left aside{some(self.ignored)}, {len(self.missing)} missing{some(self.missing)}"
        )


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file (.safetensors or torch.save), without running code from it.

    Of nested dicts ("state_dict", "model", "net", ...) the one with most tensors is taken, and the prefixes of
    DataParallel ("module.") and torch.compile ("_orig_mod.") are dropped.
    Raises CheckpointError for a missing, damaged or foreign file, and for one with NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: pass the path of a state dict (.pth, .pt, .safetensors)")
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            content = load_tensors(path)
    except Exception as error:  # damaged archives raise many kinds
        raise CheckpointError(
            f"{path} is not a readable state dict ({type(error).__name__}: {error}). Expected a "
            "file of tensors only: save model.state_dict(), not the model object"
        ) from error
    tensors = max(_state_dicts(content), key=len, default={})
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors: expected a state dict, or a dict that wraps one")
    if bad := larger_than(tensors, path.stat().st_size):
        raise CheckpointError(f"{path} states more numbers of {bad} than it holds; fetch the file again")
    if bad := not_finite(tensors):
        raise CheckpointError(
            f"{path} holds numbers that are not finite, in {bad}: the training that wrote it had broken. Use an "
            "earlier checkpoint of it, or other weights"
        )
    while any(all(k.startswith(w) for k in tensors) for w in WRAPPERS):
        tensors = {k.split(".", 1)[1]: v for k, v in tensors.items()}
    return tensors


def _state_dicts(content: object) -> Iterator[dict[str, Tensor]]:
    """The named tensors of `content` and of every dict inside of it, outer ones first; a dict may hold itself."""
    level, seen = [content], set()
    while level:
        level = [d for d in level if isinstance(d, Mapping) and id(d) not in seen]
        seen.update(map(id, level))
        for found in level:
            yield {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
        level = [value for found in level for value in found.values()]


def load_backbone_weights(
    backbone: Backbone, source: str | Path | Mapping[str, Tensor], *, least: float = 1.0
) -> WeightsReport:
    """Copy weights into a backbone: a checkpoint as torchvision or timm publish it, or a model that has one inside.

    The tensors are looked for below any chain of PREFIXES; so MPN starts from a trained IDE (Sec. 5.1): keys
    "backbone.*" are taken, and what lies beside them is left alone. What else the whole published network has
    (classifier, last convolution, last norm ...) is ignored.
    least: the share of the backbone's tensors that must be taken. At 1, the default, nothing may be missing, and no
    layer of the file may be left over that only a larger network has.
    Returns the report. Raises CheckpointError, with nothing copied, that lists missing, unexpected or misshapen
    tensors. New spatial attention keeps its initial values.
    """
    where = str(source) if isinstance(source, (str, Path)) else "the state dict"
    state = read_state_dict(source) if isinstance(source, (str, Path)) else dict(source)
    own = backbone.state_dict()
    wanted = {plain_name(k): k for k in own}
    given = _below_prefix(state, wanted)
    found = {k: state[given[p]] for p, k in wanted.items() if p in given}
    fitting = {k: v for k, v in found.items() if v.shape == own[k].shape}
    shapes = [f"{k} {tuple(v.shape)}, expected {tuple(own[k].shape)}" for k, v in found.items() if k not in fitting]
    absent = [k for p, k in wanted.items() if k not in found and not p.startswith("rga") and "num_batches" not in k]
    extra = {p: k for p, k in given.items() if p not in wanted and not p.startswith((*CLASSIFIERS, "rga"))}
    rest = _whole_network(backbone.name) if extra else set()
    unexpected = [k for p, k in extra.items() if p not in rest]
    taken = tuple(given[p] for p, k in wanted.items() if k in fitting)
    missing = tuple(k for k in own if k in absent or (k in found and k not in fitting))
    report = WeightsReport(where, backbone.name, taken, tuple(k for k in state if k not in {*taken}), missing)
    if report.share < least or (least >= 1 and unexpected):
        kinds = [about for piece, about in FOREIGN.items() if any(piece in k for k in state)]
        enough = "" if least >= 1 else f"; {report.share:.0%} of its tensors are there, {least:.0%} are asked for"
        raise CheckpointError(
            f"{where} does not fit backbone {backbone.name!r}: {len(absent)} missing "
            f"{absent[:3]}, {len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of another "
            f"shape {shapes[:3]}{enough}. Use the weights of the same architecture"
            + (f"; the file's has {' and '.join(kinds)}, which this backbone has not" if kinds else "")
        )
    backbone.load_state_dict(fitting, strict=False)
    return report


def plain_name(key: str) -> str:
    """A name as the whole network and timm's extractor share it: stages_0.blocks.0 is stages.0.blocks.0."""
    for wrapper in TIMM_WRAPPERS:
        key = key.removeprefix(wrapper)
    return key.replace("_", ".")


def _below_prefix(names: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Plain name -> name of the tensors below the chain of PREFIXES that holds most of the wanted ones."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        for prefix in _prefixes(name):
            found.setdefault(prefix, {})[_named_child(plain_name(name[len(prefix) :]), wanted)] = name
    return max(found.values(), key=lambda below: len(below.keys() & wanted.keys()), default={})


def _named_child(name: str, wanted: Mapping[str, str]) -> str:
    """ "7.2.conv1.weight" of a ResNet in an nn.Sequential as "layer4.2.conv1.weight"; any other name as it is."""
    number, _, rest = name.partition(".")
    known = (
        number.isdecimal() and int(number) < len(CHILDREN) and name not in wanted and "layer4.0.conv1.weight" in wanted
    )
    return f"{CHILDREN[int(number)]}.{rest}" if known else name


def _prefixes(key: str) -> Iterator[str]:
    """Every chain of PREFIXES that a key begins with: "", "model.", "model.backbone." ..."""
    prefix = ""
    while True:
        yield prefix
        word = next((p for p in PREFIXES if key.startswith(p, len(prefix))), None)
        if word is None:
            return
        prefix += word


def timm_name(name: str) -> str | None:
    """What timm calls the network that a backbone is the front of: "lite0-192-s8" is of tf_efficientnet_lite0."""
    if name.startswith("lite"):
        return f"tf_efficientnet_{name.split('-')[0]}"
    return name.removeprefix("timm:") if name.startswith("timm:") else None


def _whole_network(name: str) -> set[str]:
    """Plain names of all tensors of the published network that a backbone is the front of."""
    if timm_model := timm_name(name):
        import timm

        net = timm.create_model(timm_model, pretrained=False)
    elif name in list_models():
        net = get_model(name, weights=None)
    else:
        return set()  # "small" is not published
    return {plain_name(k) for k in net.state_dict()}
