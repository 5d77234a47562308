"""What the attention panel says of a control, of a small network, and of a share that has no answer."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from needs import need
from PIL import Image

for package in ("ipywidgets", "pytorch_grad_cam"):
    need(package)
from reidkit.panels.attention_panel import AttentionPanel


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def test_attention_of_a_control_and_of_a_small_network(panels):
    panel = panels["AttentionPanel"]
    panel.reset()
    panel.set(control="random network", part=2)
    assert -1 <= panel.agreement(panel.state()) <= 1 and "correlation" in panel.status_text
    panel.set(run="ide", part=12)
    assert panel.error == "" and panel.part_index(panel.state()) == 0 and "whole body of 1" in panel.status_text
    panel.reset()


def test_attention_says_why_a_share_has_no_answer(networks, sidewalk_tiny, monkeypatch):
    """A stripe that the crop has cut off, and a map without evidence: words, not "nan%"."""
    panel = AttentionPanel({"mine": networks["mpn"]}, sidewalk_tiny, count=3)
    state = panel.state()
    assert "% in its stripe of the body" in panel.status(state)
    below = np.ones_like(panel.truth.top)
    panel.truth = replace(panel.truth, top=1.2 * below, bottom=2.2 * below)  # the body is below the crop
    assert "its stripe is not in the picture" in panel.status(state) and "nan" not in panel.status(state)
    monkeypatch.setattr(panel, "maps", lambda *_: torch.zeros(panel.runs["mine"].num_parts, *panel.runs["mine"].size))
    assert "blank: no evidence" in panel.status(state) and "nan" not in panel.status(state)
    assert panel.render(state).size == panel.size


def test_any_picture_is_uploaded_and_keeps_its_shape(panels):
    panel = panels["AttentionPanel"]
    panel.reset()
    before, name = panel.picture.tobytes(), "<img src=x onerror=alert(1)>\n.png"
    panel.guard(panel.upload, name, encoded(Image.effect_mandelbrot((160, 90), (-2, -1.5, 1, 1.5), 60).convert("RGBA")))
    assert (
        panel.error == "" and panel.source == "<img src=x onerror=alert(1)> .png" and panel.picture.tobytes() != before
    )
    assert panel.photo(panel.state()).shape == (3, 90, 160)
    assert panel.maps(panel.state()).shape[1:] == panel.runs[panel.run].size, "the network sees it at its own size"
    assert "0.56 times as tall as wide" in panel.status_text and "in its stripe of the image" in panel.status_text
    assert "<img" not in panel.status_html() and "&lt;img" in panel.status_html()
    assert "<img" not in panel.markup() and "&lt;img" in panel.markup()
    panel.set(control="random network")
    assert panel.error == "" and -1 <= panel.agreement(panel.state()) <= 1
    panel.guard(panel.upload, "<b>bad</b>.png", b"no image")
    assert "'<b>bad</b>.png' is not an image" in panel.error and "<b>bad" not in panel.error_html()
    panel.reset()
    assert panel.source == "query" and panel.picture.tobytes() == before


@pytest.mark.parametrize("size", [(1, 600), (600, 1), (1, 1), (2000, 1500)])
def test_an_upload_of_any_shape_is_drawn(panels, size):
    panel = panels["AttentionPanel"]
    panel.reset()
    panel.upload("query", encoded(Image.new("L", size, 90)))
    assert panel.error == "" and panel.source == "query (uploaded)" and panel.picture.size == panel.size
    panel.reset()
