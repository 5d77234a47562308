"""Ranks counted where the scores are: on a GPU no score comes back to the CPU, only the ranks of the true matches.

The rules are those of `ranking`: one plus the number of images that beat a match, and of two images with the same
score the one with the smaller gallery row comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reidkit.evaluation.protocol import GroundTruth

GATHERED_BYTES = 64 * 2**20  # rows of scores copied at one time, for matches that tie


@torch.no_grad()
def device_ranks(strips: Iterator[tuple[int, Tensor]], truth: GroundTruth) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (query, ascending ranks [n] of its matches) from strips (first query row, scores [b, G]) on any device.

    The scores of ignored images are overwritten. Beside the strip lie its comparisons, a byte a score, and where
    matches tie at most 64 MB of rows.
    """
    for start, scores in strips:
        lists = [truth.of(query) for query in range(start, start + len(scores))]
        matches = [positives for positives, _ in lists]
        scores[:, torch.from_numpy(truth.junk).to(scores.device)] = -torch.inf  # below every image that counts
        put_aside(scores, [ignored[len(truth.junk) :] for _, ignored in lists])
        ranks = strip_ranks(scores, padded(matches).to(scores.device)).cpu().numpy()  # [b, n]
        for row, positives in enumerate(matches):
            yield start + row, np.sort(ranks[row, : len(positives)])


def put_aside(scores: Tensor, ignored: list[np.ndarray]) -> None:
    """scores [b, G] of the images that each query ignores become -inf."""
    row = np.repeat(np.arange(len(ignored)), [len(images) for images in ignored])
    row, image = (torch.from_numpy(a).to(scores.device) for a in (row, np.concatenate(ignored)))
    scores[row, image] = -torch.inf


def padded(lists: list[np.ndarray]) -> Tensor:
    """[b, n] int64: lists of different lengths, filled up with -1."""
    table = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
    for row, entries in enumerate(lists):
        table[row, : len(entries)] = entries
    return torch.from_numpy(table)


def strip_ranks(scores: Tensor, positives: Tensor) -> Tensor:
    """[b, n] rank (from 1) of each match, meaningless where positives [b, n] is -1; scores [b, G].

    One sweep over the strip for the first match of every query, one for the second ... Nothing is sorted.
    """
    own = scores.gather(1, positives.clamp(min=0))  # [b, n]
    ranks, tied = torch.empty_like(positives), torch.zeros_like(positives, dtype=torch.bool)
    for j in range(positives.shape[1]):
        score = own[:, j : j + 1]  # [b, 1]
        better = (scores > score).sum(1)  # [b]
        ranks[:, j] = 1 + better
        tied[:, j] = (scores >= score).sum(1) > better + 1  # another image beside the match itself
    row, j = (tied & (positives >= 0)).nonzero(as_tuple=True)  # [t]
    image = torch.arange(scores.shape[1], device=scores.device)  # [G]
    step = max(1, GATHERED_BYTES // (scores.element_size() * scores.shape[1]))
    for r, c in zip(row.split(step), j.split(step)):
        equal = scores[r] == own[r, c, None]  # [t, G]
        ranks[r, c] += (equal & (image < positives[r, c, None])).sum(1)
    return ranks
