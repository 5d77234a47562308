"""Where a part should look: the rows of the body and the stripes of the person, by hand and on Sidewalk."""

import numpy as np
from attention_networks import SIZE
from attention_truth import THIRDS, plain_truth

from reidkit.attention.scores import body_part_regions, body_rows, stripe_regions
from reidkit.data.sidewalk import load_truth

NAN = float("nan")


def test_body_rows_by_hand():
    rows = body_rows([0.0, 0.25], [1.0, 1.0], THIRDS, 12)
    assert [np.flatnonzero(r).tolist() for r in rows[0]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [np.flatnonzero(r).tolist() for r in rows[1]] == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    cut = body_rows([-0.5], [1.0], THIRDS, 12)  # the crop begins a third down the body
    assert [len(np.flatnonzero(r)) for r in cut[0]] == [0, 6, 6]
    assert not body_rows([NAN], [NAN], THIRDS, 12).any()
    whole = body_rows([0.0], [1.0], ((0, 1), (0, 2 / 3)), 12)
    assert whole[0].sum(1).tolist() == [12, 8]


def test_regions_from_truth():
    parts = np.zeros((1, 12, 4))
    parts[0, :3, 1:3], parts[0, 3:7, 1:3], parts[0, 7:, 1:3] = 1, 2, 4  # head, torso, legs
    truth = plain_truth(parts, 0.0, 1.0)
    stripes = stripe_regions(truth, THIRDS, (12, 4))
    assert stripes.sum((2, 3)).tolist() == [[8, 8, 8]] and not stripes[..., 0].any()
    assert stripes[0, 0, :4, 1:3].all()
    regions, names = body_part_regions(truth, THIRDS, (12, 4))
    assert names == ["head", "torso", "legs"]
    np.testing.assert_array_equal(regions[0, 2], parts[0] == 4)
    double = stripe_regions(truth, THIRDS, (24, 8))  # maps larger than the truth
    np.testing.assert_array_equal(double, stripes.repeat(2, 2).repeat(2, 3))


def test_tiny_regions_are_not_in_the_picture():
    parts = np.zeros((1, 40, 20))
    parts[0, 0, 0] = 1  # 1 of 800 pixels
    parts[0, 20:, :] = 4
    assert stripe_regions(plain_truth(parts, 0.0, 1.0), THIRDS, (40, 20)).any((2, 3)).tolist() == [[False, True, True]]


def test_regions_of_sidewalk(sidewalk_tiny):
    truth = load_truth(sidewalk_tiny, sidewalk_tiny.train.iloc[:40])
    extents = tuple((k / 6, (k + 1) / 6) for k in range(6))
    stripes = stripe_regions(truth, extents, SIZE)
    assert stripes.shape == (40, 6, *SIZE)
    assert (stripes.sum(1) <= 1).all() and not (stripes.any(1) & ~truth.segmentation).any()
    _, names = body_part_regions(truth, extents, SIZE)
    assert names[0] == "head" and names[1] == "torso" and names[4] == "legs"
