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

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reidkit.evaluation.protocol import GroundTruth
from reidkit.evaluation.scores import centre, product_strips, rows, sampled, squared_norms, working_dtype

PAYS_FROM = 2**30  # multiplications; below, float64 costs half a second at most
LARGEST = 1e36  # squared length; float32 ends at 3e38
UNDERFLOW = 1e-27  # D products below 1e-38, and still a small part of it
ROUNDING = 2.0**-24  # half a unit in the last place of float32
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
    screen, undecided = Screen(qf, gf, block), []
    for start, strip in product_strips(qf, gf, "euclidean", screen.squared, screen.origin, block):
        scores = strip.numpy()  # [b, G]
        matches = [screen.match(query, truth.of(query)[0]) for query in range(start, start + len(scores))]
        for row, match in zip(scores, matches):
            screen.measure(row, match)
        for row, match in zip(scores, matches):
            row[truth.of(match.query)[1]] = -np.inf  # ignored: below every image that counts
            ranks = screen.ranks(row, match)
            if ranks is None:
                undecided.append(match.query)
            else:
                yield match.query, ranks
    return undecided


class Match(NamedTuple):
    """The n true matches of one query: gallery rows, squared distances and scores in float64, all [n]."""

    query: int
    images: np.ndarray
    squared: np.ndarray
    scores: np.ndarray


class Screen:
    """Features, their lengths seen from the centre, and what part of its unit the error of a score has at most."""

    def __init__(self, qf, gf, block: int) -> None:
        self.qf, self.gf, self.origin = qf, gf, near_centre(gf)
        place = (block, "cpu", self.origin)
        self.own = squared_norms(qf, "query features", torch.float64, *place).numpy()  # [Q] |q|^2
        self.squared = squared_norms(gf, "gallery features", torch.float32, *place)  # [G] |g|^2
        self.length = self.squared.sqrt().numpy()  # [G]
        self.longest = self.length.max()
        self.part = ROUNDING * (8 + gf.shape[1] ** 0.5 / 8)  # the floor; `measure` raises it

    def unit(self, query: int, length: np.ndarray) -> np.ndarray:
        """[n] |g| (|q| + |g|); a trace of |q|^2 for float64's roundings, and what float32 may take for zero."""
        own = float(self.own[query])
        return length * (length + own**0.5) + (1e-8 * own + UNDERFLOW)

    def match(self, query: int, images: np.ndarray) -> Match:
        """The true matches of a query, by differences."""
        squared = self.distances(query, images)
        return Match(query, images, squared, (self.own[query] - squared) / 2)

    def distances(self, query: int, images: np.ndarray) -> np.ndarray:
        """float64 [n] squared distances of a query to some rows of the gallery; equal for equal rows."""
        vector = rows(self.qf, query, query + 1, torch.float64, "cpu")  # [1, D]
        gf = self.gf
        chosen = gf.index_select(0, torch.from_numpy(images).to(gf.device)) if isinstance(gf, Tensor) else gf[images]
        gallery = rows(chosen, 0, len(images), torch.float32, "cpu").double()  # [n, D], a copy
        return gallery.sub_(vector).square_().sum(1).numpy()

    def measure(self, row: np.ndarray, match: Match) -> None:
        """Learn from the scores [G] of a query how far float32 strays."""
        lost = np.abs(row[match.images] - match.scores) / self.unit(match.query, self.length[match.images])
        self.part = max(self.part, 4 * float(lost.max(initial=0)))

    def ranks(self, row: np.ndarray, match: Match) -> np.ndarray | None:
        """Ascending ranks [n] of the matches from float32 scores [G]; None where too many images are near to them."""
        if not len(match.images):
            return match.images
        worst = float(match.scores.min())
        margin = self.part * float(self.unit(match.query, self.longest)) + 1e-6 * abs(worst)
        kept = np.flatnonzero(row >= worst - margin)  # [m]: no other image can beat a match
        margin = self.part * self.unit(match.query, self.length[kept])  # [m] float32; their own roundings are in it
        low, high = row[kept] - margin, row[kept] + margin
        ranks, near = np.empty(len(match.images), np.int64), {}
        for i, score in enumerate(match.scores.tolist()):
            ranks[i] = 1 + np.count_nonzero(low > score)
            if np.count_nonzero(high >= score) > ranks[i]:  # others beside the match itself
                near[i] = kept[(high >= score) & (low <= score)]
        if near:
            images = np.unique(np.concatenate([*near.values()]))
            if len(images) > max(NEAR, len(row) // NEAR):
                return None
            squared = self.distances(match.query, images)
            for i, others in near.items():
                theirs = squared[np.searchsorted(images, others)]
                before = others < match.images[i]
                ranks[i] += np.count_nonzero(np.where(before, theirs <= match.squared[i], theirs < match.squared[i]))
        return np.sort(ranks)
