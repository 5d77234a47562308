"""MPN's Fig. 3 is drawn from the model: its layers, their sharing, its shapes."""

import pytest
from needs import need

need("matplotlib").use("Agg")
from matplotlib import pyplot as plt

from reidkit.errors import ReIDKitError
from reidkit.models import VARIANTS, create_model
from reidkit.reporting.diagram import mpn_diagram, shapes, task_layers


def build(name):
    return create_model(name, 7, backbone="small", **({"part_dim": 8} if name != "ide" else {}))


def words(name):

    figure = mpn_diagram(build(name), VARIANTS[name].loss, (96, 32))
    found = [t.get_text() for t in figure.axes[0].texts] + [figure.axes[0].get_title()]
    plt.close(figure)
    return found


def test_layers_and_sharing_are_the_models():
    assert task_layers(build("mpn")) == [("conv1", "shared"), ("attention", "shared"), ("conv2", "shared")]
    assert task_layers(build("psa-c1")) == [("conv1", "shared"), ("conv2", "each its own")]
    assert task_layers(build("soft-c2-1")) == [("conv1", "each its own"), ("conv2", "each its own")]
    assert task_layers(build("mt-only")) == [("conv1", "main"), ("conv2", "main")]
    assert task_layers(build("baseline")) == [("conv1", "auxiliary"), ("conv2", "auxiliary")]


def test_shapes_are_those_of_a_pass():
    model = build("mpn")
    found = shapes(model, (96, 32))
    assert found["F"] == (128, 12, 4) and found["conv1"] == (6, 8, 12, 4) and found["conv2"] == (6, 8)
    assert found["classifier"] == (6, 7) and next(model.parameters()).device.type == "cpu"  # the model is as it was


def test_the_drawing_says_what_the_model_is():
    drawn = words("mpn")
    assert sum("shared" in text for text in drawn) == 3 and any("128 x 12 x 4" in text for text in drawn)
    assert drawn[-1] == "mpn: cross entropy; triplet on embedding; alignment of h and g: class"
    apart = words("naive-mtl")
    assert not any("shared" in text or "attention" in text for text in apart)
    assert sum("1x1 conv" in text for text in apart) == 4
    assert sum("tasks" in text for text in words("baseline-ub")) == 1
    with pytest.raises(ReIDKitError, match="ide is no network"):
        mpn_diagram(build("ide"), VARIANTS["ide"].loss)
