"""What the papers print, what the released code does, what the kit's preset `paper` does, and why: one table.

A reproduction makes choices that no paper prints. Here each has a row. `choices_table("MPN")` reads the kit's values
from the objects that training uses (recipes, losses, model configurations, defaults of functions), so a row
cannot say one thing while a run does another.

The released code is MPN's, a simplified version that divides F evenly; none is known for CGPN. "-" means: not known.
No paper prints the settings of its IDE: where a row names IDE beside MPN, the kit takes MPN's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd

from reidkit.data.transforms import AugmentConfig, translate_table
from reidkit.errors import unknown_name
from reidkit.evaluation import evaluate_ranking, extract_features
from reidkit.losses import batch_hard_triplet
from reidkit.models.parts import PartClassifier
from reidkit.models.zoo import variant
from reidkit.priors import coarse_prior
from reidkit.training.recipes import recipe_for

SYSTEMS = {"MPN": "mpn", "Baseline (UB)": "baseline-ub", "IDE": "ide", "CGPN": "cgpn", "MGN": "mgn"}
SILENT = "not said"


@dataclass(frozen=True)
class Choice:
    """One row of the table.

    field:    the setting: "lr" of a `Recipe`, "loss.margin" of a `LossConfig`, "model.prior" of a configuration, or
              "room.name" of the other rooms of `settings_of`; a few words where no setting holds the choice.
    systems:  which of `SYSTEMS` it belongs to; they have the same value.
    paper:    what the paper prints, and where. released: what MPN's released code does; "-" where unknown.
    why:      why the kit's value is what it is.
    words:    the kit's choice, where no setting holds it; else empty, and the value is read.
    """

    field: str
    systems: tuple[str, ...]
    paper: str
    released: str
    why: str
    words: str = ""

    @property
    def ours(self) -> str:
        """The kit's choice as text: `words`, or the value that a run of the preset `paper` would use."""
        return self.words or str(value_of(self.field, self.systems[0]))


def settings_of(system: str) -> dict[str, Any]:
    """The objects that a run of `system` with the preset `paper` reads its settings from, by room ("" = the recipe)."""
    if system not in SYSTEMS:
        raise unknown_name("system", system, SYSTEMS)
    v, recipe = variant(SYSTEMS[system]), recipe_for(SYSTEMS[system], "paper")
    return {
        "": recipe,
        "loss": replace(v.loss, **recipe.loss),
        "model": replace(v.config, **recipe.model),
        "augment": AugmentConfig(),
        "translation": _defaults(translate_table),
        "prior": _defaults(coarse_prior),
        "classifier": _defaults(PartClassifier),
        "triplet": _defaults(batch_hard_triplet),
        "features": _defaults(extract_features),
        "ranking": _defaults(evaluate_ranking),
    }


def value_of(field: str, system: str) -> Any:
    """The value of a setting such as "lr" or "loss.margin". Raises UnknownNameError where there is no such setting."""
    room, _, name = field.rpartition(".")
    owner = settings_of(system).get(room)
    if owner is None or not hasattr(owner, name):
        raise unknown_name(
            "setting", field, [f"{r}.{n}".lstrip(".") for r, o in settings_of(system).items() for n in vars(o)]
        )
    return getattr(owner, name)


def choices_table(*systems: str) -> pd.DataFrame:
    """The rows of some systems (default: all), index `setting`; every cell is text.

    systems: names of `SYSTEMS`, e.g. "MPN", "IDE". Raises UnknownNameError for another name.
    """
    for system in systems:
        if system not in SYSTEMS:
            raise unknown_name("system", system, SYSTEMS)
    chosen = [c for c in CHOICES if not systems or set(systems) & set(c.systems)]
    rows = [[c.field, ", ".join(c.systems), c.paper, c.released, c.ours, c.why] for c in chosen]
    columns = ["setting", "of", "the paper prints", "released code", "ours", "why"]
    return pd.DataFrame(rows, columns=columns).set_index("setting")


def _defaults(function: Callable) -> SimpleNamespace:
    """The default values of a function's (or class's) arguments."""
    found = inspect.signature(function).parameters.values()
    return SimpleNamespace(**{p.name: p.default for p in found if p.default is not inspect.Parameter.empty})


MPN, UB, IDE, CGPN, MGN = ((system,) for system in SYSTEMS)
BOTH, STRIPES, ALL = MPN + CGPN, CGPN + MGN, MPN + IDE + CGPN + MGN
PLAIN = "as printed"

NETWORK = (
    Choice("backbone", ALL, "ResNet-50 (MPN 3.3; CGPN 3.1, 4.2)", "ResNet-50", PLAIN),
    Choice(
        "pretrained",
        ALL,
        "ImageNet (CGPN 4.2); MPN: " + SILENT,
        "-",
        "torchvision's older ImageNet weights, those of the papers' years; MPN's IDE starts from them",
    ),
    Choice("ide_init", MPN, "starts from an IDE trained on the same set (5.1)", "has such an IDE", PLAIN),
    Choice("ide_init", STRIPES, "every branch starts from the ImageNet weights (CGPN 4.2)", "-", PLAIN),
    Choice(
        "last down-sampling",
        BOTH,
        "MPN removes it (3.3); CGPN: " + SILENT,
        "removed",
        "a finer map: of its 24 rows a quarter has six, not three; as in PCB",
        "removed, in every branch",
    ),
    Choice("model.num_parts", MPN, "K = 6 (5.1, Fig. 7)", "-", PLAIN),
    Choice("model.part_dim", MPN, "512 (3.3)", "-", PLAIN),
    Choice(
        "model.channel_attention",
        MPN,
        "optional (3.3); MPN has it, MPNo has not (Table 1)",
        "none (MPNo)",
        "the name mpn is MPN, mpn-no-ca is MPNo",
    ),
    Choice("model.share", MPN, "both convs and the attention, not the classifiers (3.3)", "both convs", PLAIN),
    Choice(
        "model.separate_bn",
        MPN,
        SILENT,
        "MT and AT share each layer's BN",
        "a shared layer has one BN, so its running statistics mix both inputs",
    ),
    Choice(
        "model.prior",
        MPN,
        "mask, crop and resize, K stripes (Fig. 5b)",
        'F divided evenly: Table 2, "Uniform Division"',
        PLAIN,
    ),
    Choice(
        "prior.min_head",
        MPN,
        'head present "by counting pixels" (3.2), no number',
        "-",
        "a share of the image's area; notebook 02 tries others",
    ),
    Choice(
        "prior.min_leg",
        MPN,
        'one leg present "by counting pixels" (3.2), no number',
        "-",
        "likewise; trousers count, they hide legs in LIP labels",
    ),
    Choice("prior.threshold", MPN, '"binarize" (3.2), no number', "-", "a cell is body if half of it is"),
    Choice(
        "dilation",
        MPN,
        "by a 1 x 2 kernel (3.2), which side is not said",
        "-",
        "an even kernel has no centre",
        "to the right",
    ),
    Choice(
        "model.prior",
        UB,
        "detection errors of the images are corrected as in Fig. 5 (5.2.1)",
        "-",
        "the rows of F between the boundaries are resized, not the image's, and without the mask: the backbone sees "
        "the same images as in all other rows",
    ),
    Choice("classifier.std", ALL, SILENT, "N(0, 0.001), bias 0", "as released"),
    Choice("bias of the 1x1 convs", MPN, SILENT, "yes", "as released; the BN behind it takes the bias out", "yes"),
    Choice("model.part_dim", IDE, SILENT, "Linear 2048 to 512, BN", "as released"),
    Choice("model.slope", IDE, SILENT, "LeakyReLU 0.1", "as released"),
    Choice("model.dropout", IDE, SILENT, "0.5", "as released"),
    Choice("model.global_parts", CGPN, "two 1x1 convs (3.1; M = 2 in Eq. 3)", "-", PLAIN),
    Choice("model.reduced_dim", CGPN, "256 (3.1)", "-", PLAIN),
    Choice(
        "stripe groups of branch 3",
        CGPN,
        "text: three 1/2, two 2/3; sizes: three 3h/4, two h/2 (3.1)",
        "-",
        "of four stripes only these are adjacent and at least half: the text is right in the counts, the sizes in "
        "the fractions",
        "three h/2, two 3h/4",
    ),
    Choice(
        "branches 4 and 5",
        CGPN,
        "named, not described (4.6, Table 4)",
        "-",
        "the series goes on by the same rule",
        "five and six stripes",
    ),
    Choice(
        "reduction",
        CGPN,
        '"reduced to 256-dimension" (3.1)',
        "-",
        "MGN's form without its ReLU, which CGPN does not name",
        "1x1 conv without bias, BN",
    ),
    Choice(
        "pooling of the targets",
        CGPN,
        '"a global pooling" (3.1)',
        "-",
        "the features that follow them are max-pooled (GMP)",
        "max",
    ),
)

IMAGES = (
    Choice("size", ALL, "384 x 128 (MPN 5.1; CGPN 4.2)", "384 x 128", PLAIN),
    Choice("augment.interpolation", ALL, SILENT, "bilinear in training", "as released"),
    Choice("num_ids", MPN, "S = 6 (5.1)", "6", PLAIN),
    Choice("num_ids", STRIPES, "P = 8 (CGPN 4.2)", "-", PLAIN),
    Choice("num_ids", IDE, SILENT, "-", "MPN's batches"),
    Choice("num_instances", ALL, "A = 8 (MPN 5.1), K = 8 (CGPN 4.2)", "8", PLAIN),
    Choice(
        "sampling",
        MPN,
        "what an epoch is: " + SILENT,
        "floor(images / 48) batches (Market-1501: 269), the identities of each drawn anew",
        "as released",
    ),
    Choice(
        "sampling",
        STRIPES + IDE,
        "what an epoch is: " + SILENT,
        "-",
        "once through the identities, as the usual code of MGN does",
    ),
    Choice("batches_per_epoch", ALL, SILENT, "as above", "None: as many as the sampling says"),
    Choice("translation_copies", MPN, "offline translation enlarges each set by five (5.1)", "-", PLAIN),
    Choice("translation_copies", STRIPES, "flipping only (CGPN 4.2)", "-", PLAIN),
    Choice("translation.max_shift", MPN, "how far: " + SILENT, "-", "the range of Ahmed et al. (CVPR 2015)"),
    Choice("flip", ALL, "0.5 (MPN 5.1); CGPN: random, no number (4.2)", "-", "as printed; MPN's number for all"),
    Choice("erasing", MPN, "random erasing, 0.5 (5.1)", "0.5", PLAIN),
    Choice("erasing", IDE, SILENT, "-", "MPN's"),
    Choice("erasing", STRIPES, "flipping only (CGPN 4.2)", "-", PLAIN),
    Choice("erasing_area", MPN, SILENT, "0.02 to 0.4", "as released"),
    Choice("augment.erasing_aspect", MPN, SILENT, "0.3 to 3.3", "as released"),
    Choice(
        "augment.erasing_fill",
        MPN,
        SILENT,
        "(0.4914, 0.4822, 0.4465)",
        "as released: meant for [0, 1], written after the normalisation, so it is a little brighter than the mean",
    ),
    Choice("order of augmentation", MPN, SILENT, "flip, normalise, erase", "as released", "flip, normalise, erase"),
)

OPTIMISATION = (
    Choice("epochs", MPN, "70 (5.1)", "-", PLAIN),
    Choice("epochs", CGPN, "240 (4.2)", "-", PLAIN),
    Choice(
        "epochs",
        MGN,
        "how the MGN of Table 1 was trained: " + SILENT + "; its row is that of MPN's Tables 5 to 7",
        "-",
        "CGPN's recipe for both, so that the pair differs in the network alone",
    ),
    Choice("epochs", IDE, SILENT, "-", "ours, chosen with the two rows of its learning rate"),
    Choice("lr", MPN, "0.01 (5.1)", "-", PLAIN),
    Choice("lr", STRIPES, "0.01 (CGPN 4.2)", "-", PLAIN),
    Choice("lr", IDE, SILENT, "-", "ours"),
    Choice("head_lr_factor", MPN + STRIPES, "one rate", "one group of parameters", PLAIN),
    Choice("head_lr_factor", IDE, SILENT, "-", "ours: the new layers learn faster than the ImageNet trunk"),
    Choice(
        "soft sharing (Fig. 10)",
        MPN,
        '"the L2 loss", weights 0.01 to 10 (5.3.2)',
        "none",
        "the balance of SGD on the sum of all losses, and stable at any weight",
        "squared distance of weights and biases, an implicit step behind each of SGD's",
    ),
    Choice("momentum", ALL, "SGD, 0.9 (MPN 5.1; CGPN 4.2)", "-", PLAIN),
    Choice("nesterov", MPN, '"standard" SGD with momentum (5.1)', "Nesterov", "as released"),
    Choice("nesterov", STRIPES + IDE, "SGD with momentum (CGPN 4.2)", "-", PLAIN),
    Choice(
        "weight_decay",
        ALL,
        "5e-4 (MPN 5.1; CGPN 4.2)",
        "on every parameter, BN too",
        "as printed; on every parameter, as released",
    ),
    Choice("warmup_batches", ALL, "none named", "-", PLAIN),
    Choice("schedule", ALL, "steps (MPN 5.1; CGPN 4.2)", "-", PLAIN),
    Choice("milestones", MPN, "every 20 epochs (5.1)", "-", PLAIN),
    Choice("milestones", STRIPES, "60 and 80 (CGPN 4.2)", "-", PLAIN),
    Choice("milestones", IDE, SILENT, "-", "ours: two thirds of its epochs"),
    Choice("gamma", ALL, "0.1 (MPN 5.1); 1e-2, 1e-3, 1e-4 (CGPN 4.2)", "-", PLAIN),
    Choice("cosine_start", ALL, "no cosine", "-", 'read by schedule="cosine" only'),
    Choice("clip_norm", ALL, "none named", "-", PLAIN),
    Choice("precision", ALL, SILENT, "-", "bf16 where the hardware has it, for speed; losses in float32"),
)

LOSSES = (
    Choice(
        "loss.identity",
        BOTH + MGN,
        "sum over the parts (MPN Eq. 1; CGPN Eq. 1 for each feature, summed in Eq. 4)",
        "sum over the parts of MT and AT",
        PLAIN,
    ),
    Choice(
        "sign of MPN Eq. 1",
        MPN,
        "-1/N in front of the sum of cross entropies",
        "+",
        "a cross entropy is positive already: the printed sign would reward wrong answers",
        "+",
    ),
    Choice("loss.identity_weight", ALL, "1 (MPN Eq. 10; CGPN Eq. 4)", "1", PLAIN),
    Choice("loss.triplet", MPN, "on h alone (Eq. 3)", "on h", PLAIN),
    Choice(
        "loss.triplet",
        CGPN,
        "on the global and the local part (3.2)",
        "-",
        "on all twelve features after their reduction, which are what is compared at test time",
    ),
    Choice("loss.triplet", MGN, SILENT, "-", "on its three global features, as MGN's paper"),
    Choice("loss.triplet", IDE, SILENT, "none", "as released: cross entropy alone"),
    Choice(
        "loss.triplet_weight", BOTH + MGN, "1 (MPN Eq. 10; CGPN Eq. 4)", "1, on a loss twice as large (next row)", PLAIN
    ),
    Choice(
        "loss.margin",
        MPN,
        "0.2 (5.1)",
        "0.4 on the squared distance of unit vectors: 0.2 in cosine, loss doubled",
        PLAIN,
    ),
    Choice("loss.margin", STRIPES, "1.2 (CGPN 3.2)", "-", PLAIN),
    Choice("loss.metric", MPN, "cosine distance (Eq. 4)", "squared Euclidean of unit vectors = 2 x cosine", PLAIN),
    Choice("loss.metric", STRIPES, "Euclidean (CGPN Eq. 2)", "-", PLAIN),
    Choice("triplet.average", MPN, "divided by N_T, the violating triplets (Eq. 3)", "-", PLAIN),
    Choice(
        "average of the triplet loss",
        STRIPES,
        "a sum over P x K anchors (CGPN Eq. 2)",
        "-",
        "the usual code of MGN; the term does not grow with the batch",
        "mean over the anchors",
    ),
    Choice("loss.alignment", MPN, "class-wise (Eq. 8)", "class-wise", PLAIN),
    Choice("loss.alignment_weight", MPN, "lambda = 1 (5.1)", "1", PLAIN),
    Choice("gradient through g", MPN, SILENT, "not stopped", "as released", "both sides of Eq. 8 move"),
    Choice(
        "average of CGPN Eq. 3",
        CGPN,
        '"mean square error", printed as a squared norm: a sum over c channels',
        "-",
        "the name, and PyTorch's MSELoss; c = 2048 times weaker than the printed formula",
        "mean over the batch and the c channels",
    ),
    Choice("loss.supervision_weight", CGPN, "1 (Eq. 4)", "-", "1, on the mean of the row above"),
    Choice("model.detach_targets", CGPN, SILENT, "-", "the formula as it is: both ends of Eq. 3 move"),
)

TEST = (
    Choice(
        "features.interpolation",
        ALL,
        SILENT,
        "bicubic at test time",
        "the same resize in training and test; `RELEASED` of evaluation/forms.py has the other",
    ),
    Choice(
        "test_flip",
        MPN,
        "h of the image, no mirror image (Sec. 4)",
        "h(image) + h(mirror image)",
        "as printed; `reidkit evaluate --flip` adds it",
    ),
    Choice("test_flip", IDE, SILENT, "-", "as MPN's"),
    Choice("test_flip", STRIPES, "mean of the features of image and mirror image (CGPN 4.2)", "-", PLAIN),
    Choice("ranking.metric", MPN, "cosine (Eq. 11)", "of features of length 1", PLAIN),
    Choice("ranking.metric", STRIPES, SILENT, "-", "one measure for all rows"),
    Choice(
        "ranking.ap",
        ALL,
        '"official protocols" (MPN 5); CGPN: ' + SILENT,
        "trapezoid",
        "step, the usual AP, which reads higher; --ap trapezoid gives the other, and one table never mixes them",
    ),
)

CHOICES: tuple[Choice, ...] = (*NETWORK, *IMAGES, *OPTIMISATION, *LOSSES, *TEST)
