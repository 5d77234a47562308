"""The loss playground against the losses of the kit, finite differences, and a slow triplet loop."""

import numpy as np
import pytest
import torch
from needs import need

need("ipywidgets")
from reidkit import losses
from reidkit.panels.kit.plane import PLANE, REACH, anchor_story, draw_plane, violations
from reidkit.panels.kit.sketch import Shape, Sketch
from reidkit.panels.loss_playground import TOP, LossPlayground, batch_all_triplet, evaluate


@pytest.fixture
def panel():
    return LossPlayground()


def some_points(seed=0):
    return torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("alignment", ["", "class", "sample", "batch"])
def test_playground_arrows_are_gradients(mining, alignment):
    points = some_points()
    settings = {"margin": 0.8, "metric": "euclidean", "mining": mining, "alignment": alignment, "weight": 1.7}
    result, step = evaluate(points, **settings), 1e-6
    assert result.total == pytest.approx(result.triplet + 1.7 * result.alignment)
    numeric = np.zeros(points.shape)
    for place in np.ndindex(points.shape):
        moved = [points.clone(), points.clone()]
        moved[0][place] += step
        moved[1][place] -= step
        values = [evaluate(m, **settings).total for m in moved]
        numeric[place] = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(result.gradient, numeric, atol=1e-6)


def test_playground_losses_are_those_of_the_kit():
    points = some_points(1)
    main, aux, labels = points[0].flatten(0, 1), points[1].flatten(0, 1), torch.tensor([0, 0, 1, 1, 2, 2])
    usual = {"margin": 0.5, "metric": "cosine", "mining": "hard", "alignment": "class", "weight": 1.0}

    def get(**changes):
        return evaluate(points, **usual | changes)

    assert get().triplet == pytest.approx(float(losses.batch_hard_triplet(main, labels, 0.5, "cosine")))
    assert get().alignment == pytest.approx(float(losses.class_alignment(main, aux, labels)))
    assert get(alignment="sample").alignment == pytest.approx(float(losses.sample_alignment(main, aux)))
    assert get(alignment="batch").alignment == pytest.approx(float(losses.batch_alignment(main, aux)))
    assert get(alignment="").alignment == 0 and get(alignment="").total == get().triplet


@pytest.mark.parametrize("margin", [0.0, 0.4, 3.0])
def test_every_triplet_counts(margin):
    x, labels = some_points(2)[0].flatten(0, 1), [0, 0, 1, 1, 2, 2]
    slow = []
    for a in range(6):
        for p in range(6):
            for n in range(6):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    slow.append(max(float((x[a] - x[p]).norm() - (x[a] - x[n]).norm()) + margin, 0.0))
    expected = sum(slow) / max(sum(v > 0 for v in slow), 1)
    assert float(batch_all_triplet(x, torch.tensor(labels), margin, "euclidean")) == pytest.approx(expected)


def test_playground_steps_down_and_resets(panel):
    before, picture = panel.result(panel.state()).total, panel.picture.tobytes()
    panel.rate = 0.1
    panel.actions()["step"]()
    assert panel.result(panel.state()).total < before and panel.error == ""
    panel.actions()["10 steps"]()
    assert panel.result(panel.state()).total < before
    assert (panel.x, panel.y) == panel.points[0][0][0]
    panel.reset()
    assert panel.picture.tobytes() == picture


def test_playground_sliders_that_round_move_nothing(panel):
    """A slider in the browser reports the nearest of its steps when a point lies between two of them."""
    points, picture = panel.points, panel.picture.tobytes()
    for name in ("x", "y"):
        setattr(panel, name, round(getattr(panel, name) * 20) / 20)
    assert panel.points == points and panel.picture.tobytes() == picture
    panel.x = round(panel.x * 20) / 20 + 0.05
    assert panel.points[0][0][0][0] == round(panel.x, 4) and panel.points[0][0][0][1] == points[0][0][0][1]
    panel.reset()
    assert panel.points == points


def test_playground_points_can_be_dragged(panel):

    def pixel(x, y):
        return (x / REACH + 1) / 2 * PLANE, (1 - y / REACH) / 2 * PLANE + TOP

    start = panel.points[1][2][0]  # hollow C1
    panel.on_pointer(*pixel(*start), "down")
    assert panel.point == 9 + 7 and (panel.x, panel.y) == start
    panel.on_pointer(*pixel(-0.5, 0.25), "move")
    panel.on_pointer(*pixel(-0.5, 0.3), "up")
    assert panel.points[1][2][0] == (-0.5, 0.3) == (panel.x, panel.y)
    panel.on_pointer(*pixel(1.2, 1.2), "move")
    assert panel.points[1][2][0] == (-0.5, 0.3), "nothing is held any more"
    panel.on_pointer(*pixel(-0.5, 0.3), "down")
    panel.on_pointer(5000, -5000, "up")
    assert panel.points[1][2][0] == (REACH, REACH), "points stay on the plane"
    panel.alignment = ""
    assert panel.point <= 9 and panel.error == ""
    panel.reset()


@pytest.mark.parametrize("x", [0.05, 0.0])
def test_playground_arrows_end_where_a_step_leads(panel, x):
    """Near the middle a cosine is as steep as can be: a step from there ends at the border of the plane."""
    panel.set(alignment="sample", rate=3.0, weight=4.0, x=x, y=0.0)
    state, picture = panel.state(), Sketch(panel.size)
    draw_plane(picture, state, panel.result(state).gradient)
    places = np.concatenate([np.reshape(s.points, (-1, 2)) for s in picture.items if isinstance(s, Shape)])
    assert places.min() > -20 and places.max() < PLANE + TOP + 20
    assert panel.error == ""


def test_playground_tells_the_triplet_of_the_chosen_anchor(panel):
    points = np.array(panel.points)[0, :3, :3].reshape(9, 2)
    far = max(np.linalg.norm(points[0] - points[i]) for i in (1, 2))
    near = min(np.linalg.norm(points[0] - points[i]) for i in range(3, 9))
    story = anchor_story(panel.state())
    assert f"{far:.2f}\n" in story and f"{near:.2f}\n" in story
    assert f"= {max(far - near + panel.margin, 0):.2f}" in story
    assert violations(panel.state(margin=0.0))[0] <= violations(panel.state(margin=1.5))[0] == 9
    assert "in no\ntriplet" in anchor_story(panel.state(point=10))
