"""Networks and data sets as panels use them: kept features, earlier layers, priors, photographs."""

import shutil
from dataclasses import replace

import pytest
import torch
from needs import need
from safetensors.torch import save_file

for package in ("ipywidgets", "anywidget", "pytorch_grad_cam"):
    need(package)
from reidkit.data import load_dataset
from reidkit.data.images import relative_path
from reidkit.errors import PriorError, ReIDKitError
from reidkit.panels.attention_panel import AttentionPanel
from reidkit.panels.kit.layers import LAST, at_layer, layer_names
from reidkit.panels.kit.runs import _kept, open_runs
from reidkit.panels.misalignment import MisalignmentSandbox
from reidkit.panels.ranked_list import RankedList


def small_market(sidewalk, root):
    """The crops of a rendered set as photographs in Market-1501's layout, below `root`."""
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        shutil.copytree(sidewalk.root / folder, root / "Market-1501-v15.09.15" / folder)
    return load_dataset("market1501", root=root)


def test_features_are_kept_on_disk(networks, sidewalk_tiny):
    name = "mpn"
    first = open_runs({name: networks[name]}, sidewalk_tiny)[name]
    features = first.features(sidewalk_tiny.query)
    second = open_runs({name: networks[name]}, sidewalk_tiny)[name]
    second.model = None  # must not be needed
    second.__class__ = type("Kept", (type(second),), {"num_parts": first.num_parts})
    assert torch.equal(second.features(sidewalk_tiny.query), features)


def test_kept_features_follow_changed_images(networks, sidewalk_tiny, tmp_path):
    dataset = small_market(sidewalk_tiny, tmp_path)
    table = dataset.query.iloc[:3]
    open_again = lambda: open_runs({"mpn": networks["mpn"]}, dataset)["mpn"]  # noqa: E731
    before = open_again().features(table)
    assert torch.equal(open_again().features(table), before)
    shutil.copy(table.path.iloc[2], table.path.iloc[0])  # another picture under the first one's name
    after = open_again().features(table)
    assert torch.equal(after[0], after[2]) and torch.equal(after[1:], before[1:]) and not torch.equal(after, before)


def test_kept_features_follow_changed_priors(sidewalk_tiny, tmp_path):
    from reidkit.models import create_model
    from reidkit.panels.kit.runs import PanelRun
    from reidkit.priors import build_priors
    from reidkit.training import recipe_for

    dataset, table = replace(sidewalk_tiny, cache_dir=tmp_path), sidewalk_tiny.query.iloc[:3]
    model = create_model("baseline-ub", 24, backbone="small", part_dim=16, num_parts=3).eval()
    recipe = recipe_for("baseline-ub", "smoke")
    (tmp_path / "ub").mkdir()
    (weights := tmp_path / "ub" / "model.safetensors").touch()
    priors = build_priors(sidewalk_tiny, grid=(12, 4), splits="all", progress=False)
    row = priors.paths.index(relative_path(table.path.iloc[1], dataset.root))
    top = priors.top.copy()
    top[row] = priors.bottom[row] - 0.3
    moved = replace(priors, top=top)
    first, same, second = (
        PanelRun("ub", model, recipe, dataset, p, weights).features(table) for p in (priors, priors, moved)
    )
    assert torch.equal(first, same)
    assert torch.equal(first[[0, 2]], second[[0, 2]]) and not torch.equal(first[1], second[1])


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
    market = small_market(sidewalk_tiny, tmp_path)
    own = {"mine": networks["mpn"]}
    attention = AttentionPanel(own, market, count=3)
    assert attention.error == "" and list(attention.numbers(attention.state())) == ["in its stripe of the image"]
    assert RankedList(own, market, gallery_size=40, checks=2).error == ""
    assert MisalignmentSandbox(own, market, count=3).error == ""
