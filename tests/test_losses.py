"""Each loss against a slow, obvious reference, a hand-worked example, and gradcheck."""

import math
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch

from reidkit import losses
from reidkit.errors import TrainingError, UnknownNameError
from reidkit.losses import LossConfig, total_loss

LABELS = torch.tensor([2, 2, 0, 0, 0, 7])


def features(n=6, d=5, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- slow references: one loop a symbol ------------------------------------------------------------------------


def slow_distance(a, b, metric):
    a, b = a.tolist(), b.tolist()
    squared = sum((x - y) ** 2 for x, y in zip(a, b))
    if metric == "squared-euclidean":
        return squared
    if metric == "euclidean":
        return math.sqrt(squared)
    return 1 - sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def slow_triplet(x, labels, margin, metric, average):
    values = []
    for a in range(len(x)):
        positives = [slow_distance(x[a], x[p], metric) for p in range(len(x)) if labels[p] == labels[a]]
        negatives = [slow_distance(x[a], x[n], metric) for n in range(len(x)) if labels[n] != labels[a]]
        values.append(max(0.0, max(positives) - min(negatives) + margin) if negatives else 0.0)
    count = sum(v > 0 for v in values) if average == "violating" else len(values)
    return sum(values) / max(count, 1)


def slow_mean(rows):
    return torch.tensor([sum(column) / len(rows) for column in zip(*(r.tolist() for r in rows))], dtype=torch.float64)


def slow_class_alignment(h, g, labels):
    identities = sorted(set(labels.tolist()))
    distances = [
        slow_distance(
            slow_mean([h[i] for i in range(len(h)) if labels[i] == s]),
            slow_mean([g[i] for i in range(len(g)) if labels[i] == s]),
            "cosine",
        )
        for s in identities
    ]
    return sum(distances) / len(distances)


def slow_cross_entropy(logits, labels, reduction):
    total = 0.0
    for part in logits.tolist():
        for row, label in zip(part, labels.tolist()):
            total -= math.log(math.exp(row[label]) / sum(math.exp(v) for v in row)) / len(labels)
    return total if reduction == "sum" else total / len(logits)


# ---- triplet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", losses.METRICS)
@pytest.mark.parametrize("average", losses.AVERAGES)
@pytest.mark.parametrize("margin", [0.05, 0.4, 3.0])
def test_triplet_equals_the_loops(metric, average, margin):
    x = features(seed=3)
    fast = losses.batch_hard_triplet(x, LABELS, margin, metric, average)
    assert fast.item() == pytest.approx(slow_triplet(x, LABELS, margin, metric, average), abs=1e-9)


@pytest.mark.parametrize("metric", losses.METRICS)
def test_distances_equal_the_loops(metric):
    x = torch.stack([features(), features(seed=1)])  # [2, N, D]
    expected = [[[slow_distance(a, b, metric) for b in f] for a in f] for f in x]
    torch.testing.assert_close(
        losses.pairwise_distance(x, metric),
        torch.tensor(expected, dtype=x.dtype),
        atol=1e-11,
        rtol=0,  # 1e-12 guards the division
    )


def test_unasked_the_triplet_loss_is_that_of_mpn():
    """Cosine distance, margin 0.2, divided by the number of triplets that violate it."""
    x = features()
    of_mpn, of_all = (slow_triplet(x, LABELS, 0.2, "cosine", average) for average in losses.AVERAGES)
    assert losses.batch_hard_triplet(x, LABELS).item() == pytest.approx(of_mpn) != of_all


def test_triplet_by_hand():
    # points 0 1 2 | 3 4 5 | 6 7 8 on a line: a middle anchor has d(p) = 1, d(n) = 2; an end one 2, and 1 or 4
    x, labels = torch.arange(9.0)[:, None], torch.arange(9) // 3
    # margin 0.5: anchors 2, 3, 5, 6 give 2 - 1 + 0.5 = 1.5; anchors 0, 1, 4, 7, 8 give nothing
    assert losses.batch_hard_triplet(x, labels, 0.5, "euclidean").item() == pytest.approx(1.5)
    assert losses.batch_hard_triplet(x, labels, 0.5, "euclidean", "all").item() == pytest.approx(4 * 1.5 / 9)
    # squared: 4 - 1 + 0.5 = 3.5
    assert losses.batch_hard_triplet(x, labels, 0.5, "squared-euclidean").item() == pytest.approx(3.5)


def test_released_form_is_twice_the_cosine_form():
    x = features()
    unit = torch.nn.functional.normalize(x, dim=1)
    squared = losses.batch_hard_triplet(unit, LABELS, 0.4, "squared-euclidean")
    assert squared.item() == pytest.approx(2 * losses.batch_hard_triplet(x, LABELS, 0.2, "cosine").item())


@pytest.mark.parametrize("metric", losses.METRICS)
def test_triplet_gradient(metric):
    x = features(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.batch_hard_triplet(x, LABELS, 1.0, metric), x)


@pytest.mark.parametrize("case", ["one identity", "no violation", "one image"])
def test_triplet_without_a_violating_triplet_is_zero_with_a_gradient(case):
    pairs = torch.tensor([0, 0, 1, 1, 2, 2])
    x, labels = {
        "one identity": (features(), torch.zeros(6, dtype=torch.long)),
        "no violation": (torch.eye(6, dtype=torch.float64)[pairs], pairs),
        "one image": (features(1), torch.tensor([4])),
    }[case]
    x = x.clone().requires_grad_()
    for metric in losses.METRICS:
        for average in losses.AVERAGES:
            loss = losses.batch_hard_triplet(x, labels, 0.2, metric, average)
            (gradient,) = torch.autograd.grad(loss, x)
            assert loss.item() == 0
            assert torch.equal(gradient, torch.zeros_like(x))


def test_a_single_violating_triplet_is_divided_by_one():
    """Points on a line: of the four anchors only the third violates, by 1.5 - 2 + 0.75."""
    x, labels = torch.tensor([[0.0], [1.0], [3.0], [4.5]]), torch.tensor([0, 0, 1, 1])
    assert losses.batch_hard_triplet(x, labels, 0.75, "euclidean").item() == 0.25
    assert losses.batch_hard_triplet(x, labels, 0.75, "euclidean", "all").item() == 0.25 / 4


def test_triplet_of_equal_features_has_a_finite_gradient():
    x = torch.ones(4, 3, requires_grad=True)
    loss = losses.batch_hard_triplet(x, torch.tensor([0, 0, 1, 1]), 1.2, "euclidean")
    loss.backward()
    assert loss.item() == pytest.approx(1.2)
    assert torch.isfinite(x.grad).all()


def test_nan_features_give_a_nan_loss():
    x = features()
    x[1, 2] = float("nan")
    assert math.isnan(losses.batch_hard_triplet(x, LABELS))


def test_half_precision_is_computed_in_float32():
    x = features(dtype=torch.float32).bfloat16()
    assert losses.batch_hard_triplet(x, LABELS).dtype == torch.float32
    for metric in losses.METRICS:
        with torch.autocast("cpu", torch.bfloat16):
            inside = losses.batch_hard_triplet(x.float(), LABELS, metric=metric)
        assert inside.item() == losses.batch_hard_triplet(x.float(), LABELS, metric=metric).item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distances_and_means_of_half_precision_are_those_of_its_values_in_float32(dtype):
    """Rows whose squares float16 cannot hold, and a row of zeros, which float16 divides by zero."""
    rows = torch.cat([torch.zeros(1, 2048), torch.full((2, 2048), 2000.0), features(3, 2048, dtype=torch.float32)])
    half, labels = rows.to(dtype), torch.tensor([0, 1, 1, 2, 2, 2])
    for of in (
        lambda x: losses.cosine_distance(x, x.flip(0)),
        *(lambda x, metric=metric: losses.pairwise_distance(x, metric) for metric in losses.METRICS),
        lambda x: losses.class_means(x, labels),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            inside = of(half)
        for found in (of(half), inside):
            assert found.dtype == torch.float32 and torch.equal(found, of(half.float()))
    assert losses.cosine_distance(half[1], half[2]).item() == pytest.approx(0, abs=1e-6)
    assert losses.cosine_distance(half[0], half[1]).item() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_other_loss_of_half_precision_is_computed_in_float32_too(dtype):
    """The loss of the rounded values, not a rounded loss."""
    h, g = (features(seed=seed).to(dtype) for seed in (1, 2))
    logits = torch.stack([features(d=8, seed=seed).to(dtype) for seed in (3, 4)])  # [K, N, C]
    found = {
        losses.class_alignment(h, g, LABELS): slow_class_alignment(h, g, LABELS),
        losses.sample_alignment(h, g): sum(slow_distance(a, b, "cosine") for a, b in zip(h, g)) / len(h),
        losses.batch_alignment(h, g): slow_distance(slow_mean(list(h)), slow_mean(list(g)), "cosine"),
        losses.part_cross_entropy(logits, LABELS): slow_cross_entropy(logits.double(), LABELS, "sum"),
        losses.supervision_mse([(h, g)]): (h.double() - g.double()).square().mean().item(),
    }
    for loss, expected in found.items():
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, rel=1e-5)


def logits_of(n=6):
    return torch.zeros(2, n, 3)


ONE, X = LABELS[:1], features()
UNFIT = {
    "a label for six images": lambda: losses.batch_hard_triplet(X, ONE),
    "labels in a column": lambda: losses.batch_hard_triplet(X, LABELS[:, None]),
    "no image": lambda: losses.batch_hard_triplet(X[:0], LABELS[:0]),
    "one row": lambda: losses.pairwise_distance(X[0]),
    "rows of another width": lambda: losses.cosine_distance(X, X[:, :1]),
    "a row for six": lambda: losses.cosine_distance(X, X[:1]),
    "means": lambda: losses.class_means(X, ONE),
    "class alignment": lambda: losses.class_alignment(X, X, ONE),
    "class alignment, one of g": lambda: losses.class_alignment(X, X[:1], LABELS),
    "sample alignment": lambda: losses.sample_alignment(X, X[:1]),
    "sample alignment of nothing": lambda: losses.sample_alignment(X[:0], X[:0]),
    "batch alignment": lambda: losses.batch_alignment(X, X[:2]),
    "labels that divide the logits": lambda: losses.part_cross_entropy(logits_of(), LABELS[:2]),
    "logits of one part, flat": lambda: losses.part_cross_entropy(logits_of()[0], LABELS),
    "targets of one image": lambda: losses.supervision_mse([(X, X), (X, X[:1])]),
    "targets of one column": lambda: losses.supervision_mse([(X, X[:, :1])]),
    "h + g": lambda: losses.triplet_term(
        SimpleNamespace(embedding=X, aux=SimpleNamespace(embedding=X[:1])),
        LABELS,
        LossConfig(alignment="sample-triplet"),
    ),
    "tasks of different parts": lambda: losses.identity_terms(
        SimpleNamespace(logits=logits_of(), aux=SimpleNamespace(logits=logits_of()[:1])), LABELS, "sum"
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_shapes_that_disagree_are_refused(case):
    with pytest.raises(TrainingError, match=r"shapes do not fit: .*\[\d"):
        UNFIT[case]()


def test_a_message_of_shapes_names_both_and_no_value_is_read():
    labels, of_six = (torch.empty(n, device="meta") for n in (2, 6))  # tensors without values
    losses.check_shapes(("logits", logits_of(), "K N C"), ("labels", of_six, "N"))
    with pytest.raises(TrainingError, match=r"logits \[K, N, C\] is \[2, 6, 3\], labels \[N\] is \[2\];"):
        losses.check_shapes(("logits", logits_of(), "K N C"), ("labels", labels, "N"))


def test_unknown_words_list_the_choices():
    with pytest.raises(UnknownNameError, match="cosine, euclidean, squared-euclidean"):
        losses.batch_hard_triplet(features(), LABELS, metric="manhattan")
    with pytest.raises(UnknownNameError, match="violating"):
        losses.batch_hard_triplet(features(), LABELS, average="hard")
    with pytest.raises(UnknownNameError, match="class"):
        LossConfig(alignment="claas")


# ---- alignment --------------------------------------------------------------------------------------------------


def test_alignments_equal_the_loops():
    h, g = features(seed=1), features(seed=2)
    assert losses.class_alignment(h, g, LABELS).item() == pytest.approx(slow_class_alignment(h, g, LABELS))
    sample = sum(slow_distance(a, b, "cosine") for a, b in zip(h, g)) / len(h)
    assert losses.sample_alignment(h, g).item() == pytest.approx(sample)
    batch = slow_distance(slow_mean(list(h)), slow_mean(list(g)), "cosine")
    assert losses.batch_alignment(h, g).item() == pytest.approx(batch)


def test_alignments_by_hand():
    # identity 0: means (1, 1) and (1, 1), distance 0; identity 1: (1, 0) and (0, 2), distance 1
    h = torch.tensor([[2.0, 0], [0, 2], [1, 0]])
    g = torch.tensor([[0.0, 2], [2, 0], [0, 2]])
    labels = torch.tensor([0, 0, 1])
    assert losses.class_alignment(h, g, labels).item() == pytest.approx(0.5)  # (0 + 1) / 2
    assert losses.sample_alignment(h, g).item() == pytest.approx(1.0)  # all three are orthogonal
    # batch means (1, 2/3) and (2/3, 4/3): cosine (2/3 + 8/9) / (sqrt(13)/3 * sqrt(20)/3) = 14 / sqrt(260)
    assert losses.batch_alignment(h, g).item() == pytest.approx(1 - 14 / math.sqrt(260))


def test_alignment_gradients_reach_both_sides():
    h, g = features(seed=1).requires_grad_(), features(seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda h, g: losses.class_alignment(h, g, LABELS), (h, g))
    assert torch.autograd.gradcheck(losses.sample_alignment, (h, g))
    assert torch.autograd.gradcheck(losses.batch_alignment, (h, g))
    losses.class_alignment(h, g, LABELS).backward()
    assert h.grad.abs().sum() > 0 and g.grad.abs().sum() > 0


def test_class_alignment_with_one_identity_is_the_batch_alignment():
    h, g = features(seed=1), features(seed=2)
    one = losses.class_alignment(h, g, torch.full((6,), 3))
    assert one.item() == pytest.approx(losses.batch_alignment(h, g).item())


@pytest.mark.parametrize(
    "labels",
    [
        [5, 5, 1, 1, 9, 9],
        [5, 1, 9, 9, 1, 5],
        [3, 3, 3, 3, 3, 3],
        [4, 0, 2, 5, 1, 3],
        [7, 7, 7, 0, 7, 7],
        [-1, 2**40, -1, 0, 0, 0],
    ],
    ids=["runs", "mixed", "one identity", "singles", "one single", "any numbers"],
)
def test_labels_in_any_order_and_of_any_sizes(labels):
    """Batches of P runs of K images, and every other batch: values and gradients of the loops."""
    labels, h, g = torch.tensor(labels), features(seed=1).requires_grad_(), features(seed=2)
    means = losses.class_means(h, labels)
    for i, label in enumerate(labels):
        torch.testing.assert_close(means[i], slow_mean([x for x, other in zip(h, labels) if other == label]))
    loss = losses.class_alignment(h, g, labels)
    assert loss.item() == pytest.approx(slow_class_alignment(h, g, labels))
    each = [[h[labels == s].mean(0), g[labels == s].mean(0)] for s in labels.unique()]
    slow = sum(1 - a @ b / (a.norm() * b.norm()) for a, b in each) / len(each)
    gradient, expected = (torch.autograd.grad(x, h)[0] for x in (loss, slow))
    torch.testing.assert_close(gradient, expected)
    for metric in losses.METRICS:
        triplet = losses.batch_hard_triplet(h, labels, 0.4, metric)
        assert triplet.item() == pytest.approx(slow_triplet(h, labels, 0.4, metric, "violating"), abs=1e-9)


def test_class_means_of_float32_are_float32():
    x = features(dtype=torch.float32)
    exact = losses.class_means(x.double(), LABELS)
    torch.testing.assert_close(losses.class_means(x, LABELS).double(), exact, rtol=1e-5, atol=1e-6)


def test_alignment_inside_autocast_is_computed_in_float32():
    h, g = features(seed=1, dtype=torch.float32), features(seed=2, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = losses.class_alignment(h, g, LABELS)
    assert inside.dtype == torch.float32 and inside.item() == losses.class_alignment(h, g, LABELS).item()


@pytest.mark.parametrize("metric", losses.METRICS)
@pytest.mark.parametrize("average", losses.AVERAGES)
def test_several_features_at_once_are_each_by_itself(metric, average):
    stacked = torch.stack([features(seed=s) for s in range(4)]).requires_grad_()
    together = losses.batch_hard_triplet(stacked, LABELS, 0.4, metric, average)
    alone = torch.stack([losses.batch_hard_triplet(x, LABELS, 0.4, metric, average) for x in stacked])
    torch.testing.assert_close(together, alone)
    gradients = [torch.autograd.grad(x.sum(), stacked)[0] for x in (together, alone)]
    torch.testing.assert_close(*gradients)


# ---- identification and supervision --------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_part_cross_entropy_equals_the_loops(parts, reduction):
    logits = torch.randn(parts, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = losses.part_cross_entropy(logits, LABELS, reduction)
    assert loss.item() == pytest.approx(slow_cross_entropy(logits, LABELS, reduction))
    assert torch.autograd.gradcheck(lambda x: losses.part_cross_entropy(x, LABELS, reduction), logits)


def test_part_cross_entropy_by_hand():
    # equal logits over 4 classes cost log 4 a part
    loss = losses.part_cross_entropy(torch.zeros(3, 2, 4), torch.tensor([0, 3]))
    assert loss.item() == pytest.approx(3 * math.log(4))


def test_supervision_mse():
    pairs = [(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])), (torch.ones(1, 2), torch.zeros(1, 2))]
    assert losses.supervision_mse(pairs).item() == pytest.approx((1 + 4) / 2 + 1)
    assert losses.supervision_mse([]).item() == 0
    a, b = features(seed=1).requires_grad_(), features(seed=2).requires_grad_()
    slow = sum((x - y) ** 2 for r, s in zip(a.tolist(), b.tolist()) for x, y in zip(r, s)) / a.numel()
    assert losses.supervision_mse([(a, b)]).item() == pytest.approx(slow)
    assert torch.autograd.gradcheck(lambda a, b: losses.supervision_mse([(a, b)]), (a, b))
    losses.supervision_mse([(a, b)], detach_targets=True).backward()
    assert a.grad is not None and b.grad is None


# ---- the total ------------------------------------------------------------------------------------------------------


def output(seed, aux=None, **fields):
    h = features(seed=seed).requires_grad_()
    logits = torch.randn(3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(
        embedding=h, logits=logits, aux=aux, **({"triplet_features": [], "supervision": []} | fields)
    )


def test_total_of_mpn_is_equation_10():
    aux = output(1)
    out = output(0, aux)
    total, terms = total_loss(out, LABELS, LossConfig(alignment="class", alignment_weight=0.5))
    expected = (
        slow_cross_entropy(out.logits, LABELS, "sum")
        + slow_cross_entropy(aux.logits, LABELS, "sum")
        + slow_triplet(out.embedding, LABELS, 0.2, "cosine", "violating")
        + 0.5 * slow_class_alignment(out.embedding, aux.embedding, LABELS)
    )
    assert total.item() == pytest.approx(expected)
    assert list(terms) == ["identity", "identity_aux", "triplet", "alignment"]
    assert terms["alignment"].item() == pytest.approx(slow_class_alignment(out.embedding, aux.embedding, LABELS))
    assert total.requires_grad and not any(t.requires_grad for t in terms.values())


@pytest.mark.parametrize("identity", ["sum", "mean"])
def test_identification_is_summed_or_averaged_over_the_parts_of_each_task(identity):
    out = output(0, output(1))
    total, terms = total_loss(out, LABELS, LossConfig(identity=identity, triplet=None, alignment=None))
    expected = [slow_cross_entropy(task.logits, LABELS, identity) for task in (out, out.aux)]
    assert [terms[name].tolist() for name in ("identity", "identity_aux")] == pytest.approx(expected)
    assert total.item() == pytest.approx(sum(expected))


@pytest.mark.parametrize("alignment", ["class", "sample", "batch"])
def test_a_factor_multiplies_the_weight_of_the_alignment(alignment):
    """With 0 total and gradients are those without alignment, with 1 the usual ones; a tensor means the same."""
    out = output(0, output(1))
    config = LossConfig(alignment=alignment, alignment_weight=40.0)
    without = total_loss(out, LABELS, LossConfig(alignment=None))[0]
    for factor in (0.0, 0.25, 1.0, torch.tensor(0.0), torch.tensor(0.25)):
        total, terms = total_loss(out, LABELS, config, alignment_factor=factor)
        assert total.item() == pytest.approx((without + 40 * float(factor) * terms["alignment"]).item())
    assert total_loss(out, LABELS, config)[0].item() == total_loss(out, LABELS, config, 0.0, 1.0)[0].item()
    nothing = total_loss(out, LABELS, config, alignment_factor=0.0)[0]
    ours, theirs = (torch.autograd.grad(t, out.embedding, retain_graph=True)[0] for t in (nothing, without))
    assert nothing.item() == without.item() and torch.equal(ours, theirs)


@pytest.mark.parametrize("alignment", [None, "class", "sample", "batch", "sample-triplet"])
def test_alignment_variants(alignment):
    aux = output(1)
    out = output(0, aux)
    terms = total_loss(out, LABELS, LossConfig(alignment=alignment))[1]
    h, g = out.embedding, aux.embedding
    seen = h + g if alignment == "sample-triplet" else h
    assert terms["triplet"].item() == pytest.approx(slow_triplet(seen, LABELS, 0.2, "cosine", "violating"))
    expected = {
        "class": losses.class_alignment(h, g, LABELS),
        "sample": losses.sample_alignment(h, g),
        "batch": losses.batch_alignment(h, g),
    }.get(alignment)
    assert (terms.get("alignment") is None) == (expected is None)
    if expected is not None:
        assert terms["alignment"].item() == expected.item()


def test_total_of_cgpn_is_its_equation_4():
    triplets = [features(seed=s) for s in (4, 5)]
    pairs = [(features(seed=6), features(seed=7))]
    out = output(0, triplet_features=triplets, supervision=pairs)
    config = LossConfig(triplet="features", margin=1.2, metric="euclidean", supervision_weight=0.1)
    total, terms = total_loss(out, LABELS, config)
    triplet = sum(slow_triplet(x, LABELS, 1.2, "euclidean", "all") for x in triplets)
    expected = slow_cross_entropy(out.logits, LABELS, "sum") + triplet + 0.1 * losses.supervision_mse(pairs).item()
    assert total.item() == pytest.approx(expected)
    assert set(terms) == {"identity", "triplet", "supervision"}


@pytest.mark.parametrize("weight", [0.5, 2])
def test_a_weight_multiplies_its_term(weight):
    out = output(0, triplet_features=[features(d=3, seed=4)], supervision=[(features(seed=5), features(seed=6))])
    out.aux = output(1)
    plain = {"margin": 1.2, "triplet": "features", "alignment": "sample"}
    total, terms = total_loss(out, LABELS, LossConfig(**plain))
    for name in ("identity", "triplet", "alignment", "supervision"):
        heavier, same = total_loss(out, LABELS, LossConfig(**plain, **{f"{name}_weight": weight}))
        part = sum(term for key, term in terms.items() if key.startswith(name))
        assert same.keys() == terms.keys() and all(same[key] == terms[key] for key in terms)
        assert (heavier - total).item() == pytest.approx((weight - 1) * part.item())


def test_features_and_pairs_of_different_widths_are_summed():
    out = output(0, triplet_features=[features(d=3, seed=4), features(d=2, seed=5), features(d=3, seed=6)])
    config = LossConfig(triplet="features", margin=1.2, metric="euclidean")
    slow = sum(slow_triplet(x, LABELS, 1.2, "euclidean", "all") for x in out.triplet_features)
    assert total_loss(out, LABELS, config)[1]["triplet"].item() == pytest.approx(slow)
    pairs = [(features(d=d, seed=d), features(d=d, seed=9)) for d in (2, 4, 2)]
    slow = sum((a - b).square().mean().item() for a, b in pairs)
    assert losses.supervision_mse(pairs).item() == pytest.approx(slow)


def test_whole_numbers_are_features_too():
    x = torch.tensor([[0], [1], [3], [5]])
    assert losses.batch_hard_triplet(x, torch.tensor([0, 0, 1, 1]), 1.0, "euclidean", "all").item() == 0.25


def test_unasked_every_weight_is_one_but_that_of_soft_sharing():
    weights = {field.name: field.default for field in fields(LossConfig) if field.name.endswith("_weight")}
    assert weights.pop("soft_sharing_weight") == 0 and list(weights.values()) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "setting",
    [{"margin": -0.1}, {"margin": float("inf")}, {"triplet_weight": float("nan")}, {"alignment_weight": "much"}],
)
def test_margin_and_weights_are_finite_and_not_negative(setting):
    assert LossConfig(margin=0, triplet_weight=0).margin == 0
    with pytest.raises(TrainingError, match=next(iter(setting))):
        LossConfig(**setting)


def test_soft_sharing_weight_and_cross_entropy_alone():
    out = output(0)
    total, terms = total_loss(out, LABELS, LossConfig(triplet=None, soft_sharing_weight=10), torch.tensor(0.25))
    assert total.item() == pytest.approx(slow_cross_entropy(out.logits, LABELS, "sum") + 2.5)
    assert terms["soft_sharing"].item() == 0.25
    unasked = total_loss(out, LABELS, LossConfig(triplet=None, soft_sharing_weight=10))[1]
    assert unasked["soft_sharing"].item() == 0
    assert list(total_loss(out, LABELS, LossConfig(triplet=None))[1]) == ["identity"]


@pytest.mark.parametrize("alignment", ["class", "sample-triplet"])
def test_alignment_without_auxiliary_output_is_an_error(alignment):
    with pytest.raises(TrainingError, match="auxiliary"):
        total_loss(output(0), LABELS, LossConfig(alignment=alignment))


def test_docstring_examples():
    import doctest

    assert doctest.testmod(losses).failed == 0
