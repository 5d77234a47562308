"""Every variant can be traced and exported; the network of test time is what `extract_features` computes."""

import warnings

import numpy as np
import pytest
import torch

from reidkit.data.images import read_image
from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.evaluation import Extraction, extract_features
from reidkit.export import EmbeddingNetwork, check, formats
from reidkit.models import VARIANTS, ModelOutput, create_model

SIZE = (96, 32)
SMALL = {"MPNConfig": {"part_dim": 8}, "IDEConfig": {"part_dim": 8}, "PCBConfig": {"part_dim": 8}}
NO_PRIOR = [name for name in VARIANTS if name != "baseline-ub"]
needs_onnx = pytest.mark.skipif(not all(map(formats._importable, formats.PACKAGES)), reason="no onnx")


class Embed(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.embed(x)


def small_net(name, **changes):
    """An untrained network whose batch norms have seen something, so that they are not the identity."""
    torch.manual_seed(0)
    changes = {**SMALL.get(type(VARIANTS[name].config).__name__, {"reduced_dim": 8}), **changes}
    if name == "mpn-rga":
        changes["spatial_attention"] = "rga:96x32"
    net = create_model(name, 5, backbone="small", **changes)
    with torch.no_grad():
        net.feature_maps(torch.randn(4, 3, *SIZE))
    return net.eval()


def any_batch():
    return {0: torch.export.Dim("batch", min=1)}


@pytest.mark.parametrize("name", NO_PRIOR)
@torch.no_grad()
def test_every_variant_can_be_traced_and_exported(name):
    """`embed` by torch.jit.trace, the whole model by torch.export; recorded with few images, run with others."""
    net, x = small_net(name), torch.randn(5, 3, *SIZE)
    wanted = net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation, and sizes that become constants
        traced = torch.jit.trace(Embed(net), x[:1])
    torch.testing.assert_close(traced(x), wanted.embedding, rtol=1e-4, atol=1e-5)
    program = torch.export.export(net, (x[:2],), dynamic_shapes=(any_batch(),)).module()
    for count in (1, 5):
        found = program(x[:count])
        assert type(found) is type(wanted) and found.aux is None
        torch.testing.assert_close(found.embedding, wanted.embedding[:count], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.logits, wanted.logits[:, :count], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ide", "pcb", "mgn", "mpn", "mpn-rga", "cgpn", "pyramid"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_jit_trace_of_a_network_records_its_embedding(name, tmp_path):
    """As it is typed everywhere; the file runs without the kit, and with another number of images."""
    net, x = small_net(name), torch.randn(5, 3, *SIZE)
    net.extraction = Extraction(SIZE)
    traced = torch.jit.trace(net, x[:2])
    traced.save(tmp_path / "net.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "net.pt")(x), net.embed(x), rtol=1e-4, atol=1e-5)
    assert isinstance(net(x), ModelOutput)


@pytest.mark.filterwarnings("ignore")
def test_jit_trace_says_what_to_use_instead():
    net, x = small_net("mpn"), torch.randn(2, 3, *SIZE)
    with pytest.raises(ReIDKitError, match=r"call net\.eval\(\) first; .*reidkit export RUN --to torch-export"):
        torch.jit.trace(net.train(), x)
    with pytest.raises(ReIDKitError, match=r"baseline-ub needs a coarse prior .*reidkit export"):
        torch.jit.trace(small_net("baseline-ub"), x)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_a_module_around_a_network_is_traced_as_before():
    class Around(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).logits

    net, x = small_net("mpn"), torch.randn(3, 3, *SIZE)
    torch.testing.assert_close(torch.jit.trace(Around(net), x[:2])(x), net(x).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("ide", {}), ("mpn", {}), ("mgn", {}), ("cgpn", {}), ("pyramid", {}), ("baseline", {"num_parts": 5})],
)
@torch.no_grad()
def test_embed_can_be_exported(name, changes):
    net, x = small_net(name, **changes), torch.randn(3, 3, *SIZE)
    program = torch.export.export(Embed(net), (x[:2],), dynamic_shapes=(any_batch(),)).module()
    torch.testing.assert_close(program(x), net.embed(x), rtol=1e-4, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("name", ["ide", "mpn", "mgn", "cgpn", "pyramid", "baseline"])
@torch.no_grad()
def test_older_onnx_exporter(name, tmp_path):
    """The one that traces; people have scripts with it."""
    import onnxruntime

    net, x, file = small_net(name), torch.randn(3, 3, *SIZE), tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Embed(net).eval(), (x[:2],), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
        )
    found = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), net.embed(x), rtol=1e-4, atol=1e-5)


def test_program_of_a_whole_model_is_saved_and_loaded(tmp_path):
    net, x = small_net("mpn"), torch.randn(2, 3, *SIZE)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "mpn.pt2")
    loaded = torch.export.load(tmp_path / "mpn.pt2").module()
    torch.testing.assert_close(loaded(x).part_features, net(x).part_features)


def test_strict_export_knows_the_output_too():
    net, x = small_net("mgn"), torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(torch.export.export(net, (x,), strict=True).module()(x).embedding, net(x).embedding)


@pytest.mark.parametrize("name", NO_PRIOR)
def test_embedding_network_holds_nothing_of_training(name):
    net = small_net(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    network = EmbeddingNetwork(net)
    assert sum(p.numel() for p in network.parameters()) == net.count_parameters()  # MPN Table 9's way of counting
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in before.items()}
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    torch.testing.assert_close(network(images), check.pytorch(net, "none")(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flip", ["none", "sum", "mean"])
def test_embedding_network_is_extract_features(sidewalk_tiny, flip):
    net, table = small_net("mpn"), sidewalk_tiny.query.head(4)
    images = torch.from_numpy(np.stack([read_image(p, SIZE) for p in table.path]))
    wanted = extract_features(net, table, size=SIZE, flip=flip, progress=False)
    for pixels in (images, images.float()):
        torch.testing.assert_close(EmbeddingNetwork(net, flip)(pixels), wanted, rtol=1e-4, atol=1e-5)
    half = EmbeddingNetwork(net, flip, half=True)
    assert {p.dtype for p in half.parameters()} == {torch.float16} and half(images).dtype == torch.float32
    torch.testing.assert_close(half(images), wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


def test_unknown_flip():
    with pytest.raises(UnknownNameError, match="mean"):
        EmbeddingNetwork(small_net("ide"), "both")
