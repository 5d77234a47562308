"""From a photograph to a person: the hint, the boxes, and weights that are not there."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from reidkit.data import people
from reidkit.data.people import crop_hint, cut_person, load_detector, person_boxes
from reidkit.errors import ReIDKitError


def detector(*boxes, seen=None):
    """A stand-in: (left, top, right, bottom, label, score) of every box, whatever it is shown."""

    def look(images):
        if seen is not None:
            seen.extend(images)
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
        return [{"boxes": found[:, :4], "labels": found[:, 4].long(), "scores": found[:, 5]}]

    return look


@pytest.mark.parametrize("size, hint", [((64, 128), ""), ((48, 144), ""), ((60, 200), ""), ((100, 130), "")])
def test_the_shape_of_a_person_needs_no_hint(size, hint):
    assert crop_hint(size) == hint


@pytest.mark.parametrize("size, words", [((1920, 1080), "0.56 times"), ((100, 100), "1 times"), ((10, 90), "9 times")])
def test_another_shape_is_said(size, words):
    assert f"a.jpg is {words} as tall as wide" in crop_hint(size, "a.jpg")


def test_the_largest_sure_person_is_cut_out():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8))
    look = detector(
        (0, 0, 200, 100, 3, 0.99),  # a car
        (10, 10, 90, 90, 1, 0.5),  # not sure
        (20.4, 10.2, 40.3, 60.4, 1, 0.8),
        (150, 5, 180, 99, 1, 0.9),
        (50, 50, 50, 60, 1, 0.9),  # no pixels
        (190, -20, 260, 20, 1, 0.95),  # beyond the picture
    )
    assert person_boxes(image, look).tolist() == [[150, 5, 180, 99], [20, 10, 40, 60], [190, 0, 200, 20]]
    crop, words = cut_person(image, look, "street.jpg")
    assert np.array_equal(np.asarray(crop), np.asarray(image)[5:99, 150:180])
    assert words.startswith("street.jpg: 3 people; the largest is used, the box 150, 5 to 180, 99 of 200 x 100")
    assert "1 person," in cut_person(image, detector((0, 0, 9, 20, 1, 0.9)))[1]


def test_nobody_is_an_error_that_says_what_to_do():
    with pytest.raises(ReIDKitError, match=r"empty\.jpg: the detector is sure of no person.*leave --detect away"):
        cut_person(Image.new("RGB", (50, 50)), detector(), "empty.jpg")


def test_a_huge_picture_is_shown_small_and_cut_at_its_own_size(monkeypatch):
    monkeypatch.setattr(people, "LARGEST", 100)
    seen = []
    image = Image.new("L", (400, 200), 255)
    boxes = person_boxes(image, detector((10, 10, 20, 40, 1, 0.9), seen=seen))
    assert seen[0].shape == (3, 50, 100) and float(seen[0].min()) == 1.0 and boxes.tolist() == [[40, 40, 80, 160]]


def test_weights_from_a_file(tmp_path):
    """The real network, untrained: it opens, it looks, and it is sure of nobody."""
    torch.manual_seed(0)
    network = get_model(people.DETECTOR, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    loaded = load_detector(tmp_path / "w.pth")
    assert not loaded.training
    assert torch.equal(
        loaded.state_dict()["roi_heads.box_predictor.cls_score.bias"], network.roi_heads.box_predictor.cls_score.bias
    )
    assert person_boxes(Image.new("RGB", (64, 48)), loaded).shape == (0, 4)
    (tmp_path / "bad.pth").write_bytes(b"x")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    for name in ("bad.pth", "other.pth"):
        with pytest.raises(ReIDKitError, match=rf"{name} holds no weights of torchvision's {people.DETECTOR}"):
            load_detector(tmp_path / name)
    with pytest.raises(ReIDKitError, match=r"none\.pth: no such file"):
        load_detector(tmp_path / "none.pth")


def test_without_weights_and_network_the_place_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refused(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refused)
    with pytest.raises(ReIDKitError) as error:
        load_detector()
    for words in (
        "no route to host",
        str(tmp_path / "hub" / "checkpoints"),
        "TORCH_HOME",
        "--detector-weights",
        ".pth",
    ):
        assert words in str(error.value)
