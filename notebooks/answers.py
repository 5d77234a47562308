"""What the exercises of the notebooks expect. Spoilers: try first.

An expectation is a value, or a function answer -> bool. It is worked out only when somebody has
tried, from the kit's own pieces where it can be, and from what the exercise's notebook hands over
where it must.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Exercise:
    """What an exercise expects: a function of what its notebook computed, called only when somebody
    has tried."""

    expected: Callable[..., Any]
    hint: str
    tolerance: float


EXERCISES: dict[str, Exercise] = {}  # "03.2": notebook 03, exercise 2


def _expects(name: str, hint: str, tolerance: float = 1e-6) -> Callable:
    def remember(function: Callable) -> Callable:
        EXERCISES[name] = Exercise(function, hint, tolerance)
        return function

    return remember


def _random(*shape: int) -> Any:
    """A tensor that is the same at each call."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _same(function: Callable, expected: Any, *arguments: Any) -> bool:
    """Whether a function of tensors, or of arrays, gives this tensor, up to rounding, in whatever
    number type."""
    import torch

    with torch.no_grad():
        try:
            found = torch.as_tensor(function(*arguments))
        except (AttributeError, TypeError, RuntimeError):
            arrays = [a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments]
            found = torch.as_tensor(function(*arrays))
    found = found.to(expected.dtype)
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)


def _of_arrays(function: Callable, *arguments: Any) -> float:
    """What a function of arrays gives, or of tensors, where it is written for those."""
    import torch

    try:
        return float(function(*arguments))
    except (AttributeError, TypeError, RuntimeError):
        tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        return float(function(*tensors))


# 00 start here


@_expects("00.1", "mean of 1/2 and 2/4")
def _():
    return (1 / 2 + 2 / 4) / 2


@_expects("00.2", "the other three come last", tolerance=1e-4)
def _():
    return np.mean([1 / 1, 2 / 98, 3 / 99, 4 / 100])


# 01 data


@_expects("01.1", "a stripe is 1/8 high")
def _():
    return 0.05 * 8


@_expects("01.2", "whole batches only")
def _():
    from reidkit.data.sets.published import PUBLISHED

    return PUBLISHED["market1501"]["train"].images * 5 // (6 * 8)


@_expects("01.3", "junk (-1) for every query; the same pid under the same camid")
def _():
    from reidkit.evaluation.protocol import GroundTruth

    rng = np.random.default_rng(0)
    pids, cams = rng.integers(-1, 6, 300), rng.integers(1, 5, 300)
    q_pids, q_cams = rng.integers(1, 6, 50), rng.integers(1, 5, 50)
    truth = GroundTruth(q_pids, pids, q_cams, cams)
    return lambda f: all(
        np.array_equal(np.flatnonzero(f(pids, cams, p, c)), np.sort(truth.of(i)[1]))
        for i, (p, c) in enumerate(zip(q_pids, q_cams))
    )


# 02 priors


@_expects("02.1", "at least 0.5; then each set cell sets its right neighbour too")
def _(share):
    body = share >= 0.5
    return body | np.pad(body, ((0, 0), (1, 0)))[:, :-1]


@_expects("02.2", "first occupied row / 4, (last + 1) / 4")
def _(share):
    rows = np.flatnonzero((share >= 0.5).any(1))
    return rows[0] / len(share), (rows[-1] + 1) / len(share)


@_expects("02.3", "prior_steps(..., threshold=0.9).rows")
def _(parsing, segmentation, grid):
    from reidkit.priors.coarse import prior_steps

    steps = prior_steps(parsing, segmentation, grid, threshold=0.9)
    return round((steps.bottom - steps.top) * grid[0])


# 03 MPN


@_expects("03.1", "two convs with bias, two BN of two numbers a channel")
def _():
    import torch

    from reidkit.models import create_model

    with torch.device("meta"):
        return (
            create_model("mpn", 751).count_parameters()
            - create_model("mpn-no-ca", 751).count_parameters()
        )


@_expects("03.2", "a cosine distance is at most 2")
def _(points, people):
    import torch

    from reidkit.losses import pairwise_distance

    d, people = pairwise_distance(points), torch.tensor(people)
    same = people[:, None] == people
    # farthest positive - nearest negative
    gap = d.masked_fill(~same, -1).amax(1) - d.masked_fill(same, 9).amin(1)
    return lambda margin: bool((gap + margin > 0).all())


@_expects("03.3", "distance(h.mean(0), g.mean(0))")
def _():
    from reidkit.losses import batch_alignment

    h, g = _random(2, 8, 5)
    return lambda f: _same(f, batch_alignment(h, g), h, g)


# 04 training and evaluation


@_expects("04.1", "((0/1 + 1/2)/2 + (1/2 + 2/3)/2) / 2", tolerance=1e-3)
def _():
    from reidkit.evaluation import average_precision

    return average_precision(np.array([2, 3]), "trapezoid")


@_expects("04.2", "a mean of True and False")
def _():
    ranks = np.array([1, 1, 2, 5, 6, 11, 1, 40])
    return lambda f: all(
        abs(_of_arrays(f, ranks, k) - share / 8) < 1e-6
        for k, share in ((1, 3), (5, 5), (10, 6), (20, 7))
    )


@_expects("04.3", "0.01, 0.001, 0.0001, ...: which epochs have which?")
def _():
    from reidkit.training import recipe_for

    paper = recipe_for("mpn-no-ca", "paper")
    return sum(paper.lr * paper.lr_factor(e, 1) < 5e-4 for e in range(paper.epochs))


# 05 MPN's tables


@_expects("05.1", "mean 2, standard deviation 1, n = 3", tolerance=0.01)
def _():
    return 2 - 4.303 * 1 / np.sqrt(3)


@_expects("05.2", "the next multiple of 9 above 24")
def _():
    import torch

    from reidkit.priors import part_features

    return part_features(torch.zeros(1, 1, 24, 1), num_parts=9, mode="uniform").shape[3]


@_expects("05.3", "look at the table of components")
def _():
    return "fsa"


# 06 real tools


@_expects("06.1", "it is the bag")
def _():
    from reidkit.priors.labels import label_table

    return int(label_table("atr")[16])


@_expects("06.2", "count from 0")
def _():
    from reidkit.priors.labels import LEG_LABELS, label_table

    return [i for i, label in enumerate(label_table("pascal")) if label in LEG_LABELS]


@_expects("06.3", "head counts as head; lower body and shoes as legs; upper body as neither")
def _():
    from reidkit.priors.labels import HEAD_LABELS, LEG_LABELS

    def usable(table):
        """Whether a translation of (background, head, upper body, lower body, shoes) serves steps 1
        and 2."""
        background, head, upper, lower, shoes = table
        plain = set(range(1, 20)) - set(HEAD_LABELS) - set(LEG_LABELS)
        return (
            background == 0
            and head in HEAD_LABELS
            and upper in plain
            and {lower, shoes} <= set(LEG_LABELS)
        )

    return usable


# 07 and 08 CGPN


@_expects("07.1", "runs of 3, of 4 and of 5 stripes")
def _():
    return sum(6 - size + 1 for size in range(3, 6))


@_expects("07.2", "three global ones, and 2 + 3 + 4 stripes")
def _():
    return 256 * (3 + 2 + 3 + 4)


@_expects("07.3", "torch.stack([...], dim=1) of two calls of gmp")
def _():
    import torch

    maps = _random(4, 6, 10, 3)
    halves = [half.amax((2, 3)) for half in maps.chunk(2, dim=2)]
    return lambda f: _same(f, torch.stack(halves, dim=1), maps)


@_expects("08.1", "all distances are 0; what is left of [0 - 0 + margin], for each feature?")
def _():
    return 12 * 1.2


@_expects("08.2", "images.flip(3) mirrors; embed both, take the mean")
def _(network, images):
    import torch

    with torch.no_grad():
        expected = (network.embed(images) + network.embed(images.flip(3))) / 2
    return lambda f: _same(f, expected, network, images)


@_expects("08.3", "a ratio of two entries of norms['start']", tolerance=1e-3)
def _(norms):
    return norms.loc["MSE, Eq. 3", "start"] / norms.loc["triplet, Eq. 2", "start"]


# 09 CGPN's tables


@_expects("09.1", "t times the standard deviation over sqrt(3)", tolerance=0.01)
def _():
    return 4.303 * 1 / np.sqrt(3)


@_expects("09.2", "83.6 minus ...", tolerance=0.01)
def _():
    from reidkit.reporting import report

    table = report.paper_table("cgpn-table3").query(
        "metric == 'mAP' and dataset == 'cuhk03-labeled'"
    )
    value = table.set_index("variant")["value"]
    return value["cgpn"] - value["cgpn-1"]


@_expects("09.3", "see the anatomy table, or results/paper/cgpn-table4.csv")
def _():
    from reidkit.reporting import report

    row = report.paper_table("cgpn-table4").query("variant == 'cgpn-b13'").row.iloc[0]
    return lambda answer: _label(answer) == _label(row)


def _label(row: str) -> str:
    """A row's label without its table, in one spelling."""
    words = row.lower().removeprefix("cgpn").strip().removeprefix("table 4:").replace("and", "&")
    return "".join(words.split())


# 10 attention


@_expects("10.1", "what share of the sum lies where?", tolerance=1e-4)
def _():
    return 0.054


@_expects("10.2", "sum(a b) / (|a| |b|)")
def _():
    m, n = _random(2, 9, 4).abs().double().numpy()
    expected = float((m * n).sum() / np.sqrt((m * m).sum() * (n * n).sum()))
    return lambda f: abs(_of_arrays(f, m, n) - expected) < 1e-4


@_expects("10.3", "multiply first, then sum over channels, then keep what is positive")
def _():
    F, gradient = _random(2, 2, 5, 4, 3)
    return lambda f: _same(f, (F * gradient).sum(1).relu(), F, gradient)


# 11 retrieval, 12 panels


@_expects("11.1", "(1/1 + 2/4) / 2", tolerance=1e-4)
def _():
    return (1 / 1 + 2 / 4) / 2


@_expects("11.2", "same person AND same camera, or junk (-1); distractors (0) stay")
def _():
    cases = {(5, 1, 5, 1): True, (5, 1, 5, 2): False, (5, 1, 6, 1): False, (5, 1, -1, 2): True}
    cases |= {(5, 1, 0, 1): False, (5, 1, 0, 2): False, (0, 1, 0, 2): False}  # 0: a distractor
    return lambda f: all(bool(f(*labels)) == ignored for labels, ignored in cases.items())


@_expects("11.3", "first_hit_rank from 2 to 5")
def _(per_query):
    return int(per_query.first_hit_rank.between(2, 5).sum())


@_expects("12.1", "blue, above the curve")
def _(comparator, pair):
    state = comparator.state(a=pair[0], b=pair[1], metric="mAP")
    return int((comparator.differences(state) > 0).sum())


@_expects("12.2", "the button 'only global'", tolerance=0.06)
def _(explorer):
    places = explorer.run.model.places
    return (
        100 * explorer.ranking(tuple(k for k, (_, group) in enumerate(places) if group is None)).mAP
    )


@_expects("12.3", "read the line under the picture", tolerance=0.001)
def _():
    from reidkit.panels.loss_playground import LossPlayground

    fresh = LossPlayground()
    said = {m / 20: fresh.status(fresh.state(margin=m / 20)) for m in range(31)}
    return next(margin for margin, words in said.items() if " 9 of 9 anchors violate" in words)


# 13 looking further


@_expects("13.1", "the square root of p (1 - p) / n, in points", tolerance=0.01)
def _():
    return 100 * np.sqrt(0.5 * 0.5 / 400)


@_expects("13.2", "results/paper/mpn-table9.csv, testing parameters", tolerance=0.01)
def _():
    from reidkit.reporting import report

    value = report.paper_table("mpn-table9").set_index(["variant", "metric"])["value"]
    return value["mgn", "testing parameters (M)"] / value["pcb", "testing parameters (M)"]


@_expects(
    "13.3", "the first sign is free; each of the other four agrees half of the time", tolerance=1e-3
)
def _():
    return 0.5**4
