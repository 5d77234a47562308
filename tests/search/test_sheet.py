"""Sheets of part attention: any picture, every network, one picture or two."""

import io
import re

import numpy as np
import pytest
import torch
from attention_networks import MODELS
from needs import need
from own_pictures import person_image, save_person
from paths import REPO
from PIL import Image
from search_networks import small_network
from typer.testing import CliRunner

from reidkit.attention import part_attention, similarity_attention
from reidkit.cli import app
from reidkit.errors import PriorError, ReIDKitError
from reidkit.reporting.pictures import heat_overlay
from reidkit.search import attention_sheet, open_network, open_pictures, sheet
from reidkit.search.sheet import GAP, LABEL, part_similarities, wrapped

need("pytorch_grad_cam")
SHIPPED = sorted(p.name for p in (REPO / "results" / "sidewalk" / "checkpoints").iterdir())


def run(*arguments):
    return CliRunner().invoke(app, ["attention", *map(str, arguments), "--device", "cpu"])


@pytest.fixture
def words(monkeypatch):
    """What is written on a sheet."""
    written, write = [], sheet.text
    monkeypatch.setattr(
        sheet, "text", lambda picture, xy, text, *a, **k: (written.append(text), write(picture, xy, text, *a, **k))
    )
    return written


def test_a_picture_its_maps_and_their_names(tmp_path, words):
    network = small_network("mpn-no-ca")
    pictures = open_pictures([save_person(tmp_path / "me.png", 3)])  # 16 x 32 pixels
    drawn = np.asarray(attention_sheet(network, pictures, method="hirescam"))
    size = (160, 320)  # times ten: at least 300 pixels tall
    assert drawn.shape[1] == 7 * (size[0] + GAP) + GAP
    top = GAP // 2 + LABEL
    shown = np.asarray(pictures[0].image.resize(size, Image.Resampling.BICUBIC))
    assert np.array_equal(drawn[top : top + 320, GAP : GAP + 160], shown)
    maps = part_attention(network.model, network.normalised([pictures[0].image]), "hirescam")[0]
    for k in range(6):
        left = GAP + (1 + k) * (160 + GAP)
        wanted = np.asarray(heat_overlay(pictures[0].image, maps[k], size))
        assert np.array_equal(drawn[top : top + 320, left : left + 160], wanted), k
    assert {"me.png", *network.part_names} <= set(words)
    text = " ".join(words)
    assert "mpn-no-ca: hirescam. Draelos and Carin 2020" in text and "times as tall as wide" not in text


def test_two_pictures_are_compared_without_classes(tmp_path, words):
    network = small_network("cgpn")
    pictures = open_pictures([save_person(tmp_path / f"{i}.png", i) for i in (1, 2)])
    drawn = np.asarray(attention_sheet(network, pictures, method="hirescam"))
    x = network.normalised([p.image for p in pictures])
    alike = part_similarities(network, x)
    features = network.parts(network.model.extract([p.image for p in pictures]))  # [2, K, d]
    torch.testing.assert_close(alike, torch.cosine_similarity(features[0], features[1], dim=-1), atol=1e-4, rtol=0)
    for name, value in zip(network.part_names, alike.tolist()):
        assert words.count(f"{name}: {value:.2f}") == 2
    on_first = similarity_attention(network.model, x[:1], x[1:], "hirescam")[0]
    row = 2 * (LABEL + 2 * (320 + LABEL + GAP))  # two pictures, twelve parts in two lines each
    top, left = GAP // 2 + row + LABEL, GAP + 160 + GAP
    wanted = np.asarray(heat_overlay(pictures[0].image, on_first[0], (160, 320))).astype(int)
    assert np.abs(drawn[top : top + 320, left : left + 160] - wanted).max() <= 2
    assert "No class is asked" in " ".join(words)


@pytest.mark.parametrize("name", MODELS)
def test_every_network(tmp_path, name):
    network = small_network(name)
    pictures = open_pictures([save_person(tmp_path / f"{i}.png", i) for i in (1, 2)])
    needs = network.model.needs_prior_at_test
    if needs:
        with pytest.raises(PriorError, match="--whole-picture"):
            attention_sheet(network, pictures)
    drawn = attention_sheet(network, pictures, method="layercam", whole_picture=needs)
    assert drawn.mode == "RGB" and drawn.width >= 480


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network(tmp_path, name):
    pictures = open_pictures([save_person(tmp_path / "1.png", 1)])
    assert attention_sheet(open_network(name, "cpu"), pictures).height > 300


@pytest.mark.parametrize("size, factor", [((16, 32), 10), ((150, 299), 2), ((200, 400), 1), ((400, 100), 1)])
def test_its_own_resolution_times_a_whole_number(size, factor):
    assert sheet._scaled(Image.new("RGB", size)) in (
        (size[0] * factor, size[1] * factor),
        (200, 50),  # at most twice as wide as tall: shrunk
    )


def test_a_huge_picture_is_shrunk():
    assert sheet._scaled(Image.new("RGB", (3000, 6000))) == (300, 600)
    assert sheet._scaled(Image.new("RGB", (6000, 3))) == (6, 1)


def test_pictures_of_every_kind_through_the_command(tmp_path):
    """Grey, transparent, turned by EXIF, 16 bits, wide and tiny: drawn, upright, in their own shape."""
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "grey.png": (person_image(1).convert("L"), {}),
        "alpha.png": (person_image(1).convert("RGBA"), {}),
        "turned.jpg": (person_image(1).rotate(90, expand=True), {"exif": turned}),
        "deep.png": (Image.fromarray(np.full((40, 20), 9000, np.uint16)), {}),
        "palette.png": (person_image(1).convert("P"), {}),
        "tiny.png": (Image.new("RGB", (1, 1)), {}),
        "wide.png": (Image.new("RGB", (900, 30)), {}),
    }
    for name, (image, options) in kinds.items():
        image.save(tmp_path / name, **options)
        done = run("mpn-no-ca", tmp_path / name, "--out", tmp_path / f"{name}.sheet.png")
        assert done.exit_code == 0, (name, done.output, done.exception)
        hint = "times as tall as wide" in done.output
        assert hint == (name in ("wide.png", "tiny.png")) and ("--detect finds the person" in done.output) == hint
    assert Image.open(tmp_path / "turned.jpg.sheet.png").size == Image.open(tmp_path / "grey.png.sheet.png").size


def test_the_command_refuses(tmp_path):
    image = save_person(tmp_path / "me.png", 1)
    (tmp_path / "text.jpg").write_text("no image")
    for arguments, match in (
        ((tmp_path / "text.jpg",), r"text\.jpg.*not an image"),
        ((image, image, image), "one picture or two, 3 were named"),
        ((image, "--method", "cam"), "unknown CAM method 'cam'"),
        ((image, "--out", tmp_path / "x.jpg"), r"x\.jpg: expected the name of a PNG"),
        ((image, "--detect", "--detector-weights", tmp_path / "w.pth"), r"w\.pth: no such file"),
    ):
        done = run("mpn-no-ca", *arguments)
        assert isinstance(done.exception, ReIDKitError) and re.search(match, str(done.exception)), done.exception
    assert not (tmp_path / "x.jpg").exists()


def test_words_are_wrapped():
    lines = wrapped("one two three four five six seven " + "x" * 200, 100)
    assert len(lines) > 2 and " ".join(lines).startswith("one two three") and all(len(line) < 40 for line in lines)


def test_the_file_is_a_png(tmp_path):
    done = run(
        "ide", save_person(tmp_path / "a.png", 1), save_person(tmp_path / "b.png", 2), "--out", tmp_path / "s.PNG"
    )
    assert done.exit_code == 0, done.exception
    assert Image.open(io.BytesIO((tmp_path / "s.PNG").read_bytes())).format == "PNG"
