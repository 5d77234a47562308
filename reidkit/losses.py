"""Every loss of both papers, plain functions on tensors.

Features are [N, D], labels [N]; a loss is a scalar tensor. What is not float64 is computed in float32, also inside
autocast. Shapes that disagree, and batches of no image, raise TrainingError; no value is read to see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from reidkit.errors import TrainingError, check_shapes, unknown_name
from reidkit.loss_config import AVERAGES, METRICS, Average, FeatureAlignment, LossConfig, Metric, Reduction

IDENTITY = ("identity", "identity_aux")  # terms of the main and of the auxiliary classifiers


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - a.b / (|a| |b|) row by row (MPN Eq. 4): [..., D], [..., D] -> [...], in [0, 2]."""
    check_shapes(("a", a, "... D"), ("b", b, "... D"))
    a, b = _full_precision(a, b)
    return _distance_in_pairs(torch.stack([a, b], dim=-2))


def _distance_in_pairs(pairs: Tensor) -> Tensor:
    """`cosine_distance` of vectors that lie side by side, [..., 2, D] -> [...]."""
    a, b = _unit(pairs).unbind(-2)
    return 1 - (a * b).sum(-1)


def _unit(rows: Tensor) -> Tensor:
    """[..., D] divided by their lengths; a row of zeros stays. `F.normalize` with fewer operators in its gradient."""
    return rows / (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) + 1e-12)


def pairwise_distance(features: Tensor, metric: Metric = "cosine") -> Tensor:
    """All distances in a batch: [N, D] -> [N, N]; [F, N, D] -> [F, N, N].

    metric: "cosine" (MPN Eq. 4); "euclidean" (CGPN); "squared-euclidean" (twice the cosine distance when the
    features have length 1, which is how MPN's released code computes Eq. 3).
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    check_shapes(("features", features, "... N D"))
    (features,) = _full_precision(features)
    if metric == "cosine":
        unit = _unit(features)
        with torch.autocast(features.device.type, enabled=False):
            return 1 - unit @ unit.transpose(-2, -1)
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")  # exactly 0 on the diagonal
    return distance if metric == "euclidean" else distance.square()


def batch_hard_triplet(
    features: Tensor, labels: Tensor, margin: float = 0.2, metric: Metric = "cosine", average: Average = "violating"
) -> Tensor:
    """Batch-hard triplet loss (MPN Eq. 3, CGPN Eq. 2; Hermans et al. 2017).

    For each anchor a: [ max over positives D(a, p) - min over negatives D(a, n) + margin ]_+

    features [N, D], labels [N] -> a scalar; F features at once, [F, N, D], -> [F], a loss each.
    An anchor without a negative in the batch forms no triplet.
    average: "violating" divides by the number N_T of triplets with a positive loss (MPN); "all" by the number of
    anchors. Zero, with a (zero) gradient, when nothing violates.

    >>> x = torch.tensor([[0.0], [1.0], [3.0], [5.0]])
    >>> batch_hard_triplet(x, torch.tensor([0, 0, 1, 1]), margin=1.0, metric="euclidean", average="all")
    tensor(0.2500)
    """
    if average not in AVERAGES:
        raise unknown_name("average", average, AVERAGES)
    check_shapes(("features", features, "... N D"), ("labels", labels, "N"))
    distance = pairwise_distance(features, metric)  # [N, N]
    same = _same_identity(labels)
    positive = distance.masked_fill(~same, -torch.inf).max(-1).values  # hardest positive (the anchor at worst)
    negative = distance.masked_fill(same, torch.inf).min(-1).values  # hardest negative; inf where there is none
    loss = F.relu(positive - negative + margin)  # without a negative: [-inf]_+ = 0
    count = (loss > 0).sum(-1).clamp_min(1) if average == "violating" else len(labels)
    return loss.sum(-1) / count


def _same_identity(labels: Tensor) -> Tensor:
    """[N] -> [N, N], whether two images show one identity. Labels in any order, and no size depends on their values."""
    return labels[:, None] == labels


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Mean feature of each image's identity (MPN Eq. 6-7): [..., N, D], [N] -> [..., N, D], equal for equal labels.

    One row an image, not one an identity: how many identities there are only the device knows, and asking it would
    make the host wait.
    """
    check_shapes(("features", features, "... N D"), ("labels", labels, "N"))
    (features,) = _full_precision(features)
    with torch.autocast(features.device.type, enabled=False):
        return _shares(labels, features.dtype) @ features


def _shares(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, N]: 1 / n_s where two images show the same identity s, of which there are n_s; 0 elsewhere."""
    same = _same_identity(labels).to(dtype)
    return same / same.sum(1, keepdim=True)


def class_alignment(main: Tensor, aux: Tensor, labels: Tensor) -> Tensor:
    """L_CF (MPN Eq. 8): cosine distance between the identity means of h and g, averaged over identities.

    main (h), aux (g) [N, D], labels [N]. Neither side is detached.
    """
    check_shapes(("main", main, "N D"), ("aux", aux, "N D"), ("labels", labels, "N"))
    main, aux = _full_precision(main, aux)
    with torch.autocast(main.device.type, enabled=False):
        shares = _shares(labels, main.dtype)
        pairs = torch.stack([main, aux], dim=1)  # [N, 2, D]
        means = (shares @ pairs.flatten(1)).view_as(pairs)  # equal for equal labels
        share = shares.diagonal()  # the n_s images of identity s count as one
        return torch.dot(_distance_in_pairs(means), share) / share.sum()


def sample_alignment(main: Tensor, aux: Tensor) -> Tensor:
    """L_SF (MPN Eq. 9): cosine distance between h and g of each image, averaged over images. [N, D] each."""
    check_shapes(("main", main, "N D"), ("aux", aux, "N D"))
    return cosine_distance(main, aux).mean()


def batch_alignment(main: Tensor, aux: Tensor) -> Tensor:
    """Batch-wise constraint (MPN Sec. 5.3.3): cosine distance between the batch means of h and g. [N, D] each."""
    check_shapes(("main", main, "N D"), ("aux", aux, "N D"))
    main, aux = _full_precision(main, aux)
    return cosine_distance(main.mean(0), aux.mean(0))


def part_cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Identification loss of K part classifiers (MPN Eq. 1 without its printed minus sign, a slip; CGPN Eq. 1).

    logits [K, N, C], labels [N]. Mean over the N images; reduction over the K parts: "sum" (both papers) or "mean".
    """
    if reduction not in get_args(Reduction):
        raise unknown_name("reduction", reduction, get_args(Reduction))
    return _cross_entropies([logits], labels, reduction)[0]


def _cross_entropies(tasks: list[Tensor], labels: Tensor, reduction: Reduction) -> tuple[Tensor, ...]:
    """The loss of each task, logits [K, N, C] of the same K: all classifiers of all tasks in one cross entropy."""
    check_shapes(*(("logits", task, "K N C") for task in tasks), ("labels", labels, "N"))
    (logits,) = _full_precision(torch.cat(tasks).flatten(0, 1))  # [tasks*K*N, C]
    losses = F.cross_entropy(logits, labels.repeat(len(logits) // len(labels)), reduction="none")
    losses = losses.view(len(tasks), -1)  # [tasks, K*N]
    return (losses.sum(1) / len(labels) if reduction == "sum" else losses.mean(1)).unbind()


def supervision_mse(pairs: list[tuple[Tensor, Tensor]], detach_targets: bool = False) -> Tensor:
    """CGPN Eq. 3: mean squared error between global features fg and their part targets fgl, summed over pairs.

    pairs: [(fg, fgl), ...], one for each branch and part, [N, c] each; the mean runs over N and c. The formula is
    printed as a squared norm, a sum over c: 2048 times as much with ResNet-50 (see `reidkit.training.choices`).
    detach_targets: let the targets teach only; in the paper both sides move.
    """
    if not pairs:
        return torch.zeros(())
    for fg, fgl in pairs:
        check_shapes(("fg", fg, "N c"), ("fgl", fgl, "N c"))
    losses = []
    for fg, fgl in _stacked(pairs):  # [pairs, N, c] each
        fg, fgl = _full_precision(fg, fgl.detach() if detach_targets else fgl)
        losses.append(len(fg) * F.mse_loss(fg, fgl))
    return sum(losses[1:], start=losses[0])


def _stacked(rows: Iterable[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """Rows of tensors, those of one shape stacked column by column, so that they cost one computation together."""
    groups: dict[torch.Size, list[tuple[Tensor, ...]]] = {}
    for row in rows:
        groups.setdefault(row[0].shape, []).append(row)
    return [tuple(torch.stack(column) for column in zip(*group)) for group in groups.values()]


def _full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors as float32 (half precision, whole numbers); float32 and float64 as they are."""
    return tuple(t if t.dtype == torch.float64 else t.float() for t in tensors)


def total_loss(
    out: Any,
    labels: Tensor,
    config: LossConfig,
    regularization: Tensor | float = 0.0,
    alignment_factor: Tensor | float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Everything a variant is trained with, summed (MPN Eq. 10, CGPN Eq. 4).

    out: a `ModelOutput` (anything with its fields), labels [N]; regularization: `model.regularization()`;
    alignment_factor: multiplies the weight of the alignment, whose weight may grow during the training.
    Returns (total, terms): terms are the unweighted values, detached, of those named here that take part:
    identity, identity_aux, triplet, alignment, supervision, soft_sharing. An auxiliary output is optional
    (MT Only has none); alignment without one raises TrainingError.

    Soft sharing is a term like the others, and its gradient flows if `regularization` has one. Our loop passes it
    detached: total and terms report it, and `model.proximal_step` takes its step, which no weight makes unstable.
    """
    terms = identity_terms(out, labels, config.identity)
    weights: dict[str, Tensor | float] = {name: config.identity_weight for name in terms}
    if config.triplet is not None:
        terms["triplet"] = triplet_term(out, labels, config)
        weights["triplet"] = config.triplet_weight
    if config.alignment in ("class", "sample", "batch"):
        terms["alignment"] = alignment_term(out, labels, config.alignment)
        weights["alignment"] = config.alignment_weight * alignment_factor
    if out.supervision:
        terms["supervision"] = supervision_mse(out.supervision)
        weights["supervision"] = config.supervision_weight
    if config.soft_sharing_weight:
        terms["soft_sharing"] = torch.as_tensor(regularization)
        weights["soft_sharing"] = config.soft_sharing_weight
    first, *others = (term if weights[name] == 1 else weights[name] * term for name, term in terms.items())
    return sum(others, start=first), {name: term.detach() for name, term in terms.items()}


def identity_terms(out: Any, labels: Tensor, reduction: Reduction) -> dict[str, Tensor]:
    """The identification losses of the main and, where there are any, of the auxiliary classifiers (MPN Eq. 1)."""
    tasks = [out.logits] if out.aux is None else [out.logits, out.aux.logits]
    return dict(zip(IDENTITY, _cross_entropies(tasks, labels, reduction)))


def triplet_term(out: Any, labels: Tensor, config: LossConfig) -> Tensor:
    """The triplet loss of a variant: on h, on h + g ([10] in MPN Sec. 5.3.3), or summed over several features."""
    if config.triplet == "features":
        # CGPN Eq. 2 and MGN sum over the P x K anchors; like their usual code we take the mean.
        features = _stacked((f,) for f in out.triplet_features or [out.embedding])  # [F, N, D] of each width
        losses = [batch_hard_triplet(f, labels, config.margin, config.metric, "all").sum() for (f,) in features]
        return sum(losses[1:], start=losses[0])
    embedding = out.embedding
    if config.alignment == "sample-triplet":
        aux = _needs_aux(out, config.alignment).embedding
        check_shapes(("embedding", embedding, "N D"), ("auxiliary embedding", aux, "N D"))
        embedding = embedding + aux
    return batch_hard_triplet(embedding, labels, config.margin, config.metric)


def alignment_term(out: Any, labels: Tensor, kind: FeatureAlignment) -> Tensor:
    """Feature space alignment of h and g: "class" (MPN Eq. 8), "sample" (Eq. 9) or "batch" (Sec. 5.3.3)."""
    main, aux = out.embedding, _needs_aux(out, kind).embedding
    if kind == "class":
        return class_alignment(main, aux, labels)
    return sample_alignment(main, aux) if kind == "sample" else batch_alignment(main, aux)


def _needs_aux(out: Any, kind: str) -> Any:
    if out.aux is None:
        raise TrainingError(
            f"alignment={kind!r} compares main and auxiliary tasks, but the model gave no auxiliary "
            "output: use a variant with both tasks, in training mode, or alignment=None"
        )
    return out.aux
