"""Dense body coordinates of Sidewalk: they agree with the exact maps; a mirrored body has mirrored ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
from market_folder import make_market_folder

from reidkit.data import load_dataset
from reidkit.data.sidewalk import load_truth
from reidkit.data.sidewalk.body import Body, Placement, Pose
from reidkit.data.sidewalk.dense import dense_maps, surface_map
from reidkit.data.sidewalk.identity import make_identities
from reidkit.data.sidewalk.labels import FRAGMENT_ID, PART_NAMES, SHADES
from reidkit.data.texture import CHARTS, MIRROR
from reidkit.errors import DatasetError

NAMES = np.array(["", *CHARTS])


@pytest.fixture(scope="module")
def maps(sidewalk_tiny):
    table = sidewalk_tiny.at_level("strong").query.head(30)
    return np.stack(list(dense_maps(sidewalk_tiny, table))), load_truth(sidewalk_tiny, table)


def test_every_pixel_of_the_body_has_a_place_and_no_other(maps):
    iuv, truth = maps
    charts = iuv[:, 0]
    body = (truth.parts > 0) & (truth.parts != PART_NAMES.index("accessory") + 1)
    assert np.array_equal(charts > 0, body)  # neither occluders, bystanders, bags nor scarves
    assert ((iuv[:, 1:] >= 0) & (iuv[:, 1:] <= 1)).all() and not iuv[:, 1:][
        np.broadcast_to(~body[:, None], (len(iuv), 2, *body.shape[1:]))
    ].any()
    assert {int(c) for c in np.unique(charts)} >= {1, 2, 5, 6, *range(7, 25)}


@pytest.mark.parametrize(
    "fragment", ["arm_left", "arm_right", "leg_left", "leg_right", "shoe_left", "shoe_right", "face", "pants"]
)
def test_charts_are_those_of_the_drawn_pieces(maps, fragment):
    iuv, truth = maps
    here = iuv[:, 0][truth.codes // SHADES == FRAGMENT_ID[fragment]].astype(int)
    assert len(here) > 20
    piece, _, side = fragment.partition("_")
    words = {
        "arm": ("arm", "hand"),
        "leg": ("leg", "foot"),
        "shoe": ("leg", "foot"),
        "face": ("head",),
        "pants": ("leg", "torso", "foot"),
    }
    assert all(any(word in name for word in words[piece]) and side in name for name in NAMES[np.unique(here)])


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.2, 2.0, 3.0])
def test_a_mirrored_body_has_mirrored_coordinates(yaw):
    person = replace(make_identities(1, (3, 1), sibling_rate=0.0)[0], bag="none", pattern="plain", hair_style="short")
    pose = Pose(yaw, 0.1, 0.02, 0.7, 0.8, (0.3, 0.5), (0.1, 0.15))
    other = Pose(-yaw, 0.1, -0.02, 0.7 + math.pi, 0.8, (0.5, 0.3), (0.15, 0.1))
    size, place = (192, 96), Placement(96.0, 360.0, 330.0, 330.0)
    first, _ = surface_map(Body(person, pose, place), size)
    second, _ = surface_map(Body(person, other, place), size)
    second = second[:, :, ::-1]
    swapped = np.array([0, *(m + 1 for m in MIRROR)])[second[0].astype(int)]
    both = (first[0] > 0) & (second[0] > 0)
    assert both.sum() > 1500 and ((first[0] > 0) != (second[0] > 0)).mean() < 0.02  # edges are drawn to the pixel
    same = swapped[both] == first[0][both]
    assert same.mean() > 0.93
    agree = np.abs((1 - second[1]) - first[1])[both][same]
    assert np.median(agree) < 0.06 and np.abs(second[2] - first[2])[both][same].mean() < 0.03


def test_front_and_back_and_the_way_around():
    person = make_identities(1, (3, 1), sibling_rate=0.0)[0]
    place = Placement(96.0, 360.0, 330.0, 330.0)
    front, _ = surface_map(Body(person, Pose(0.0), place), (192, 96))
    back, _ = surface_map(Body(person, Pose(math.pi), place), (192, 96))

    def count(iuv, name):
        return int((iuv[0] == CHARTS.index(name) + 1).sum())

    assert count(front, "torso, front") > 200 and count(front, "torso, back") == 0
    assert count(back, "torso, back") > 200 and count(back, "torso, front") == 0
    left = np.nonzero(front[0] == CHARTS.index("left upper leg, front") + 1)[1]
    right = np.nonzero(front[0] == CHARTS.index("right upper leg, front") + 1)[1]
    assert left.mean() > right.mean()  # who faces the camera has the left leg on the right
    rows, columns = np.nonzero(front[0] == CHARTS.index("torso, front") + 1)
    assert (
        np.corrcoef(columns, front[1, rows, columns])[0, 1] > 0.9
        and np.corrcoef(rows, front[2, rows, columns])[0, 1] > 0.9
    )


def test_photographs_are_refused(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "a"))
    with pytest.raises(DatasetError, match="was not rendered"):
        next(dense_maps(ds, ds.train))
