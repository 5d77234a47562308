"""A ground truth of people for tests of attention scores."""

import numpy as np

from reidkit.data.sidewalk import PART_NAMES, Truth

THIRDS = ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1))


def plain_truth(parts, top, bottom):
    parts = np.asarray(parts, np.uint8)
    n = len(parts)
    blank = np.zeros_like(parts)
    return Truth(
        codes=blank,
        parts=parts,
        parsing=blank,
        segmentation=parts > 0,
        top=np.full(n, top),
        bottom=np.full(n, bottom),
        visibility=np.ones((n, len(PART_NAMES))),
    )
