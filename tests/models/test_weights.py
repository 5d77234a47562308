"""Weights of other people: wrappers, prefixes, the parts of a published network that a backbone lacks."""

import subprocess
import sys

import pytest
import torch
import torchvision
from needs import need

from reidkit.errors import CheckpointError
from reidkit.models import create_backbone, create_model
from reidkit.models.backbones import _timm_features, load_backbone_weights, read_state_dict

PREFIXES = [
    "",
    "module.",
    "model.",
    "_orig_mod.",
    "backbone.",
    "base.",
    "module.model.",
    "_orig_mod.module.backbone.",
    "model.backbone.base.",
]


def same(backbone, state, rename=lambda key: key) -> bool:
    return all(torch.equal(value, state[rename(key)]) for key, value in backbone.state_dict().items())


# ---- timm ------------------------------------------------------------------------------------------------------------

NETWORKS = [
    ("tf_efficientnet_lite0", 64, "conv_head"),
    ("mobilenetv3_small_100", 64, "conv_head"),
    ("convnext_atto", 64, "head.norm"),
    ("resnet18", 64, "fc"),
    ("ghostnet_050", 64, "blocks.9"),
    ("test_vit", 160, "norm"),
    ("pit_ti_224", 224, "head"),
]


def published(name: str, path, classes: int = 1000) -> dict[str, torch.Tensor]:
    """A checkpoint as timm publishes it: the whole network, here with random weights."""
    timm = need("timm")
    torch.manual_seed(1)
    net = timm.create_model(name, pretrained=False, num_classes=classes)
    for module in net.modules():  # so that statistics differ from a new network's too
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    torch.save(net.state_dict(), path)
    return net.state_dict()


@pytest.mark.parametrize(("name", "side", "rest"), NETWORKS)
def test_a_published_timm_checkpoint_equals_timms_own_loading(tmp_path, name, side, rest):
    timm = need("timm")
    state = published(name, tmp_path / "net.pth")
    assert any(key.startswith(rest) for key in state)
    backbone = create_backbone(f"timm:{name}", pretrained=str(tmp_path / "net.pth")).eval()
    _, options = _timm_features(timm, f"timm:{name}")
    source = {"file": str(tmp_path / "net.pth"), "num_classes": 1000}
    reference = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source, **options).eval()
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(backbone(images), reference(images)[-1])


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto"])
def test_timm_checkpoints_below_prefixes(tmp_path, name, prefix):
    state = published(name, tmp_path / "net.pth", classes=3)
    torch.save({"epoch": 3, "state_dict": {prefix + k: v for k, v in state.items()}}, tmp_path / "wrapped.pth")
    plain = create_backbone(f"timm:{name}", pretrained=tmp_path / "net.pth")
    assert same(create_backbone(f"timm:{name}", pretrained=tmp_path / "wrapped.pth"), plain.state_dict())


def test_a_timm_ide_gives_its_backbone(tmp_path):
    need("timm")
    torch.manual_seed(2)
    ide = create_model("ide", 5, backbone="timm:convnext_atto", pretrained=False)
    torch.save(ide.state_dict(), tmp_path / "ide.pth")
    loaded = create_backbone("timm:convnext_atto", pretrained=tmp_path / "ide.pth")
    assert same(loaded, ide.backbone.state_dict())


def test_a_timm_checkpoint_that_does_not_fit_is_told_apart(tmp_path):
    state = published("tf_efficientnet_lite0", tmp_path / "net.pth")
    for other in ("mobilenetv3_small_100", "tf_efficientnet_lite1", "convnext_atto"):
        with pytest.raises(CheckpointError, match=rf"net\.pth does not fit backbone 'timm:{other}'.*missing"):
            create_backbone(f"timm:{other}", pretrained=tmp_path / "net.pth")
    backbone = create_backbone("timm:tf_efficientnet_lite0")
    with pytest.raises(CheckpointError, match=r"1 unexpected \['blocks\.99\.conv_x\.weight'\], 0 of another"):
        load_backbone_weights(backbone, state | {"blocks.99.conv_x.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"1 missing \['features\.net\.conv_stem\.weight'\], 0 unexpected"):
        load_backbone_weights(backbone, {k: v for k, v in state.items() if k != "conv_stem.weight"})
    with pytest.raises(CheckpointError, match=r"1 of another shape \['features\.net\.bn1\.weight \(7,\), expected"):
        load_backbone_weights(backbone, state | {"bn1.weight": torch.zeros(7)})


# ---- torchvision and the small backbone ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
def test_torchvision_checkpoints_below_prefixes(tmp_path, prefix):
    torch.manual_seed(1)
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    beside = {"ema.decay": torch.zeros(1), "heads.bnneck.weight": torch.zeros(3)} if "b" in prefix else {}
    torch.save({"model": {prefix + k: v for k, v in state.items()} | beside}, tmp_path / "net.pth")
    assert same(create_backbone("resnet18", pretrained=tmp_path / "net.pth"), state)


def test_a_larger_resnet_does_not_pass_for_a_smaller_one():
    """Every tensor of ResNet-18 is in ResNet-34 too, by name and shape."""
    state = torchvision.models.resnet34().state_dict()
    with pytest.raises(CheckpointError, match=r"0 missing.*unexpected \['layer1\.2\.conv1\.weight'"):
        load_backbone_weights(create_backbone("resnet18"), state)
    with pytest.raises(CheckpointError, match="1 unexpected"):
        small = create_backbone("small")
        load_backbone_weights(small, small.state_dict() | {"layer5.weight": torch.zeros(1)})


# ---- wrappers --------------------------------------------------------------------------------------------------------


def test_a_dict_that_holds_itself_does_not_hang(tmp_path):
    loop = {}
    loop["a"] = loop
    two = {"x": {}}
    two["x"]["y"] = two
    for name, content in (("one", loop), ("two", two)):
        torch.save(content, tmp_path / f"{name}.pth")
    code = (
        "import sys; from reidkit.models.backbones import read_state_dict\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_state_dict(path)\n"
        "    except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one.pth"), str(tmp_path / "two.pth")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.count("CheckpointError") == 2 and done.stdout.count("holds no tensors") == 2, done.stderr
    loop["model"] = {"module.w": torch.ones(2)}
    torch.save(loop, tmp_path / "one.pth")
    assert read_state_dict(tmp_path / "one.pth").keys() == {"w"}


def test_the_weights_are_found_among_other_things(tmp_path):
    state = create_backbone("small").state_dict()
    momentum = {i: {"exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)} for i in range(500)}
    content = {
        "args": {f"option{i}": i for i in range(300)},
        "mean": torch.zeros(3),
        "optimizer": {"state": momentum, "param_groups": []},
        "net": {"inner": {f"_orig_mod.module.{k}": v for k, v in state.items()}},
    }
    torch.save(content, tmp_path / "x.pth")
    assert read_state_dict(tmp_path / "x.pth").keys() == state.keys()
    assert same(create_backbone("small", pretrained=tmp_path / "x.pth"), state)
    for nothing in ({}, {"a": 1}, [torch.zeros(1)], {0: torch.zeros(1)}, torch.zeros(1)):
        torch.save(nothing, tmp_path / "no.pth")
        with pytest.raises(CheckpointError, match="holds no tensors"):
            read_state_dict(tmp_path / "no.pth")
