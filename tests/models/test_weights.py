"""Weights of other people: wrappers, prefixes, the parts of a published network that a backbone lacks."""

import argparse
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from needs import need
from safetensors.torch import save_file

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


def put_pickle(whole, path, pickled, compression=zipfile.ZIP_STORED):
    """A file of torch.save with another pickle in it."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, pickled if pickled and name.endswith(".pkl") else old.read(name))
    return path


CLAIM = b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # 2 GB of zeros, in 30 bytes


def test_no_size_in_a_file_is_believed(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save({"w": torch.ones(3)}, whole)
    (tmp_path / "old.pth").write_bytes(CLAIM)
    torch.save({"a": torch.ones(1).expand(10**12)}, tmp_path / "wide.pth")
    for path, words in (
        (put_pickle(whole, tmp_path / "claim.pth", CLAIM), "holds a bytearray"),
        (tmp_path / "old.pth", "holds a bytearray"),  # as torch wrote before 1.6, without a zip
        (put_pickle(whole, tmp_path / "packed.pth", None, zipfile.ZIP_DEFLATED), "is compressed"),
        (tmp_path / "wide.pth", "more numbers of a than it holds"),
    ):
        with pytest.raises(CheckpointError, match=words) as error:
            read_state_dict(path)
        assert str(path) in str(error.value)


def test_a_changed_bit_is_noticed_where_there_is_a_checksum(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        read_state_dict(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, kind):
    path, state = tmp_path / f"x.{kind}", {"good": torch.ones(3), "bad": torch.tensor([1, value])}
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"not finite, in bad.*earlier checkpoint"):
        read_state_dict(path)


# ---- as ReID projects lay them out -----------------------------------------------------------------------------------


def resnet(depth):
    torch.manual_seed(1)
    net = getattr(torchvision.models, f"resnet{depth}")(num_classes=3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    return net


def trunk_of(net):
    return {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}


def torchreid(trunk):
    beside = {"fc.0.weight": torch.zeros(512, 2048), "classifier.weight": torch.zeros(751, 512)}
    state = {f"module.{k}": v for k, v in {**trunk, **beside}.items()}
    return {"state_dict": state, "epoch": 60, "rank1": np.float64(0.94), "optimizer": {"state": {}}}


def torchreid_pcb(trunk):
    heads = {f"classifier.{i}.weight": torch.zeros(751, 256) for i in range(6)}
    return {"state_dict": {**trunk, "conv5.layers.0.weight": torch.zeros(256, 2048, 1, 1), **heads}, "rank1": 0.9}


def fast_reid(trunk):
    heads = {"heads.bottleneck.0.weight": torch.ones(2048), "heads.weight": torch.zeros(751, 2048)}
    pixels = {"pixel_mean": torch.zeros(1, 3, 1, 1), "pixel_std": torch.ones(1, 3, 1, 1)}
    return {"model": {**pixels, **{f"backbone.{k}": v for k, v in trunk.items()}, **heads}, "iteration": 17}


def strong_baseline(trunk):
    beside = {"bottleneck.weight": torch.ones(2048), "classifier.weight": torch.zeros(751, 2048)}
    return {**{f"base.{k}": v for k, v in trunk.items()}, **beside}


def numbered(trunk, prefix):
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    return {f"{prefix}{names.index(k.split('.')[0])}.{k.split('.', 1)[1]}": v for k, v in trunk.items()}


def released_mpn(trunk):
    """As the released code saves it: no counters, 1x1 convolutions a part."""
    heads = {f"local_conv_list.{k}.0.weight": torch.zeros(512, 2048, 1, 1) for k in range(6)}
    state = {k: v for k, v in numbered(trunk, "base.").items() if "num_batches" not in k}
    return {**state, **heads, "Sfc_list.0.weight": torch.zeros(751, 512)}


LAYOUTS = {
    "torchreid": (torchreid, 2),
    "torchreid pcb": (torchreid_pcb, 7),
    "fast-reid": (fast_reid, 4),
    "strong baseline": (strong_baseline, 2),
    "released MPN": (released_mpn, 7),
    "a bare Sequential": (lambda trunk: numbered(trunk, ""), 0),
    "module.backbone.N": (lambda trunk: numbered(trunk, "module.backbone."), 0),
    "options beside": (lambda trunk: {"args": argparse.Namespace(lr=0.1), "net": trunk}, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_reid_projects(tmp_path, layout, capsys):
    net = resnet(18)
    make, beside = LAYOUTS[layout]
    torch.save(make(trunk_of(net)), tmp_path / "theirs.pth.tar")
    backbone = create_backbone("resnet18", pretrained=tmp_path / "theirs.pth.tar")
    state = trunk_of(net)
    assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items() if "num_batches" not in k)
    said = capsys.readouterr().out
    assert said.count("theirs.pth.tar -> resnet18") == 1 and f" {beside} left aside" in said and " 0 missing" in said


def test_the_report_tells_what_was_taken_ignored_and_missing(capsys):
    net, backbone = resnet(18), create_backbone("resnet18")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    state = {f"backbone.{k}": v for k, v in trunk_of(net).items()}
    state["heads.weight"] = torch.zeros(3, 512)
    del state["backbone.layer4.1.conv2.weight"]
    state["backbone.layer1.0.conv1.weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match=r"1 missing \['layer4\.1\.conv2\.weight'\].*1 of another shape"):
        load_backbone_weights(backbone, state)
    with pytest.raises(CheckpointError, match="98% of its tensors are there, 99% are asked for"):
        load_backbone_weights(backbone, state, least=0.99)
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())  # nothing was copied
    report = load_backbone_weights(backbone, state, least=0.9)
    assert set(report.missing) == {"layer1.0.conv1.weight", "layer4.1.conv2.weight"}
    assert set(report.ignored) == {"heads.weight", "backbone.layer1.0.conv1.weight"}
    assert len(report.taken) == len(backbone.state_dict()) - 2 and report.share == pytest.approx(118 / 120)
    assert "2 left aside" in str(report) and "2 missing (layer1.0.conv1.weight, layer4.1.conv2.weight)" in str(report)
    after = backbone.state_dict()
    for name in after:
        kept = name in report.missing
        assert torch.equal(after[name], before[name] if kept else net.state_dict()[name]), name
    assert capsys.readouterr().out == ""  # printing is the caller's


@pytest.mark.parametrize(
    ("piece", "about"),
    [("layer1.0.bn1.IN.weight", "IBN"), ("NL_2.0.g.weight", "non-local"), ("layer1.0.se.fc.0.weight", "squeeze")],
)
def test_architectures_that_the_kit_does_not_build_are_called_by_name(piece, about):
    trunk = trunk_of(resnet(18))
    state = {f"backbone.{k}": v for k, v in trunk.items()} | {f"backbone.{piece}": torch.zeros(1)}
    if about == "IBN":
        del state["backbone.layer1.0.bn1.weight"]
    with pytest.raises(CheckpointError, match=f"does not fit backbone 'resnet18'.*{about}"):
        load_backbone_weights(create_backbone("resnet18"), state)


def test_weights_of_nothing_alike_are_refused():
    state = {"conv1.conv.weight": torch.zeros(64, 3, 7, 7), "conv2.0.conv1.weight": torch.zeros(1)}  # an OSNet
    for least in (1.0, 0.5):
        with pytest.raises(CheckpointError, match="does not fit backbone 'resnet18'"):
            load_backbone_weights(create_backbone("resnet18"), state, least=least)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"w": torch.zeros(1)}, "rank1": np.float64(1), "x": Evil()}, tmp_path / "e.pth")
    with pytest.raises(CheckpointError, match="not a readable state dict"):
        read_state_dict(tmp_path / "e.pth")
    assert not (tmp_path / "ran").exists()
