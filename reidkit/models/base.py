"""What every model of the kit looks like from outside: one output record, one base class.

`forward` = `heads(feature_maps(images))`: the backbone pass and the head pass are separate so that
panels and attention maps can run the (expensive) backbone once and the (cheap) heads many times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from reidkit.errors import ReIDKitError
from reidkit.models.backbones import Backbone
from reidkit.priors import PriorBatch

PriorKind = Literal["coarse", "dense"]  # a `PriorBatch` (MPN), or a `TextureBatch` (DSA-reID)
Maps = Tensor | tuple[Tensor, ...]  # feature maps [B, C, h, w]: one, or one a branch


@dataclass
class ModelOutput:
    """What a model returns for B images with K part classifiers.

    embedding:     [B, D]    the representation used for retrieval (MPN: h, Eq. 2)
    part_features: [B, K, d] one row per part classifier (MPN: f_k; CGPN: the reduced features)
    logits:        [K, B, C] one classifier a part
    aux:           the same record for the auxiliary tasks of MPN (g, z_k), or None
    triplet_features: the features that the triplet loss sees, a list of [B, *]; empty = [embedding]
    supervision:   CGPN's pairs (fg_p, fgl_p), each [B, c], for the MSE of its Eq. 3; empty elsewhere
    """

    embedding: Tensor
    part_features: Tensor
    logits: Tensor
    aux: ModelOutput | None = None
    triplet_features: list[Tensor] = field(default_factory=list)
    supervision: list[tuple[Tensor, Tensor]] = field(default_factory=list)


# so that torch.export can take a whole model: its output is this record
torch.export.register_dataclass(ModelOutput, serialized_type_name="reidkit.models.ModelOutput")


class Config(Protocol):
    """The small frozen dataclass that says which network of a family is built."""

    family: ClassVar[str]  # which recipe of a preset trains it: "mpn", "cgpn" or "ide"

    def build(self, backbone: Backbone, num_classes: int) -> ReIDModel:
        """The network on a backbone, with `num_classes` training identities."""
        ...


class Extractor(Protocol):
    """How pictures become features; `reidkit.evaluation.extract.Extraction` is one."""

    def __call__(
        self,
        model: ReIDModel,
        images: Any,
        *,
        batch_size: int,
        workers: int,
        normalize: bool,
        progress: bool | None,
    ) -> Tensor:
        """[N, D] features of N pictures."""
        ...


class ReIDModel(nn.Module):
    """Base class. Subclasses set `name`, `config`, `num_classes`, `part_names`, `classifier` and write two methods:

    feature_maps(images [B,3,H,W])      -> Tensor [B,C,h,w], or a tuple of them (one a branch)
    heads(maps, prior=None, with_aux=False) -> ModelOutput

    `TrunkModel` below holds one backbone, `BranchedModel` one that is divided into branches.

    `needs_prior` says whether training needs a prior, of which kind `prior_kind`; `needs_prior_at_test` whether `embed`
    does.
    """

    name: str
    config: Config
    num_classes: int
    part_names: tuple[str, ...]
    stride: int  # input pixels a cell of the feature map, vertically and horizontally
    classifier: nn.Module
    needs_prior: bool = False
    needs_prior_at_test: bool = False
    extraction: Extractor | None = None  # how `extract` looks at pictures; `load_run` takes it from the run
    prior_kind: PriorKind = "coarse"
    backbone: Backbone

    @property
    def num_parts(self) -> int:
        """K: how many part classifiers there are (the length of `part_names`)."""
        return len(self.part_names)

    def backbone_modules(self) -> list[nn.Module]:
        """The trunk, as opposed to the heads (which may learn faster)."""
        raise NotImplementedError

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Load the trunk's weights, e.g. those of an IDE (MPN Sec. 5.1)."""
        raise NotImplementedError

    def feature_maps(self, images: Tensor) -> Maps:
        """Images [B, 3, H, W] -> feature map [B, C, h, w], or one for each branch."""
        raise NotImplementedError

    def heads(self, maps: Maps, prior: PriorBatch | None = None, with_aux: bool = False) -> ModelOutput:
        """Feature maps -> everything after the backbone; with_aux adds the auxiliary tasks.

        Raises PriorError where the tasks that run need a prior and none is given.
        """
        raise NotImplementedError

    def forward(self, images: Tensor, prior: PriorBatch | None = None) -> ModelOutput:
        """Everything the losses need; auxiliary tasks run in training mode only.

        `torch.jit.trace(net, images)` cannot record such an output: of a network in eval mode it gets `embed`.
        """
        if traced_by_itself(self):
            return self.traced(images, prior)
        return self.heads(self.feature_maps(images), prior, with_aux=self.training)

    def traced(self, images: Tensor, prior: PriorBatch | None) -> Any:
        """[B, D] for torch.jit.trace. Raises ReIDKitError in training mode, and where a prior is needed and absent."""
        instead = "; to take a network elsewhere use `reidkit export RUN --to torch-export` (or onnx)"
        if self.training:
            raise ReIDKitError(f"torch.jit.trace records the network of test time: call net.eval() first{instead}")
        if self.needs_prior_at_test and prior is None:
            raise ReIDKitError(f"{self.name} needs a coarse prior for every image, so it cannot be traced{instead}")
        return self.embed(images, prior)

    def embed(self, images: Tensor, prior: PriorBatch | None = None) -> Tensor:
        """[B, D] test-time representation. Call `model.eval()` first, as for any network."""
        return self.heads(self.feature_maps(images), prior).embedding

    def extract(
        self,
        images: Any,
        *,
        batch_size: int = 64,
        workers: int = 0,
        normalize: bool = False,
        progress: bool | None = None,
    ) -> Tensor:
        """float32 [N, D] on the CPU: features of pictures of your own, in the order given.

        images: paths of files, folders (their images, sorted), PIL images, arrays [H, W, 3], tensors [3, H, W], a
        table with a column `path`; one of these, or a list. `reidkit.data.list_images(images)` says what each row is.
        Size, mirror image, precision and normalisation of pixels are the run's; the device is where the network is.
        workers: decoding processes. normalize: rows of length 1. progress: None shows a bar for many pictures.

        Raises ReIDKitError that names the entry for what is no picture and for a network that `load_run` did not
        make, PriorError where the network needs priors at test time.
        """
        if self.extraction is None:
            raise ReIDKitError(
                f"this {getattr(self, 'name', 'network')} does not know the size of its pictures, as it comes from no "
                "run: load one with load_run('runs/NAME'), or say it: "
                "net.extraction = reidkit.evaluation.Extraction(size=(384, 128))"
            )
        return self.extraction(
            self, images, batch_size=batch_size, workers=workers, normalize=normalize, progress=progress
        )

    def part_head(self, k: int, maps: Maps, prior: PriorBatch | None = None) -> tuple[Tensor, Tensor]:
        """(feature [B, d], logits [B, classes]) of part k: `part_features[:, k]` and `logits[k]` of `heads`.

        Models override this to compute nothing but part k; the heads are independent, so the result is the same.
        """
        out = self.heads(maps, prior)
        return out.part_features[:, k], out.logits[k]

    def map_index(self, k: int) -> int:
        """Which of `feature_maps` part k reads: 0, or its branch in models with branches."""
        return 0

    @property
    def part_extents(self) -> tuple[tuple[float, float], ...]:
        """(start, stop) of the body's height that each part is meant for; K equal stripes unless overridden."""
        return tuple((k / self.num_parts, (k + 1) / self.num_parts) for k in range(self.num_parts))

    def regularization(self) -> Tensor:
        """An unweighted penalty on the parameters (MPN's soft sharing, Fig. 10); zero for most models."""
        return torch.zeros((), device=next(self.parameters()).device)

    def proximal_step(self, step: float) -> None:
        """Move the parameters one implicit gradient step on `regularization()`; step: rate times weight, >= 0.

        The loop calls it after each step of the optimiser, in place of the penalty's gradient.
        """

    def example_prior(self, count: int, grid: tuple[int, int]) -> Any:
        """A prior of `count` images on a feature map of `grid` (rows, columns), to try or time a step with."""
        ends = torch.full((count,), 0.1), torch.full((count,), 0.9)
        return PriorBatch(torch.ones(count, *grid, dtype=torch.bool), *ends, torch.ones(count, dtype=torch.bool))

    def count_parameters(self, classifiers: bool = False) -> int:
        """Number of trainable parameters of the test-time network (MPN Table 9 leaves the classifiers out)."""
        left_out = 0 if classifiers else sum(p.numel() for p in self.classifier.parameters())
        return sum(p.numel() for p in self.parameters()) - left_out


def traced_by_itself(module: nn.Module) -> bool:
    """Whether torch.jit.trace was called with this module, and not with one that contains it."""
    modules = getattr(getattr(torch.jit, "_trace", None), "_trace_module_map", None)  # None while nothing is traced
    return modules is not None and modules.get("__module") is module


class TrunkModel(ReIDModel):
    """A model with one trunk, `backbone`, whose feature map all heads read."""

    def __init__(self, config: Config, backbone: Backbone, num_classes: int):
        super().__init__()
        self.config, self.num_classes, self.backbone = config, num_classes, backbone

    @property
    def stride(self) -> int:
        """Input pixels a cell of the feature map, vertically and horizontally."""
        return self.backbone.stride

    def backbone_modules(self) -> list[nn.Module]:
        """The trunk, as opposed to the heads."""
        return [self.backbone]

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Load the trunk's weights; all of them must be there."""
        self.backbone.load_state_dict(state)

    def feature_maps(self, images: Tensor) -> Tensor:
        """F: [B, 3, H, W] -> [B, C, h, w]; 384x128 images and ResNet-50 give 2048x24x8."""
        return self.backbone(images)
