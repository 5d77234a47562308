"""Backbones: strides, the cut for branches, weights from everywhere, RGA-S against loops."""

import copy
from urllib.error import URLError

import pytest
import torch
import torchvision
from needs import need
from safetensors.torch import save_file

from reidkit.errors import CheckpointError, ReIDKitError, UnknownNameError
from reidkit.models import create_backbone, create_model
from reidkit.models.backbones import load_backbone_weights, read_state_dict
from reidkit.models.rga import SpatialRelationAttention


def images(height=64, width=32, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [("small", 128, 8), ("resnet18", 512, 16), ("resnet34", 512, 16), ("resnet50", 2048, 16)],
)
def test_maps_have_the_announced_size_and_the_cut_is_exact(name, channels, stride):
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        maps = backbone(images())
        shared, tail = backbone.split()
        assert torch.equal(tail(shared(images())), maps)
    assert (backbone.channels, backbone.stride) == (channels, stride)
    assert maps.shape == (2, channels, 64 // stride, 32 // stride)
    ours = {id(p) for p in backbone.parameters()}
    assert {id(p) for part in (shared, tail) for p in part.parameters()} == ours


def test_resnet50_is_cut_after_res_conv4_1():
    shared, tail = create_backbone("resnet50").split()
    assert len(shared.layer3) == 1 and [n for n, _ in tail.layer3.named_children()] == ["1", "2", "3", "4", "5"]
    assert [n for n, _ in tail.named_children()] == ["layer3", "layer4"]
    branches = [copy.deepcopy(tail) for _ in range(2)]
    assert branches[0].layer4[0].conv1.weight is not branches[1].layer4[0].conv1.weight


def test_small_sizes_of_the_quick_preset():
    assert create_backbone("small").eval()(images(144, 48)).shape == (2, 128, 18, 6)
    assert sum(p.numel() for p in create_backbone("small").parameters()) < 500_000


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_only_the_last_stride_differs_from_torchvision(name, tmp_path):
    torch.manual_seed(1)
    net = torchvision.models.get_model(name, weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    backbone = create_backbone(name, pretrained=str(tmp_path / "net.pth")).eval()
    first = net.layer4[0]
    with torch.no_grad():
        (first.conv1 if name == "resnet18" else first.conv2).stride = (1, 1)
        first.downsample[0].stride = (1, 1)
        pooled = net.fc(backbone(images()).mean((2, 3)))
        torch.testing.assert_close(pooled, net(images()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["wrapped", "module.", "safetensors", "ide run"])
def test_weights_from_files(kind, tmp_path):
    torch.manual_seed(1)
    source = create_backbone("small")
    state, path = source.state_dict(), tmp_path / "weights.pth"
    if kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif kind == "module.":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    elif kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    else:
        path = tmp_path / "model.safetensors"
        ide = create_model("ide", 5, backbone="small", pretrained=False)
        ide.backbone.load_state_dict(state)
        save_file(ide.state_dict(), path)
    loaded = create_backbone("small", pretrained=path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


def test_mpn_with_rga_starts_from_an_ide_without():
    ide = create_model("ide", 5, backbone="small")
    mpn = create_model("mpn-rga", 5, backbone="small", part_dim=8, spatial_attention="rga:48x16")
    mpn.load_backbone(ide.backbone.state_dict())
    assert torch.equal(mpn.backbone.layer4[0].conv1.weight, ide.backbone.layer4[0].conv1.weight)


def test_bad_weight_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        create_backbone("small", pretrained="nowhere/weights.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match=r"cut\.pth is not a readable state dict"):
        create_backbone("small", pretrained=tmp_path / "cut.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_state_dict(tmp_path / "empty.pth")
    torch.save(create_backbone("small"), tmp_path / "object.pth")  # a pickled model runs code when read
    with pytest.raises(CheckpointError, match="state_dict"):
        create_backbone("small", pretrained=tmp_path / "object.pth")
    torch.save(create_backbone("resnet18").state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth does not fit backbone 'small'.*missing.*unexpected.*shape"):
        create_backbone("small", pretrained=tmp_path / "other.pth")
    state = create_backbone("small").state_dict()
    del state["layer2.0.conv1.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \['layer2\.0\.conv1\.weight'\]"):
        load_backbone_weights(create_backbone("small"), state)


def test_impossible_downloads_say_where_the_file_is(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    for pretrained in (True, "IMAGENET1K_V2"):
        with pytest.raises(
            CheckpointError, match=r"no route to host.*https://.*resnet50.*pretrained='path/to/resnet50"
        ):
            create_backbone("resnet50", pretrained=pretrained)
    with pytest.raises(CheckpointError, match="no published weights"):
        create_backbone("small", pretrained=True)


def test_torchvision_weights_by_name(monkeypatch):
    torch.manual_seed(1)
    published, asked = torchvision.models.resnet18().state_dict(), []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **kwargs: asked.append(url) or published
    )
    backbone = create_backbone("resnet18", pretrained="IMAGENET1K_V1")
    assert torch.equal(backbone.layer4[1].conv2.weight, published["layer4.1.conv2.weight"])
    assert create_backbone("resnet18", pretrained=True) is not None and asked[0] == asked[1]
    with pytest.raises(UnknownNameError, match="IMAGENET1K_V1"):
        create_backbone("resnet18", pretrained="IMAGENET1K_V9")


def test_unknown_backbones_list_the_choices():
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        create_backbone("resnet-50")
    with pytest.raises(UnknownNameError, match="convnext"):
        create_backbone("timm:convnext_tiniest")


# ---- timm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", (64, 32)), ("mobilenetv3_small_050", (64, 32)), ("test_vit", (160, 160))]
)
def test_timm_backbones(name, size):
    need("timm")
    backbone = create_backbone(f"timm:{name}").eval()
    with torch.no_grad():
        maps = backbone(images(*size))
    assert backbone.stride == 16
    assert maps.shape == (2, backbone.channels, size[0] // 16, size[1] // 16)


def test_timm_resnets_can_be_split_and_others_say_why_not():
    timm = need("timm")
    backbone = create_backbone("timm:resnet18").eval()
    shared, tail = backbone.split()
    with torch.no_grad():
        assert torch.equal(tail(shared(images())), backbone(images()))
        reference = timm.create_model("resnet18", features_only=True, output_stride=16, out_indices=(4,)).eval()
        reference.load_state_dict(backbone.state_dict())
        assert torch.equal(reference(images())[0], backbone(images()))
    with pytest.raises(ReIDKitError, match=r"'timm:test_vit' cannot be split into branches.*chain of stages"):
        create_backbone("timm:test_vit").split()


def test_timm_weights_from_a_file(tmp_path):
    timm = need("timm")
    torch.manual_seed(1)
    for name in ("resnet10t", "mobilenetv3_small_050"):
        net = timm.create_model(name, features_only=True)
        torch.save(net.state_dict(), tmp_path / "net.pth")
        backbone = create_backbone(f"timm:{name}", pretrained=str(tmp_path / "net.pth"))
        weights = dict(net.named_parameters())
        for key, value in backbone.named_parameters():
            assert torch.equal(value, weights[key.removeprefix("features.net.")])
    with pytest.raises(CheckpointError, match="chosen by the model's name"):
        create_backbone("timm:resnet10t", pretrained="IMAGENET1K_V1")


def test_timm_without_weights_to_download(monkeypatch):
    timm = need("timm")
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("cannot reach the hub")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"cannot reach the hub.*path of the file"):
        create_backbone("timm:resnet10t", pretrained=True)


# ---- RGA-S ----------------------------------------------------------------------------------------------------------


def test_rga_equals_the_loops():
    torch.manual_seed(0)
    module, x = SpatialRelationAttention(16, (4, 4)).eval(), torch.randn(2, 16, 4, 4)

    def layer(sequence, vector):  # 1x1 conv and BN in its initial state, on one position
        return sequence[0].weight[:, :, 0, 0] @ vector / (1 + 1e-5) ** 0.5

    for b in range(2):
        nodes = [x[b, :, i // 4, i % 4] for i in range(16)]
        theta = [layer(module.theta, v).relu() for v in nodes]
        phi = [layer(module.phi, v).relu() for v in nodes]
        for i in range(16):
            out = torch.stack([theta[i] @ phi[j] for j in range(16)])
            back = torch.stack([theta[j] @ phi[i] for j in range(16)])
            relation = layer(module.embed_relation, torch.cat([out, back])).relu()
            own = layer(module.embed_feature, nodes[i]).relu().mean()
            hidden = layer(module.weigh[0], torch.cat([own[None], relation])).relu()
            weight = layer(module.weigh[1], hidden).sigmoid()
            torch.testing.assert_close(module(x)[b, :, i // 4, i % 4], nodes[i] * weight)


def test_rga_follows_each_stage_and_wants_its_image_size():
    backbone = create_backbone("small", spatial_attention="rga:96x32").eval()
    names = [n for n, _ in backbone.named_children()]
    assert names[3:] == ["layer1", "rga1", "layer2", "rga2", "layer3", "rga3", "layer4", "rga4"]
    assert backbone.rga1.size == (48, 16) and backbone.rga4.size == (12, 4)
    shared, tail = backbone.split()
    with torch.no_grad():
        assert torch.equal(tail(shared(images(96, 32))), backbone(images(96, 32)))
        with pytest.raises(ReIDKitError, match="rga:HxW"):
            backbone(images(64, 32))
    with pytest.raises(UnknownNameError, match="rga:HEIGHTxWIDTH"):
        create_backbone("small", spatial_attention="cbam")
    with pytest.raises(ReIDKitError, match="layer1"):
        create_backbone("timm:mobilenetv3_small_050", spatial_attention="rga:64x32")


def test_rga_on_resnet50_has_the_sizes_of_its_paper():
    backbone = create_backbone("resnet50", spatial_attention="rga")
    assert [getattr(backbone, f"rga{i}").size for i in range(1, 5)] == [(96, 32), (48, 16), (24, 8), (24, 8)]
    assert backbone.rga4.theta[0].out_channels == 256 and backbone.rga4.embed_relation[0].in_channels == 384


def test_small_backbone_with_another_last_width():
    """CGPN's quick recipe: three copies of the last stage, so that stage is narrower."""
    narrow, usual = create_backbone("small-96"), create_backbone("small")
    assert narrow(torch.zeros(1, 3, 144, 48)).shape == (1, 96, 18, 6) and narrow.name == "small-96"
    same = {k for k, v in usual.state_dict().items() if narrow.state_dict()[k].shape == v.shape}
    assert {k for k in usual.state_dict() if not k.startswith("layer4")} <= same
    for wrong in ("small-", "small-0", "small-x", "96"):
        with pytest.raises(ReIDKitError, match="unknown backbone"):
            create_backbone(wrong)
