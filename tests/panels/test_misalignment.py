"""The misalignment sandbox: crops that are dragged, scaled, covered and uploaded, and what they are compared with."""

import io

import numpy as np
import pytest
import torch
from needs import need
from PIL import Image

for package in ("ipywidgets", "anywidget"):
    need(package)
from reidkit.data import images
from reidkit.errors import ReIDKitError
from reidkit.panels.kit import crop
from reidkit.panels.kit.crop import COVER, Crop, read_upload
from reidkit.panels.kit.upload import LIMIT


def test_crop_moves_the_person():
    image = np.zeros((20, 10, 3), np.uint8)
    image[8:12, 4:6] = 200
    assert np.array_equal(Crop().apply(image, (20, 10)), image)
    lower = Crop(dy=0.25, dx=0.2).apply(image, (20, 10))
    assert np.array_equal(lower[13:17, 6:8], image[8:12, 4:6]) and lower.sum() == image.sum()
    assert Crop(scale=2.0).apply(image, (20, 10)).sum() > 3 * image.sum()
    covered = Crop(cover=0.25, cover_top=0.5).apply(image, (20, 10))
    assert (covered[10:15] == COVER).all() and np.array_equal(covered[:10], image[:10])


def test_sandbox_shows_a_match_that_one_network_loses(panels, monkeypatch):
    """The first query that A finds first before and after the move, and B before it only."""
    panel = panels["MisalignmentSandbox"]
    panel.reset()
    ranks = {  # image -> ranks of A: straight, moved; of B
        **dict.fromkeys(range(len(panel.pairs)), (1, 1, 1, 1)),
        **{1: (1, 3, 1, 4), 2: (1, 1, 2, 5), 3: (1, 1, 1, 2), 4: (1, 1, 1, 9)},
    }

    def rank(run, parts, score, state):
        return ranks[state.image][2 * (run.name == panel.run_b) + (state.dy == 0.15)]

    monkeypatch.setattr(panel, "_rank", rank)
    assert panel.show_loss() and (panel.image, panel.dx, panel.dy, panel.scale) == (3, 0.0, 0.15, 1.0)
    ranks |= dict.fromkeys((3, 4), (1, 1, 1, 1))
    assert not panel.show_loss() and (panel.image, panel.dy) == (0, 0.15)
    monkeypatch.undo()
    panel.reset()


def test_sandbox_drags_uploads_and_compares(panels):
    panel = panels["MisalignmentSandbox"]
    panel.reset()
    x0, y0, x1, y1 = panel.crop_box(panel.state())
    width, height = x1 - x0, y1 - y0
    panel.on_pointer(40, 100, "down")
    panel.on_pointer(40, 100 + height / 5, "move")
    panel.on_pointer(40 + width / 10, 100 + height / 4, "up")
    assert (panel.dx, panel.dy) == (0.1, 0.25)
    panel.on_pointer(800, 100, "down")
    panel.on_pointer(800, 300, "move")
    assert (panel.dx, panel.dy) == (0.1, 0.25), "only the crop can be dragged"
    panel.straighten()
    straight = panel.similarities(panel.runs[panel.run_a], panel.state())
    moved = panel.similarities(panel.runs[panel.run_a], panel.state(dy=0.4))
    assert moved[0].shape == (6,) and moved[1] != straight[1] and moved[2] >= 1

    buffer = io.BytesIO()
    Image.fromarray(panel.original(panel.state())).save(buffer, "PNG")
    panel.upload("mine.png", buffer.getvalue())
    assert panel.error == "" and panel.source == "mine.png"
    parts, whole, rank = panel.similarities(panel.runs[panel.run_a], panel.state())
    torch.testing.assert_close(parts, torch.ones(6))  # compared with itself
    assert rank != rank and float(whole) == pytest.approx(1, abs=1e-5)
    panel.dy = 0.3
    assert panel.error == "" and panel.similarities(panel.runs[panel.run_a], panel.state())[1] < 0.999
    panel.guard(panel.upload, "bad.txt", b"no image")
    assert "'bad.txt' is not an image" in panel.error
    panel.reset()
    with pytest.raises(ReIDKitError, match="not an image"):
        read_upload("x", b"")


def test_uploads_of_any_kind_and_a_clear_word_for_the_rest(panels, monkeypatch):
    panel = panels["MisalignmentSandbox"]
    panel.reset()
    wide, data = Image.new("LA", (300, 100), (80, 128)), io.BytesIO()
    wide.save(data, "PNG")
    panel.guard(panel.upload, "query", data.getvalue())
    assert panel.error == "" and panel.source == "query (uploaded)", "not taken for the panel's own query"
    assert "query (uploaded) is 0.33 times as tall as wide" in panel.status_text
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    panel.guard(panel.upload, "big.png", data.getvalue())
    assert "'big.png' is too large: 300 x 100 pixels; upload a picture of at most" in panel.error
    monkeypatch.setattr(crop, "MAX_BYTES", 10)
    panel.guard(panel.upload, "heavy.png", data.getvalue())
    assert "'heavy.png' is too large: " in panel.error and "bytes" in panel.error
    panel.reset()


def test_the_upload_button_hands_the_file_over(panels):
    """As ipywidgets gives it: a tuple of dictionaries whose content is a memoryview."""
    panel, data = panels["MisalignmentSandbox"], io.BytesIO()
    panel.reset()
    Image.new("RGB", (20, 50), "red").save(data, "PNG")
    (button,) = panel.extra_widgets()
    button._handle_custom_msg({"name": "a.png"}, [memoryview(data.getvalue())])
    assert panel.source == "a.png" and panel.error == ""
    button._handle_custom_msg({"name": "b.png"}, [memoryview(b"x")])
    assert panel.source == "a.png" and "'b.png' is not an image" in panel.error
    panel.reset()


@pytest.mark.parametrize("kind", ["MisalignmentSandbox", "AttentionPanel"])
def test_the_limit_of_an_upload_is_said_before_and_after(panels, kind):
    """The browser refuses by size, before it sends; the panel says why. A file's name is text, never HTML."""
    panel = panels[kind]
    panel.reset()
    (button,) = panel.extra_widgets()
    assert "at most 10 MB" in button.note and button.limit == LIMIT < 10 * 2**20
    button._handle_custom_msg({"refused": "<img src=x>\n.png", "size": 12_345_678}, [])
    assert "'<img src=x> .png' has 12.3 MB, and a notebook server takes at most 10 MB" in panel.error
    assert "<img" not in panel.error_html() and "&lt;img" in panel.error_html()
    panel.reset()
    assert panel.error == ""


def test_two_uploads_are_compared_with_each_other(panels):
    """The first is the crop, in its own shape, the second what it is compared with; both can be chosen anew."""
    panel = panels["MisalignmentSandbox"]
    panel.reset()
    run, straight = panel.runs[panel.run_a], panel.picture.tobytes()
    for name, colour, size in (("a.png", (200, 40, 40), (60, 90)), ("b.png", (30, 30, 180), (50, 200))):
        picture, data = Image.effect_noise(size, 60).convert("RGB"), io.BytesIO()
        Image.blend(picture, Image.new("RGB", size, colour), 0.5).save(data, "PNG")
        panel.upload(name, data.getvalue())
    assert (panel.source, panel.against, panel.error) == ("a.png", "b.png", "")
    x0, y0, x1, y1 = panel.crop_box(panel.state())
    assert (x1 - x0) / (y1 - y0) == pytest.approx(60 / 90), "its own shape"
    parts, whole, rank = panel.similarities(run, panel.state())
    both = [run.parts_of(run.maps_of(whole_of(panel.uploads[name], run.size)))[0] for name in ("a.png", "b.png")]
    torch.testing.assert_close(parts, torch.cosine_similarity(*both, dim=1))
    assert float(whole) < 0.999 and rank != rank and "no rank" in panel.status_text
    panel.set(source="query")
    assert panel.error == "" and panel.similarities(run, panel.state())[1] != whole, "a query beside an upload"
    panel.reset()
    assert panel.picture.tobytes() == straight


def whole_of(image, size):
    return torch.from_numpy(Crop().apply(image, size).transpose(2, 0, 1).copy())[None]


def test_where_the_cover_begins_matters_once_something_is_covered(panels):
    panel = panels["MisalignmentSandbox"]
    panel.reset()
    assert set(panel.hidden()) >= {"cover_top"}
    panel.cover = 0.3
    assert "cover_top" not in panel.hidden()
    before = panel.picture.tobytes()
    panel.cover_top = 0.2
    assert panel.picture.tobytes() != before
    panel.cover_top = 0.7
    assert panel.picture.tobytes() == before
    panel.reset()
