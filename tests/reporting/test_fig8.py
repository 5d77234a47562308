"""MPN Fig. 8 of our own networks: a picture chosen by a rule, marks where the body is, the scores of the kit."""

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need
from PIL import Image

need("pytorch_grad_cam")
from reidkit.attention.scores import score_model
from reidkit.data.sidewalk import load_truth
from reidkit.models import create_model
from reidkit.reporting.fig8 import GAP, LEFT, NETWORKS, TOP, badly_placed, figure8, own_rows, part_scores

SIZE = (96, 32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("mpn", 5, backbone="small", part_dim=8).eval()


def test_the_first_large_box_of_a_person_whom_nothing_covers():
    boxes = [("ok", "none"), ("loose", "car"), ("head", "none"), ("loose", "none"), ("loose", "none")]
    query = pd.DataFrame(boxes, columns=["detector", "occluder"], index=[7, 8, 9, 10, 11])
    assert badly_placed(query) == 3  # a position
    assert badly_placed(query[[]]) == 0  # photographs know no boxes


def test_scores_are_those_of_the_same_images_for_all(model, sidewalk_tiny):
    test = sidewalk_tiny.at_level("strong")
    found = part_scores({"a": model, "b": model}, test, SIZE, images=6, seed=3)
    table = test.query.sample(6, random_state=3).sort_index().reset_index(drop=True)
    wanted = score_model(model, table, load_truth(test, table), size=SIZE, checks=False, progress=False)
    assert found["a"] == pytest.approx(wanted, nan_ok=True) and found["b"] == pytest.approx(wanted, nan_ok=True)


def test_the_shares_of_the_body(model, sidewalk_tiny):
    test = sidewalk_tiny.at_level("strong")
    own, (top, bottom) = own_rows(test, 2, model, SIZE), test.query[["top", "bottom"]].iloc[2]
    assert own.shape == (6, 96)
    for k, rows in enumerate(own):
        for y in range(96):
            share = ((y + 0.5) / 96 - top) / (bottom - top)
            assert rows[y] == (k / 6 <= share < (k + 1) / 6)


def test_what_is_drawn(model):
    """Each map over the grey picture, its own share between white lines; without marks and scores the rest is equal."""
    picture, own = torch.full((3, 96, 32), 90, dtype=torch.uint8), np.zeros((6, 96), bool)
    for k in range(6):
        own[k, 16 * k : 16 * k + 16] = True
    maps = torch.zeros(6, 96, 32)
    maps[2, 40:50] = 1.0
    words = dict.fromkeys(("pointing", "own_argmax", "similarity", "background"), 0.25)
    plain = np.asarray(figure8(picture, {"A": maps, "B": maps}, height=96))
    full = np.asarray(figure8(picture, {"A": maps, "B": maps}, {"A": words, "B": words}, own, height=96))
    assert plain.shape == full.shape and (plain[:, :LEFT] != full[:, :LEFT]).any()
    for k in range(6):
        x = LEFT + (k + 1) * (32 + GAP)
        one, marked = (sheet[TOP : TOP + 96, x : x + 32] for sheet in (plain, full))
        assert (one != 90).any() == (k == 2), "only a map with a response covers the picture"
        lines = [y for y in range(96) if (marked[y] == 255).all()]
        assert lines == [y for y in (16 * k, 16 * k + 16) if 0 < y < 96]
    assert (plain[TOP : TOP + 96, LEFT : LEFT + 32] == 90).all()


def test_the_shipped_figure(repo):
    file = repo / "docs" / "fig8.jpg"
    with Image.open(file) as picture:
        assert picture.format == "JPEG" and picture.mode == "RGB" and picture.width > 700
    assert file.stat().st_size < 300_000 and "docs/fig8.jpg" in (repo / "README.md").read_text()
    assert [*NETWORKS] == ["Baseline", "Naive MTL", "MPN"]
