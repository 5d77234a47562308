"""Networks and data sets as panels use them: kept features, earlier layers, priors, photographs."""

import pytest
import torch
from needs import need
from safetensors.torch import save_file

for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
    need(package)
from reidkit.errors import PriorError, ReIDKitError
from reidkit.panels.attention_panel import AttentionPanel
from reidkit.panels.kit.layers import LAST, at_layer, layer_names
from reidkit.panels.kit.runs import _kept, open_runs
from reidkit.panels.misalignment import MisalignmentSandbox
from reidkit.panels.ranked_list import RankedList


def test_features_are_kept_on_disk(networks, sidewalk_tiny):
    name = "mpn"
    first = open_runs({name: networks[name]}, sidewalk_tiny)[name]
    features = first.features(sidewalk_tiny.query)
    second = open_runs({name: networks[name]}, sidewalk_tiny)[name]
    second.model = None  # must not be needed
    second.__class__ = type("Kept", (type(second),), {"num_parts": first.num_parts})
    assert torch.equal(second.features(sidewalk_tiny.query), features)


def test_kept_features_that_are_damaged_are_made_again(tmp_path):
    file, features = tmp_path / "x.safetensors", torch.rand(3, 4)
    save_file({"features": features}, file)
    assert torch.equal(_kept(file, 3), features) and _kept(file, 2) is None
    whole = file.read_bytes()
    for damaged in (whole[:-1], b"", whole[:8] + b"x" + whole[9:]):
        file.write_bytes(damaged)
        assert _kept(file, 3) is None
    save_file({"features": features / 0}, file)
    assert _kept(file, 3) is None


def test_earlier_layers_are_the_same_network(networks, sidewalk_tiny):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 96, 32)
    for run in open_runs(networks, sidewalk_tiny).values():
        names = layer_names(run.model)
        assert names[0] == LAST and "layer2" in names
        for name in names:
            with torch.no_grad():
                assert torch.equal(at_layer(run.model, name).embed(images), run.model.embed(images))
    with pytest.raises(ReIDKitError, match="layer9"):
        at_layer(run.model, "layer9")


def test_a_network_that_needs_priors_says_so(sidewalk_tiny, tmp_path):
    from reidkit.models import create_model
    from reidkit.panels.kit.runs import PanelRun
    from reidkit.training import recipe_for

    model = create_model("baseline-ub", 24, backbone="small", part_dim=16)
    with pytest.raises(PriorError, match="reidkit priors build"):
        PanelRun("ub", model, recipe_for("baseline-ub", "smoke"), sidewalk_tiny)


def test_photographs_have_no_ground_truth_and_need_none(networks, sidewalk_tiny, tmp_path):
    import shutil

    from reidkit.data import load_dataset

    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        shutil.copytree(sidewalk_tiny.root / folder, tmp_path / "Market-1501-v15.09.15" / folder)
    market = load_dataset("market1501", root=tmp_path)
    own = {"mine": networks["mpn"]}
    attention = AttentionPanel(own, market, count=3)
    assert attention.error == "" and list(attention.numbers(attention.state())) == ["in its stripe of the image"]
    assert RankedList(own, market, gallery_size=40, checks=2).error == ""
    assert MisalignmentSandbox(own, market, count=3).error == ""
