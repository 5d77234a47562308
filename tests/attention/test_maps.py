"""Part attention maps against K plain passes of the grad-cam package; the model comes back as it was."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from attention_networks import SIZE, make_images, make_model, prior_for
from counting import images_seen
from needs import need
from torch import nn

from reidkit.attention import METHODS, attention_from_maps, part_attention, predicted_classes, similarity_attention
from reidkit.attention.cam import to_image_size
from reidkit.bench.attention import plain_passes
from reidkit.errors import PriorError, ReIDKitError, UnknownNameError
from reidkit.models import create_model
from reidkit.priors import PriorBatch


@pytest.mark.parametrize(
    "name", ["mpn-no-ca", "mpn", "baseline", "baseline-ub", "cgpn", "mgn", "pcb", "ide", "pyramid"]
)
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_equals_plain_passes(name, method):
    model, images = make_model(name), make_images()
    prior = prior_for(model)
    ours = part_attention(model, images, method, prior)
    assert ours.shape == (2, model.num_parts, *SIZE) and ours.dtype == torch.float32
    assert ours.min() >= 0 and ours.max() <= 1 and ours.amax((2, 3)).median() > 0.99
    plain = plain_passes(model, images, method, prior)
    assert (ours - plain).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("name", "method"), [*(("mpn", m) for m in METHODS), *(("cgpn", m) for m in METHODS if m != "scorecam")]
)
def test_every_method_equals_plain_passes(name, method):
    model, images = make_model(name), make_images(2, (48, 16))
    ours = part_attention(model, images, method)
    assert ours.isfinite().all() and (ours - plain_passes(model, images, method)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["baseline-ub", "cgpn"])
def test_score_cam_shares_its_passes(name, monkeypatch):
    """The network runs once a channel and map, not once a channel and part; priors follow the masked copies."""
    model, images = make_model(name), make_images(2, (48, 16))
    prior = prior_for(model)
    if prior is not None:
        prior = prior._replace(mask=prior.mask[:, ::2, ::2])
    seen, whole = [], model.feature_maps
    monkeypatch.setattr(model, "feature_maps", lambda x: seen.append(len(x)) or whole(x))
    parts = [0, 3, 1] if name == "baseline-ub" else [3, 0, 4]  # cgpn: the same branch for all three
    ours = part_attention(model, images, "scorecam", prior, parts=parts)
    assert sum(seen) == 2 + 2 * (1 + 128)  # both images; then for each: itself and its 128 masked copies
    prior = prior and PriorBatch(*(t[1:] for t in prior))
    alone = part_attention(model, images[1:], "scorecam", prior, parts=[parts[2]])
    torch.testing.assert_close(ours[1:, 2:], alone, rtol=1e-3, atol=1e-4)


def test_given_classes():
    model, images = make_model("mpn"), make_images()
    predicted = predicted_classes(model, images)
    assert predicted.shape == (2, 6)
    torch.testing.assert_close(part_attention(model, images), part_attention(model, images, classes=predicted))
    classes = torch.tensor([3, 5])
    ours = part_attention(model, images, classes=classes)
    assert (ours - plain_passes(model, images, classes=classes)).abs().max() < 1e-3
    assert (ours - part_attention(model, images)).abs().max() > 0.1


def test_scaling_is_the_packages():
    from pytorch_grad_cam.utils.image import scale_cam_image

    cams = np.random.default_rng(0).random((4, 12, 4)).astype(np.float32)
    cams[1] = 0
    cams[2] *= 1e-6  # here the package's 1e-7 shows
    expected = scale_cam_image(scale_cam_image(cams, (32, 96)))
    np.testing.assert_allclose(to_image_size(torch.from_numpy(cams), (96, 32)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "scorecam"])
@pytest.mark.parametrize("name", ["mpn", "cgpn"])
def test_one_backbone_pass_for_all_parts(name, method):
    """What makes it fast (`reidkit bench attention` says how fast): K plain passes need K, and K backward passes."""
    model, images = make_model(name), make_images()
    entry, backward = next(m for m in model.modules() if isinstance(m, nn.Conv2d)), []

    def watch(module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: backward.append(1))

    entry.register_forward_hook(watch)
    with images_seen() as passes:
        part_attention(model, images, method)
    assert passes == [len(images)] and backward == []
    with images_seen() as passes:
        plain_passes(model, images, "gradcam")
    assert passes == [len(images)] * model.num_parts and len(backward) == model.num_parts


def test_maps_of_resnet50_are_those_of_plain_passes():
    torch.manual_seed(0)
    model, images = create_model("mpn", 751, backbone="resnet50").eval(), torch.randn(1, 3, 192, 64)
    assert (plain_passes(model, images) - part_attention(model, images)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["mpn", "baseline-ub", "mgn"])
def test_batch_equals_singles_and_parts_can_be_chosen(name):
    model, images = make_model(name), make_images(3)
    prior = prior_for(model, 3)
    maps = part_attention(model, images, prior=prior)
    singles = [
        part_attention(model, images[i : i + 1], prior=prior and PriorBatch(*(t[i : i + 1] for t in prior)))
        for i in range(3)
    ]
    torch.testing.assert_close(maps, torch.cat(singles), rtol=1e-3, atol=1e-4)
    chosen = part_attention(model, images, prior=prior, parts=[4, 1])
    torch.testing.assert_close(chosen, maps[:, [4, 1]])
    cached = attention_from_maps(
        model,
        model.feature_maps(images).detach() if name != "mgn" else tuple(m.detach() for m in model.feature_maps(images)),
        images,
        prior=prior,
        parts=[2],
    )
    torch.testing.assert_close(cached, maps[:, [2]], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_model_comes_back_as_it_was(context):
    model, images = make_model("cgpn"), make_images()
    model.train()
    model.shared.eval()
    first = next(model.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    gradients = [p.requires_grad for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with context():
        before = part_attention(model, images)
        part_attention(model, images[:1], "eigencam")
    assert gradients == [p.requires_grad for p in model.parameters()]
    assert modes == [m.training for m in model.modules()]
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules())
    assert first.grad is not None and all(p.grad is None for p in list(model.parameters())[1:])
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    torch.testing.assert_close(part_attention(model, images), before, rtol=0, atol=0)  # deterministic


def test_model_comes_back_after_an_error():
    model = make_model("baseline-ub").train()
    with pytest.raises(PriorError, match="prior"):
        part_attention(model, make_images())
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_no_evidence_gives_blank_maps_and_nan_is_refused():
    model = make_model("mpn")
    model.classifier.weight.data.zero_()
    assert torch.equal(part_attention(model, make_images()), torch.zeros(2, 6, *SIZE))
    model.backbone.layer4[0].bn2.bias.data.fill_(float("nan"))
    with pytest.raises(ReIDKitError, match="mpn holds NaN"):
        part_attention(model, make_images())


def test_errors():
    model, images = make_model("mpn"), make_images()
    with pytest.raises(UnknownNameError, match="gradcam"):
        part_attention(model, images, "grad-cam")
    with pytest.raises(ReIDKitError, match="TestTransform"):
        part_attention(model, images.byte())
    with pytest.raises(ReIDKitError, match="B, 3, H, W"):
        part_attention(model, images[0])
    with pytest.raises(ReIDKitError, match=r"0 \.\. 6"):
        part_attention(model, images, classes=torch.tensor([0, 7]))
    with pytest.raises(ReIDKitError, match=r"integers \[2\]"):
        part_attention(model, images, classes=torch.tensor([0, 1, 2]))
    for parts in ([6], []):
        with pytest.raises(ReIDKitError, match=r"0 \.\. 5"):
            part_attention(model, images, parts=parts)
    with pytest.raises(ReIDKitError, match="as many, or one"):
        similarity_attention(model, images, make_images(3))


def test_without_grad_cam_installed():
    """The module imports, the figures that need no CAM work, and the others say what to install."""
    code = """
import sys
sys.modules["pytorch_grad_cam"] = None
import torch
from reidkit.attention import channel_responses, global_maps, part_attention
from reidkit.errors import ReIDKitError
from reidkit.models import create_model
model, images = create_model("cgpn", 3, backbone="small"), torch.zeros(1, 3, 48, 16)
channel_responses(model, images), global_maps(model, images)
try:
    part_attention(model, images)
except ReIDKitError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install grad-cam" in done.stdout, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["mpn", "cgpn", "baseline-ub"])
def test_same_maps_on_a_gpu(name):
    need("pytorch_grad_cam")
    model, images = make_model(name), make_images()
    prior = prior_for(model)
    expected = part_attention(model, images, prior=prior)
    maps = part_attention(model.to("cuda"), images, prior=prior)  # images and prior are moved
    assert maps.device.type == "cpu" and (maps - expected).abs().max() < 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["mpn", "cgpn", "baseline-ub"])
def test_same_similarity_maps_on_a_gpu(name):
    model, images = make_model(name), make_images()
    prior = prior_for(model)
    expected = similarity_attention(model, images, images.flip(0), prior_a=prior, prior_b=prior)
    model.to("cuda")
    maps = similarity_attention(model, images.cuda(), images.flip(0).cuda(), prior_a=prior, prior_b=prior)
    assert (maps - expected).abs().max() < 1e-2
