"""Where backbones are cut for branches: by their strides, exactly, and the last down-sampling put back for MGN."""

import copy
from collections import OrderedDict

import pytest
import torch
from needs import need
from torch import nn

from reidkit.errors import ReIDKitError
from reidkit.models import create_backbone, create_model
from reidkit.models.branches import BranchedModel
from reidkit.models.cut import find_cut
from reidkit.models.stages import Backbone

CUTS = {  # the first block of the stage that reaches stride 16, in the networks' own names
    "lite0": "blocks_3.0",
    "lite2-s32": "blocks_3.0",
    "timm:resnet10t": "layer3.0",
    "timm:resnet26d": "layer3.0",
    "timm:seresnet18": "layer3.0",
    "timm:resnetblur18": "layer3.0",
    "timm:resnetv2_18": "features.net.stages_2.blocks.0",
    "timm:regnetx_002": "features.net.s3.b1",
    "timm:efficientnet_b0": "features.net.blocks.3.0",
    "timm:tf_efficientnet_lite0": "features.net.blocks.3.0",
    "timm:tf_efficientnetv2_b0": "features.net.blocks.3.0",
    "timm:mobilenetv2_050": "features.net.blocks.3.0",
    "timm:mobilenetv3_small_050": "features.net.blocks.2.0",
    "timm:mobilenetv4_conv_small": "features.net.blocks.2.0",
    "timm:convnext_atto": "features.net.stages_2.blocks.0",
    "timm:test_convnext": "features.net.stages_2.blocks.0",
    "timm:vgg11_bn": "features.net.features_21",  # no blocks: after the pooling itself
}
IN_MGN = ("timm:resnet10t", "timm:resnet26d", "timm:resnetblur18", "timm:efficientnet_b0", "timm:tf_efficientnet_lite0")
IN_MGN += ("timm:mobilenetv3_small_050", "timm:convnext_atto", "timm:regnetx_002", "lite0", "lite0-s8")


def images(height=64, width=32, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def built(name):
    need("timm")
    torch.manual_seed(0)
    backbone = create_backbone(name).eval()
    for module in backbone.modules():  # layer scales of 1e-6 and norms of zero would hide what a block does
        for own in module.parameters(recurse=False):
            if own.ndim == 1:
                nn.init.uniform_(own, 0.5, 1.5)
    return backbone


@pytest.mark.parametrize("name", CUTS)
def test_the_cut_is_after_the_first_block_of_stride_16(name):
    backbone = built(name)
    modes = [m.training for m in backbone.modules()]
    assert backbone.split_at == CUTS[name] == find_cut(backbone, name)
    assert [m.training for m in backbone.modules()] == modes
    shared, tail = backbone.split()
    with torch.no_grad():
        trunk = shared(images())
        assert trunk.shape[2:] == (4, 2)
        assert torch.equal(tail(trunk), backbone(images()))
    assert {id(p) for p in backbone.parameters()} == {id(p) for part in (shared, tail) for p in part.parameters()}
    assert list(shared.state_dict()) + list(tail.state_dict()) == list(backbone.state_dict())


@pytest.mark.parametrize("name", ["small", "resnet18", "resnet50"])
def test_the_rule_finds_the_cut_that_resnets_are_given(name):
    backbone = create_backbone(name)
    assert find_cut(backbone, name) == backbone.split_at == "layer3.0"


def test_cuts_of_shortened_and_finer_lite_networks():
    need("timm")
    fine, front = create_backbone("lite0-s8"), create_backbone("lite0-40")
    assert fine.split_at == "blocks_3.0"  # as in lite0, though its map stops at stride 8 before
    assert front.split_at == "blocks_2.0"  # the front ends at stride 8


def test_the_same_without_numbers():
    need("timm")
    with torch.device("meta"):
        model = create_model("cgpn", 5, backbone="timm:convnext_atto")
        assert model.split_at == "features.net.stages_2.blocks.0"
    with torch.inference_mode():
        assert create_backbone("timm:mobilenetv3_small_050").split_at == "features.net.blocks.2.0"


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:convnext_atto", "lite0-112"])
@pytest.mark.parametrize("variant", ["cgpn", "mgn"])
def test_branches_are_copies_of_the_tail(variant, name):
    backbone = built(name)
    model = create_model(variant, 5, backbone=name, reduced_dim=8)
    assert isinstance(model, BranchedModel) and f"split_at={backbone.split_at!r}" in repr(model)
    model.load_backbone(backbone.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.eval().feature_maps(images(96, 64))[-1], backbone(images(96, 64)))
    assert model.embed(images(96, 64)).shape == (2, 8 * model.num_parts)
    model.train()(images(96, 64)).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "lite0-112", "timm:resnet10t"])
def test_pyramid_and_its_relatives_take_any_backbone(name):
    need("timm")
    for variant in ("pyramid", "pcb", "mpn"):
        model = create_model(variant, 5, backbone=name).eval()
        assert model.embed(images(128, 64)).shape[0] == 2


@pytest.mark.parametrize("name", IN_MGN)
def test_the_global_branch_of_mgn_is_the_published_network(name):
    """Its map is that of the network with the strides (and without the dilations) that it was published with."""
    timm = need("timm")
    backbone = built(name)
    model = create_model("mgn", 5, backbone=name, reduced_dim=8).eval()
    model.load_backbone(backbone.state_dict())
    if name.startswith("timm:"):
        published = timm.create_model(name.removeprefix("timm:"), features_only=True, out_indices=(-1,)).eval()
        state = {k.removeprefix("features.net."): v for k, v in backbone.state_dict().items()}
    else:
        published = create_backbone({"lite0": "lite0-s32", "lite0-s8": "lite0-s8"}[name]).eval()
        state = backbone.state_dict()
        if name == "lite0-s8":
            published.blocks_5[0].conv_dw.stride = (2, 2)
    published.load_state_dict(state)
    with torch.no_grad():
        coarse, *fine = model.feature_maps(images(128, 64))
        wanted = published(images(128, 64))
        torch.testing.assert_close(coarse, wanted[-1] if isinstance(wanted, list) else wanted)
        for maps in fine:
            torch.testing.assert_close(maps, backbone(images(128, 64)))
    assert tuple(2 * side for side in coarse.shape[2:]) == tuple(fine[0].shape[2:])


class Skip(nn.Module):
    """Two blocks of one module, with something between that a chain of modules does not show."""

    def __init__(self, between):
        super().__init__()
        self.one, self.two = block(8, 8, 2), block(8, 8)
        self.between = between

    def forward(self, x):
        y = self.one(x)
        return self.between(self.two, x, y)


def block(before, after, stride=1):
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.ReLU(inplace=True), nn.Conv2d(after, after, 1))


def network(last):
    stages = OrderedDict(stem=nn.Conv2d(3, 8, 3, 4, 1), body=nn.Sequential(block(8, 8, 2)), last=last)
    return Backbone(stages, name="probe", channels=8, stride=16)


@pytest.mark.parametrize(
    "between",
    [
        lambda two, x, y: two(y) + y,  # a shortcut
        lambda two, x, y: two(y).relu_(),  # a change in place
        lambda two, x, y: two(y.mul_(2)),
        lambda two, x, y: two(y * 2),
        lambda two, x, y: two(two(y)),  # used twice
        lambda two, x, y: y,  # not used
    ],
)
def test_what_is_no_chain_stays_whole(between):
    """The map reaches stride 16 inside of a module that cannot be opened, and nothing is left for the branches."""
    with pytest.raises(ReIDKitError, match=r"'probe' cannot be split into branches.*ends with 'last'"):
        network(Skip(between)).split()


def test_a_module_that_is_a_chain_is_opened():
    backbone = network(Skip(lambda two, x, y: two(y)))
    assert backbone.split_at == "last.one"
    shared, tail = backbone.split()
    assert torch.equal(tail(shared(images())), backbone(images()))
    branches = [copy.deepcopy(tail) for _ in range(2)]
    assert branches[0].last.two[0].weight is not branches[1].last.two[0].weight


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:hrnet_w18_small", "timm:coat_tiny"])
def test_networks_that_are_no_chains_say_so(name):
    need("timm")
    for variant in ("cgpn", "mgn"):
        with pytest.raises(ReIDKitError, match=f"{name}.*cannot be split into branches.*chain of stages"):
            create_model(variant, 5, backbone=name)
