"""What the attention panel says of a control, of a small network, and of a share that has no answer."""

from dataclasses import replace

import numpy as np
import torch
from needs import need

for package in ("ipywidgets", "pytorch_grad_cam"):
    need(package)
from reidkit.panels.attention_panel import AttentionPanel


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
