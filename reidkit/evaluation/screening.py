"""Euclidean ranks at the price of float32 products: float64 only for what they cannot decide.

The scores of `scores` are computed in float32, around the same centre. What float32 loses of one, q . g - |g|^2 / 2,
is a small part of its *unit* |g| (|q| + |g|). How small is measured: the distances of all true matches (some fifteen
a query) are computed again by differences in float64. Four times the largest part found among them is taken for the
margin, or a floor that sums of D random roundings do not reach. With the margin every image is clearly better than a
match, clearly worse, or too near to say; the near ones, about one in two matches, are compared by differences in
float64. So ranks are those of exact distances, ties included.

Where float32 can say little (two far groups, say), a query has more near images than it is worth to look at; it is
left *undecided*, for products in float64.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.scores import centre, product_strips, rows, sampled, squared_norms, working_dtype

PAYS_FROM = 2**30  # multiplications; below, float64 costs half a second at most
LARGEST = 1e36  # squared length; float32 ends at 3e38
UNDERFLOW = 1e-27  # D products below 1e-38, and still a small part of it
ROUNDING = 2.0**-24  # half a unit in the last place of float32
PAIRS = 64  # differences in memory at one time
NEAR = 64  # so many images, or one in so many of the gallery, may be near to the matches of a query


def pays(qf: Tensor | np.ndarray, gf: Tensor | np.ndarray) -> bool:
    """Is screening worth its trouble for features [Q, D] and [G, D], and can float32 hold their squares?"""
    large = len(qf) * len(gf) * gf.shape[1] >= PAYS_FROM
    return large and working_dtype(qf, gf) == torch.float32 and all(most_square(m) < LARGEST for m in (qf, gf))


def most_square(matrix: Tensor | np.ndarray, block: int = 2048) -> float:
    """What no squared distance within [N, D] exceeds; NaN or infinite where a number is."""
    extremes = [rows(matrix, i, i + block, torch.float32, "cpu").aminmax() for i in range(0, len(matrix), block)]
    largest = torch.stack([number.double().abs() for pair in extremes for number in pair]).max()
    return 4 * matrix.shape[1] * float(largest) ** 2


def near_centre(gf: Tensor | np.ndarray) -> Tensor | None:
    """[D] float32 `centre` of the gallery [G, D]; None where zero serves as well, amid the rows as it is."""
    picked = sampled(gf, "cpu")
    middle = centre(picked)
    spread = (picked - middle).square().sum(1).median()
    return None if middle.square().sum() < spread else middle.float()


@torch.no_grad()
def screened_ranks(qf, gf, truth: GroundTruth, block: int = 2048) -> Generator[tuple[int, np.ndarray], None, list[int]]:
    """Yield (query, ascending ranks [n] of its matches) on the CPU; returns the queries left undecided.

    qf [Q, D], gf [G, D]: features that `pays` accepts. Memory: a strip of scores and little beside it.
    """
    screen, undecided = Screen(qf, gf), []
    for start, strip in product_strips(qf, gf, "euclidean", screen.squared, screen.origin, block):
        scores, positives = strip.numpy(), []  # [b, G]
        for query, row in enumerate(scores, start):
            images, ignored = truth.of(query)
            positives.append(images)
            row[ignored] = -np.inf  # below every image that counts
        decided = []
        for row, match in zip(scores, screen.matches(start, scores, positives)):
            sifted = screen.sift(row, match)
            if sifted is None:
                undecided.append(match.query)
            else:
                decided.append(sifted)
        yield from screen.settle(decided)
    return undecided


class Match(NamedTuple):
    """The n true matches of one query: gallery rows, squared distances and scores in float64, all [n]."""

    query: int
    images: np.ndarray
    squared: np.ndarray
    scores: np.ndarray


class Sifted(NamedTuple):
    """What float32 says of a query: `ranks` [n] of its matches among the clear images, and the rows `near` to them."""

    match: Match
    ranks: np.ndarray
    near: np.ndarray


class Screen:
    """Features, their lengths seen from the centre, and what part of its unit the error of a score has at most."""

    def __init__(self, qf, gf) -> None:
        self.qf, self.gf, self.origin = qf, gf, near_centre(gf)
        self.own = squared_norms(qf, "query features", torch.float64, "cpu", self.origin).numpy()  # [Q] |q|^2
        self.squared = squared_norms(gf, "gallery features", torch.float32, "cpu", self.origin)  # [G] |g|^2
        self.length = self.squared.sqrt().numpy()  # [G]
        self.longest = self.length.max()
        self.part = ROUNDING * (8 + gf.shape[1] ** 0.5 / 8)  # the floor; `matches` raises it

    def matches(self, start: int, scores: np.ndarray, positives: list[np.ndarray]) -> list[Match]:
        """The true matches of the queries from `start` on, by differences; and how far float32 strays is learnt.

        scores: [b, G] of these queries. Those of the matches become -inf: from here on their distances count.
        """
        sizes = [len(images) for images in positives]
        queries, images = np.arange(start, start + len(sizes)), np.concatenate(positives)
        query = np.repeat(queries, sizes)  # [m], of each match
        squared = self.distances(query, images)
        exact = (self.own[query] - squared) / 2
        lost = np.abs(scores[query - start, images] - exact) / unit(self.own[query], self.length[images])
        self.part = max(self.part, 4 * float(lost.max(initial=0)))
        scores[query - start, images] = -np.inf
        columns = (np.split(column, np.cumsum(sizes)[:-1]) for column in (images, squared, exact))
        return [Match(*match) for match in zip(queries.tolist(), *columns)]

    def distances(self, queries: np.ndarray, images: np.ndarray) -> np.ndarray:
        """float64 [n] squared distances of n pairs, a query and a row of the gallery; equal for equal rows."""
        squared = np.empty(len(images))
        for pairs in (slice(i, i + PAIRS) for i in range(0, len(images), PAIRS)):
            difference = picked(self.gf, images[pairs]).sub_(picked(self.qf, queries[pairs]))
            squared[pairs] = difference.square_().sum(1)
        return squared

    def sift(self, row: np.ndarray, match: Match) -> Sifted | None:
        """What the float32 scores [G] of the other images say; None where too many are near to the matches."""
        if not len(match.images):
            return Sifted(match, match.images, match.images)
        own, order = float(self.own[match.query]), np.argsort(match.scores)
        scores = match.scores[order]  # [n], the worst first
        margin = self.part * float(unit(own, self.longest)) + 1e-6 * abs(float(scores[0]))
        kept = np.flatnonzero(row >= scores[0] - margin)  # [m]: no other image can beat a match
        margin, values = self.part * unit(own, self.length[kept]), row[kept]  # [m] float32, roundings are in the margin
        beaten = np.searchsorted(scores, values)  # [m]: so many matches are worse than the image
        around = np.concatenate([[-np.inf], scores, [np.inf]]).astype(np.float32)
        near = (values - around[beaten] <= margin) | (around[beaten + 1] - values <= margin)  # [m]
        if np.count_nonzero(near) > max(NEAR, len(row) // NEAR):
            return None
        at_most = np.bincount(beaten[~near], minlength=len(scores) + 1).cumsum()  # clear images that beat so many
        ranks = np.empty_like(match.images)
        ranks[order] = 1 + at_most[-1] - at_most[:-1]
        return Sifted(match, ranks, kept[near])

    def settle(self, sifted: list[Sifted]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (query, ascending ranks [n] of its matches): what is near is compared by differences."""
        if not sifted:
            return
        sizes = [len(found.near) for found in sifted]
        queries = np.repeat([found.match.query for found in sifted], sizes)
        squared = self.distances(queries, np.concatenate([found.near for found in sifted]))
        for (match, ranks, near), theirs in zip(sifted, np.split(squared, np.cumsum(sizes)[:-1])):
            images, squared = np.concatenate([match.images, near]), np.concatenate([match.squared, theirs])  # [k]
            own, place = match.squared[:, None], match.images[:, None]  # [n, 1]
            better = (squared < own) | (squared == own) & (images < place)  # [n, k]
            yield match.query, np.sort(ranks + better.sum(1))


def unit(own: Any, length: Any) -> Any:
    """|g| (|q| + |g|), given own |q|^2 and length |g|; a trace more for float64's roundings and float32's underflow."""
    return length * (length + own**0.5) + (1e-8 * own + UNDERFLOW)


def picked(matrix: Tensor | np.ndarray, index: np.ndarray) -> Tensor:
    """float64 [n, D], a copy of some rows."""
    if isinstance(matrix, Tensor):
        chosen = matrix.index_select(0, torch.from_numpy(index).to(matrix.device))
    else:
        chosen = matrix[index]
    return rows(chosen, 0, len(index), torch.float32, "cpu").double()
