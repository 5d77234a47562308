"""Priors of the embedded data set: its imperfect tool outputs go through the real pipeline."""

import numpy as np
import pytest
from PIL import Image

from reidkit.priors import build_priors, image_paths, open_source, prior_sheet


@pytest.fixture(scope="module")
def table(sidewalk_tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("priors") / "tiny.npz"
    return build_priors(sidewalk_tiny, "sidewalk", grid=(24, 8), splits="all", out=out, progress=False)


def test_every_image_of_every_level_has_maps(sidewalk_tiny, table):
    paths = image_paths(sidewalk_tiny, "all")
    assert list(table.paths) == paths and not table.missing
    folders = {path.split("/")[0] for path in paths}
    assert {"bounding_box_train", "query", "bounding_box_test", "query_strong"} <= folders
    for level in sidewalk_tiny.levels:
        current = sidewalk_tiny.at_level(level)
        assert table.lookup(image_paths(current, ("query", "gallery"))).mask.shape[1:] == (24, 8)


def test_most_priors_are_reliable_and_the_tools_fail_now_and_then(table):
    fraction = table.reliable.mean()
    assert 0.5 < fraction < 0.99  # the paper's fallback is for "a small number" of images; Sidewalk's tools fail more
    good = table.reliable
    assert (table.bottom[good] > table.top[good]).all()
    assert table.masks[~good].all() and (table.top[~good] == 0).all() and (table.bottom[~good] == 1).all()
    assert 0.15 < table.masks[good].mean() < 0.8  # a person, neither an empty nor a full picture


def test_clean_crops_are_reliable_more_often_than_cut_ones(sidewalk_tiny, table):
    if "detector" not in sidewalk_tiny.train:
        pytest.fail("the sidewalk tables lack the column 'detector'")
    train = sidewalk_tiny.train
    reliable = table.lookup(image_paths(sidewalk_tiny, ("train",))).reliable.numpy()
    clean, cut = (train.detector == "ok").to_numpy(), train.detector.isin(["head", "legs"]).to_numpy()
    assert reliable[clean].mean() > reliable[cut].mean()


def test_contact_sheet_shows_maps(sidewalk_tiny, table, tmp_path):
    sheet = prior_sheet(sidewalk_tiny, table, source=open_source(sidewalk_tiny, "sidewalk"), count=3)
    sheet.save(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == sheet.size
    assert np.asarray(sheet).std() > 20
