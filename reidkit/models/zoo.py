"""The one table of variants: a row of a paper's table is one line here.

`create_model(name, num_classes)` builds any of them; `reidkit train name` trains it with the losses
named beside it. What a field means is written at `MPNConfig`, `CGPNConfig` and `LossConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from reidkit.errors import unknown_name
from reidkit.losses import LossConfig
from reidkit.models.backbones import create_backbone
from reidkit.models.base import ReIDModel
from reidkit.models.cgpn import BRANCH_1, BRANCH_2, BRANCH_3, BRANCH_4, BRANCH_5, CGPNConfig, fine, global_only
from reidkit.models.classics import IDEConfig, PCBConfig
from reidkit.models.dsa import DSAConfig
from reidkit.models.mgn import MGNConfig
from reidkit.models.mpn import Layer, MPNConfig, SoftLayer
from reidkit.models.pyramid import PyramidConfig


@dataclass(frozen=True)
class Variant:
    """A model configuration, the losses it is trained with, and the paper's row it stands for."""

    config: MPNConfig | CGPNConfig | IDEConfig | PCBConfig | MGNConfig | PyramidConfig | DSAConfig
    loss: LossConfig
    row: str


NO_SHARE: tuple[Layer, ...] = ()
C1: tuple[Layer, ...] = ("conv1",)
C2: tuple[Layer, ...] = ("conv2",)
PSA: tuple[Layer, ...] = ("conv1", "conv2", "attention")

MPN_LOSS = LossConfig()  # Eq. 1 + Eq. 3
CF = replace(MPN_LOSS, alignment="class")  # + Eq. 8
SAMPLE = replace(MPN_LOSS, alignment="sample")  # + Eq. 9
BATCH = replace(MPN_LOSS, alignment="batch")
SAMPLE_TRIPLET = replace(MPN_LOSS, alignment="sample-triplet")  # [10]
CGPN_LOSS = LossConfig(triplet="features", margin=1.2, metric="euclidean")  # CGPN Eq. 4
CE_ONLY = LossConfig(triplet=None)

SOFT_LAYERS: dict[str, SoftLayer] = {"c1": "conv1", "c2": "conv2"}
SOFT_WEIGHTS = (0.01, 0.1, 1, 10)  # MPN Fig. 10
ALL_BRANCHES = (BRANCH_1, BRANCH_2, BRANCH_3)

VARIANTS: dict[str, Variant] = {
    # MPN Table 1
    "baseline": Variant(MPNConfig(main=False, prior="uniform"), MPN_LOSS, "MPN Table 1: Baseline"),
    "baseline-ub": Variant(MPNConfig(main=False, prior="roi"), MPN_LOSS, "MPN Table 1: Baseline (UB)"),
    "mt-only": Variant(MPNConfig(aux=False), MPN_LOSS, "MPN Table 1: MT Only"),
    "naive-mtl": Variant(MPNConfig(share=NO_SHARE), MPN_LOSS, "MPN Table 1: Naive MTL"),
    "psa-c1": Variant(MPNConfig(share=C1), MPN_LOSS, "MPN Table 1: PSA Alone, C1-S"),
    "psa-c2": Variant(MPNConfig(share=C2), MPN_LOSS, "MPN Table 1: PSA Alone, C2-S"),
    "psa": Variant(MPNConfig(share=PSA), MPN_LOSS, "MPN Table 1: PSA Alone, C1-S + C2-S"),
    "fsa": Variant(MPNConfig(share=NO_SHARE), CF, "MPN Table 1: FSA Alone"),
    "mpn-no-ca": Variant(MPNConfig(share=PSA), CF, "MPN Table 1: MPNo"),
    "mpn": Variant(MPNConfig(share=PSA, channel_attention=True), CF, "MPN Table 1: MPN"),
    # MPN Table 2 ("ours" is mpn-no-ca)
    "mpn-no-ca-uniform": Variant(MPNConfig(share=PSA, prior="uniform"), CF, "MPN Table 2: Uniform Division"),
    "mpn-no-ca-roi": Variant(MPNConfig(share=PSA, prior="roi"), CF, "MPN Table 2: ROI Resize"),
    # MPN Tables 3 and 4 (class-wise without PSA is fsa, with PSA mpn-no-ca)
    "align-batch": Variant(MPNConfig(share=NO_SHARE), BATCH, "MPN Table 3: Batch-wise"),
    "align-sample-triplet": Variant(MPNConfig(share=NO_SHARE), SAMPLE_TRIPLET, "MPN Table 3: Sample-wise [10]"),
    "align-sample": Variant(MPNConfig(share=NO_SHARE), SAMPLE, "MPN Table 3: Sample-wise (Eq. 9)"),
    "align-batch-psa": Variant(MPNConfig(share=PSA), BATCH, "MPN Table 4: Batch-wise"),
    "align-sample-triplet-psa": Variant(MPNConfig(share=PSA), SAMPLE_TRIPLET, "MPN Table 4: Sample-wise [10]"),
    "align-sample-psa": Variant(MPNConfig(share=PSA), SAMPLE, "MPN Table 4: Sample-wise (Eq. 9)"),
    # MPN Table 5 and Fig. 10
    "mpn-rga": Variant(MPNConfig(share=PSA, channel_attention=True, spatial_attention="rga"), CF, "MPN Table 5: MPN*"),
    **{
        f"soft-{short}-{w}": Variant(
            MPNConfig(share=NO_SHARE, soft_share=conv),
            replace(MPN_LOSS, soft_sharing_weight=w),
            f"MPN Fig. 10: soft, {conv}, {w}",
        )
        for short, conv in SOFT_LAYERS.items()
        for w in SOFT_WEIGHTS
    },
    # the classics of MPN Table 9 and CGPN Table 1
    "ide": Variant(IDEConfig(), CE_ONLY, "MPN Sec. 5.1: IDE"),
    "pcb": Variant(PCBConfig(), CE_ONLY, "MPN Table 9: PCB"),
    "pyramid": Variant(PyramidConfig(), MPN_LOSS, "MPN Table 9: Pyramid"),
    "dsa": Variant(DSAConfig(), SAMPLE_TRIPLET, "MPN Table 9: DSA-reID"),
    "mgn": Variant(MGNConfig(), CGPN_LOSS, "MPN Table 9, CGPN Table 1: MGN"),
    # CGPN Table 3
    "cgpn": Variant(CGPNConfig(ALL_BRANCHES), CGPN_LOSS, "CGPN Table 3: CGPN"),
    "cgpn-1": Variant(CGPNConfig(global_only(ALL_BRANCHES)), CGPN_LOSS, "CGPN Table 3: CGPN-1, global only"),
    "cgpn-2": Variant(CGPNConfig(fine(2, 3, 4)), CGPN_LOSS, "CGPN Table 3: CGPN-2, fine-grained local"),
    "cgpn-3": Variant(CGPNConfig(ALL_BRANCHES, global_parts=0), CGPN_LOSS, "CGPN Table 3: CGPN-3, local only"),
    "cgpn-4": Variant(
        CGPNConfig(ALL_BRANCHES, supervised=False), CGPN_LOSS, "CGPN Table 3: CGPN-4, unsupervised global"
    ),
    # CGPN Table 4
    **{
        f"cgpn-global-{n}": Variant(
            CGPNConfig(global_only((BRANCH_1,)), global_parts=n), CGPN_LOSS, f"CGPN Table 4: Branch1-Global, {n} parts"
        )
        for n in (2, 3, 4, 8)
    },
    "cgpn-b1": Variant(CGPNConfig((BRANCH_1,)), CGPN_LOSS, "CGPN Table 4: Branch 1"),
    "cgpn-b2": Variant(CGPNConfig((BRANCH_2,)), CGPN_LOSS, "CGPN Table 4: Branch 2"),
    "cgpn-b3": Variant(CGPNConfig((BRANCH_3,)), CGPN_LOSS, "CGPN Table 4: Branch 3"),
    "cgpn-b12": Variant(CGPNConfig((BRANCH_1, BRANCH_2)), CGPN_LOSS, "CGPN Table 4: Branch 1 & Branch 2"),
    "cgpn-b13": Variant(CGPNConfig((BRANCH_1, BRANCH_3)), CGPN_LOSS, "CGPN Table 4: Branch 1 & Branch 3"),
    "cgpn-b23": Variant(CGPNConfig((BRANCH_2, BRANCH_3)), CGPN_LOSS, "CGPN Table 4: Branch 2 & Branch 3"),
    "cgpn-b1234": Variant(CGPNConfig((*ALL_BRANCHES, BRANCH_4)), CGPN_LOSS, "CGPN Table 4: CGPN + Branch 4"),
    "cgpn-b12345": Variant(
        CGPNConfig((*ALL_BRANCHES, BRANCH_4, BRANCH_5)), CGPN_LOSS, "CGPN Table 4: CGPN + Branch 4 + Branch 5"
    ),
}


def variant(name: str) -> Variant:
    """The table's line for `name`; an unknown name raises an error that lists the choices."""
    if name not in VARIANTS:
        raise unknown_name("model", name, VARIANTS)
    return VARIANTS[name]


def create_model(
    name: str, num_classes: int, backbone: str = "resnet50", pretrained: bool | str = False, **overrides
) -> ReIDModel:
    """Build a variant of the table.

    backbone: see `create_backbone`; pretrained: False, True (the backbone's default weights), a torchvision
    weights name such as "IMAGENET1K_V2", or the path of a state dict.
    overrides: fields of the variant's config, e.g. `create_model("mpn", 751, num_parts=4, prior="roi")`.
    Raises UnknownNameError for an unknown name or field, CheckpointError where weights cannot be had.
    """
    config = variant(name).config
    known = [f.name for f in fields(config)]
    for key in overrides:
        if key not in known:
            raise unknown_name(f"setting of {name}", key, known)
    config = replace(config, **overrides)
    network = create_backbone(
        backbone, pretrained=pretrained, spatial_attention=getattr(config, "spatial_attention", None)
    )
    model = config.build(network, num_classes)
    model.name = name
    return model
