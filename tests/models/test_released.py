"""The released code's checkpoints: an independent rebuild of that network must give the same numbers."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from reidkit.errors import CheckpointError
from reidkit.models import create_model, load_released_mpn
from reidkit.models.released import export_released_mpn

CLASSES, PARTS, DIM = 7, 6, 512


class ReleasedNetwork(nn.Module):
    """The network of the released code, rebuilt from its description in plain PyTorch, one module a part."""

    def __init__(self, parts=PARTS, dim=DIM, classes=CLASSES):
        super().__init__()
        resnet = torchvision.models.resnet50(weights=None)
        resnet.layer4[0].conv2.stride = resnet.layer4[0].downsample[0].stride = (1, 1)
        self.base = nn.Sequential(*list(resnet.children())[:-2])

        def block(before):
            return nn.Sequential(nn.Conv2d(before, dim, 1), nn.BatchNorm2d(dim), nn.ReLU())

        self.local_conv_list = nn.ModuleList([block(2048) for _ in range(parts)])
        self.local_conv_list2 = nn.ModuleList([block(dim) for _ in range(parts)])
        self.Sfc_list = nn.ModuleList([nn.Linear(dim, classes) for _ in range(parts)])
        self.Tfc_list = nn.ModuleList([nn.Linear(dim, classes) for _ in range(parts)])

    def forward(self, images):
        maps = self.base(images)
        height = maps.shape[2] // len(self.local_conv_list)
        main, aux = [], []
        for k, (conv1, conv2) in enumerate(zip(self.local_conv_list, self.local_conv_list2)):
            stripe = maps[:, :, k * height : (k + 1) * height]
            for source, features in ((maps, main), (stripe, aux)):
                features.append(conv2(F.adaptive_max_pool2d(conv1(source), 1)).flatten(1))
        main_logits = [fc(f) for fc, f in zip(self.Sfc_list, main)]
        aux_logits = [fc(f) for fc, f in zip(self.Tfc_list, aux)]
        return torch.cat(main, 1), torch.cat(aux, 1), torch.stack(main_logits), torch.stack(aux_logits)


@pytest.fixture(scope="module")
def released():
    """Random weights, and running statistics as after some training."""
    torch.manual_seed(0)
    net = ReleasedNetwork()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def checkpoint(released, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "net_69.pth"
    torch.save(released.state_dict(), path)
    return path


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_features_and_logits_are_reproduced(released, checkpoint, dtype, tolerance):
    """Equal up to the order of summation: the difference shrinks with the precision of the numbers."""
    images = torch.randn(2, 3, 192, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    reference = copy.deepcopy(released).to(dtype)
    h, g, main_logits, aux_logits = reference(images)
    model = load_released_mpn(checkpoint, num_classes=CLASSES)
    assert not model.training and model.num_classes == CLASSES and not model.needs_prior
    model.to(dtype)
    maps = model.feature_maps(images)
    assert torch.equal(maps, reference.base(images))
    out = model.heads(maps, with_aux=True)
    for ours, theirs in (
        (out.embedding, h),
        (out.aux.embedding, g),
        (out.logits, main_logits),
        (out.aux.logits, aux_logits),
        (model.embed(images), h),
    ):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
    assert h.std(0).mean() > 0.01  # the comparison is not of zeros


def test_training_mode_agrees_too(released, checkpoint):
    """Batch statistics, and running statistics that mix both tasks' inputs, part after part."""
    images = torch.randn(4, 3, 96, 32)
    model = load_released_mpn(checkpoint)
    model.train()
    try:
        h, g, *_ = released.train()(images)
        out = model(images)
        torch.testing.assert_close(out.embedding, h, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(out.aux.embedding, g, atol=1e-3, rtol=1e-3)
        means = torch.cat([m[1].running_mean for m in released.local_conv_list])
        torch.testing.assert_close(model.conv1.norm.running_mean, means, atol=1e-5, rtol=1e-4)
    finally:
        released.load_state_dict(torch.load(checkpoint, weights_only=True))
        released.eval()


@pytest.mark.parametrize("kind", ["module.", "wrapped", "both"])
def test_prefixes_and_wrappers(kind, checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    changed = state if kind == "wrapped" else {f"module.{k}": v for k, v in state.items()}
    torch.save(changed if kind == "module." else {"state_dict": changed, "epoch": 69}, tmp_path / "net.pth")
    model = load_released_mpn(tmp_path / "net.pth")
    assert model.num_classes == CLASSES
    assert torch.equal(model.conv2.conv.weight[3], state["local_conv_list2.3.0.weight"].flatten(1))


def test_export_is_what_the_released_code_loads(released, checkpoint, tmp_path):
    model = load_released_mpn(checkpoint)
    exported, original = export_released_mpn(model), released.state_dict()
    assert set(exported) == {k for k in original if "num_batches_tracked" not in k}
    assert all(torch.equal(v, original[k]) for k, v in exported.items())
    ReleasedNetwork().load_state_dict(exported)  # strict
    torch.save(exported, tmp_path / "again.pth")
    again = load_released_mpn(tmp_path / "again.pth").state_dict()
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


def test_export_of_a_trained_prior_variant_and_of_others():
    model = create_model("mpn-no-ca", 5, backbone="resnet50", part_dim=16, num_parts=2)
    assert export_released_mpn(model)["local_conv_list.1.0.weight"].shape == (16, 2048, 1, 1)
    for name, backbone in (
        ("mpn", "resnet50"),
        ("naive-mtl", "resnet50"),
        ("mpn-no-ca", "resnet18"),
        ("ide", "resnet50"),
    ):
        with pytest.raises(CheckpointError, match="no place in the released layout"):
            export_released_mpn(create_model(name, 5, backbone=backbone, part_dim=8))


def test_foreign_and_damaged_checkpoints_are_reported(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="trained with 7 classes, not num_classes=751"):
        load_released_mpn(checkpoint, num_classes=751)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_released_mpn(tmp_path / "missing.pth")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"resnet\.pth is not a state dict of the released MPN code"):
        load_released_mpn(tmp_path / "resnet.pth")
    state = torch.load(checkpoint, weights_only=True)
    del state["Tfc_list.5.bias"]
    state["base.9.weight"] = torch.zeros(1)
    state["local_conv_list2.0.0.weight"] = torch.zeros(512, 256, 1, 1)
    torch.save(state, tmp_path / "mixed.pth")
    with pytest.raises(CheckpointError) as error:
        load_released_mpn(tmp_path / "mixed.pth")
    for part in (
        "1 missing ['Tfc_list.5.bias']",
        "1 unexpected ['base.9.weight']",
        "local_conv_list2.0.0.weight (512, 256, 1, 1), expected (512, 512, 1, 1)",
    ):
        assert part in str(error.value)
