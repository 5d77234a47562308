"""Weights from files: open a checkpoint of any training code, find the backbone in it, name what does not fit.

state = read_state_dict("checkpoint.pth")            # {"epoch": 3, "model": {"module.conv1.weight": ...}} is opened
load_backbone_weights(backbone, "checkpoint.pth")    # whatever "module.", "model.", "backbone." stands before it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model, list_models

from reidkit.errors import CheckpointError
from reidkit.models.stages import Backbone

WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
PREFIXES = (*WRAPPERS, "model.", "backbone.", "base.", "features.net.")  # the last two: ReID code, timm in this kit
TIMM_WRAPPERS = ("features.net.", "model.", "body.")  # of the kit and of timm's feature extractors
CLASSIFIERS = ("fc.", "head.", "classifier.")  # what other people put on a backbone


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file (.safetensors or torch.save), without running code from it.

    Of nested dicts ("state_dict", "model", "net", ...) the one with most tensors is taken, and the prefixes of
    DataParallel ("module.") and torch.compile ("_orig_mod.") are dropped.
    Raises CheckpointError for a missing, damaged or foreign file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: pass the path of a state dict (.pth, .pt, .safetensors)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise many kinds
        raise CheckpointError(
            f"{path} is not a readable state dict ({type(error).__name__}: {error}). Expected a "
            "file of tensors only: save model.state_dict(), not the model object"
        ) from error
    tensors = max(_state_dicts(content), key=len, default={})
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors: expected a state dict, or a dict that wraps one")
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


def load_backbone_weights(backbone: Backbone, source: str | Path | Mapping[str, Tensor]) -> None:
    """Copy weights into a backbone: a checkpoint as torchvision or timm publish it, or a model that has one inside.

    The tensors are looked for below any chain of PREFIXES; so MPN starts from a trained IDE (Sec. 5.1): keys
    "backbone.*" are taken, and what lies beside them is left alone. What else the whole published network has
    (classifier, last convolution, last norm ...) is ignored.
    Raises CheckpointError that lists missing, unexpected or misshapen tensors. New spatial attention keeps its
    initial values.
    """
    where = str(source) if isinstance(source, (str, Path)) else "the state dict"
    state = read_state_dict(source) if isinstance(source, (str, Path)) else dict(source)
    own = backbone.state_dict()
    wanted = {plain_name(k): k for k in own}
    given = _below_prefix(state, wanted)
    missing = [k for p, k in wanted.items() if p not in given and not k.startswith("rga") and "num_batches" not in k]
    fitting = {k: state[given[p]] for p, k in wanted.items() if p in given}
    shapes = [
        f"{k} {tuple(v.shape)}, expected {tuple(own[k].shape)}" for k, v in fitting.items() if v.shape != own[k].shape
    ]
    extra = {p: k for p, k in given.items() if p not in wanted and not p.startswith((*CLASSIFIERS, "rga"))}
    rest = _whole_network(backbone.name) if extra else set()
    unexpected = [k for p, k in extra.items() if p not in rest]
    if missing or shapes or unexpected:
        raise CheckpointError(
            f"{where} does not fit backbone {backbone.name!r}: {len(missing)} missing "
            f"{missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}, {len(shapes)} of another "
            f"shape {shapes[:3]}. Use the weights of the same architecture"
        )
    backbone.load_state_dict(fitting, strict=False)


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
            found.setdefault(prefix, {})[plain_name(name[len(prefix) :])] = name
    return max(found.values(), key=lambda below: len(below.keys() & wanted.keys()), default={})


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
