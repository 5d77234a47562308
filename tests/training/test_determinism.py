"""docs/determinism.md, row by row: what changes no bit of a run, what changes the last ones, and what a result says."""

import re
from dataclasses import replace

import numpy as np
import torch
from market_folder import make_market_folder
from market_runs import call
from paths import REPO
from stepping import small_recipe
from together import one_step
from torch.utils._python_dispatch import TorchDispatchMode

from reidkit.bench.clock import using_threads
from reidkit.data import load_dataset
from reidkit.losses import total_loss
from reidkit.models import create_model
from reidkit.models.zoo import variant
from reidkit.priors.find import find_priors
from reidkit.provenance import gpu_switches, numerics
from reidkit.training import RunFolder, evaluate_run, recipe_for, train

PAGE = REPO / "docs" / "determinism.md"
CALM = {"precision": "no", "ide_init": False, "num_ids": 3}


def bits(run):
    """The weights of a run as its file holds them."""
    return RunFolder(run).weights.read_bytes()


def test_cache_workers_and_place_change_no_bit(tmp_path):
    """Flips, erasing and dropout are drawn alike, pixels are the same, wherever they come from."""
    root = make_market_folder(tmp_path / "a")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a").symlink_to(root)
    recipe = recipe_for("ide", "smoke", {**CALM, "model.dropout": 0.5, "flip": 0.5, "erasing": 0.5})
    ways = {
        "plain": {},
        "decoded each time": {"cache": False},
        "two threads ahead": {"workers": 2},
        "two processes decode": {"cache": False, "workers": 2},
        "linked": {},
    }
    for name, way in ways.items():
        place = tmp_path / "linked" / "a" if name == "linked" else root
        dataset = load_dataset("market-layout", place)
        result = train("ide", dataset, recipe, tmp_path / name, device="cpu", progress=False, **way)
        said = {key: result["provenance"][key] for key in ("cache", "workers")}
        assert said == {"cache": True, "workers": 0} | way
    assert {name: bits(tmp_path / name) == bits(tmp_path / "plain") for name in ways} == dict.fromkeys(ways, True)


def test_another_number_of_threads_changes_rounding_only(tmp_path):
    """Sums are cut by the number of threads. The gradients of one step in float64 differ by rounding or not at all."""
    found = {}
    for threads in (1, 2):
        (tmp_path / str(threads)).mkdir()
        with using_threads(threads):
            one_step("mpn-no-ca-uniform", {"part_dim": 8}, torch.float64, str(tmp_path / str(threads)))
        found[threads] = torch.load(tmp_path / str(threads) / "0.pt")["gradients"]
    assert max(gradient.abs().max() for gradient in found[1].values()) > 1e-3
    torch.testing.assert_close(found[2], found[1], rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------- what a result says
def test_a_result_is_what_evaluate_gives(sidewalk_tiny, tmp_path):
    """To the last digit, also in bf16; and a test between two epochs changes nothing of the training."""
    recipe = recipe_for("mpn", "smoke", {"precision": "bf16", "ide_init": False})
    result = train("mpn", sidewalk_tiny, recipe, tmp_path / "r", device="cpu", progress=False)
    assert evaluate_run(tmp_path / "r", sidewalk_tiny, device="cpu", progress=False)["metrics"] == result["metrics"]
    train("mpn", sidewalk_tiny, recipe, tmp_path / "watched", device="cpu", evaluate_every=1, progress=False)
    assert bits(tmp_path / "watched") == bits(tmp_path / "r")


def test_a_result_says_what_it_depended_on(sidewalk_tiny, tmp_path):
    dataset = replace(sidewalk_tiny, levels={})
    recipe = recipe_for("mpn-no-ca", "smoke", {**CALM, "epochs": 1, "batches_per_epoch": 1})
    result = train("mpn-no-ca", dataset, recipe, tmp_path / "r", seed=3, device="cpu", progress=False)
    ran, grid = result["provenance"], tuple(side // 8 for side in recipe.size)
    known = {"seed": 3, "precision": "no", "processes": 1, "workers": 0, "cache": True, "compiled": False}
    assert {key: ran[key] for key in known} == known and ran["threads"] == torch.get_num_threads()
    assert ran["libraries"]["numpy"] == np.__version__ and ran["torch"] == torch.__version__
    assert ran["instructions"] == torch.backends.cpu.get_cpu_capability() and ran["gpu"] is None
    assert ran["priors"] == find_priors(dataset, "sidewalk", grid=grid, progress=False).digest()
    assert (result["prior_tool"], result["fingerprint"]) == ("sidewalk", dataset.fingerprint())
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), flags=re.M)
    assert len(rows) >= 15 and set(rows) <= {*result, *ran}
    assert {*numerics("cpu"), *known, "threads", "torch", "device"} <= set(rows)


def test_a_run_without_priors_says_so_and_a_test_says_its_libraries(trained, tmp_path):
    root, run = trained
    assert RunFolder(run).read_result()["provenance"]["priors"] is None
    done = call("evaluate", run, "--root", root, "--no-progress", "--save", tmp_path / "e.json")
    assert done.exit_code == 0 and '"instructions"' in (tmp_path / "e.json").read_text()


def test_the_switches_of_a_gpu_are_read_where_torch_keeps_them(monkeypatch):
    before = gpu_switches()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not before["cudnn_benchmark"])
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", not before["cudnn_deterministic"])
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    after = gpu_switches()
    changed = {key for key in before if after[key] != before[key]}
    assert changed - {"cublas_workspace"} == {"cudnn_benchmark", "cudnn_deterministic"}
    assert after["cublas_workspace"] == ":4096:8" and after["cuda"] == torch.version.cuda
    assert numerics("cuda")["gpu"] == after and numerics("cpu")["gpu"] is None


# ---------------------------------------------------------------- what varies on a GPU
VARYING = {  # operators of torch that its page on reproducibility lists for CUDA: what a network calls them
    "convolution": "torch.nn.Conv2d",
    "convolution_backward": "torch.nn.Conv2d",
    "adaptive_max_pool2d_backward": "torch.nn.AdaptiveMaxPool2d",
    "_adaptive_avg_pool2d_backward": "torch.nn.AdaptiveAvgPool2d",
    "upsample_bilinear2d_backward": "torch.nn.functional.interpolate",
    "grid_sampler_2d_backward": "torch.nn.functional.grid_sample",
    "reflection_pad2d_backward": "torch.nn.ReflectionPad2d",
    "replication_pad2d_backward": "torch.nn.ReplicationPad2d",
    "nll_loss2d_forward": "torch.nn.NLLLoss",
    "embedding_dense_backward": "torch.nn.Embedding",
    "scatter_add": "torch.Tensor.scatter_add_",
    "scatter_reduce": "torch.Tensor.scatter_reduce",
    "gather": "torch.gather",
    "index_add": "torch.index_add",
    "index_put": "torch.Tensor.index_put",
    "_index_put_impl_": "torch.Tensor.index_put",
    "cumsum": "torch.cumsum",
    "bincount": "torch.bincount",
    "histc": "torch.histc",
}
NETWORKS = [
    *((name, "small") for name in ("ide", "pcb", "pyramid", "mgn", "cgpn", "mpn", "mpn-rga", "dsa", "soft-c1-1")),
    *((name, "small") for name in ("align-sample-triplet", "psa", "fsa", "baseline-ub")),
    ("mpn", "resnet50"),
]


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def operators(name, backbone):
    """What a training step of a variant calls, forward, losses and backward."""
    model = create_model(name, 9, backbone=backbone, **small_recipe(name).model).train()
    prior = model.example_prior(4, (96 // model.stride, 32 // model.stride)) if model.needs_prior else None
    with Operators() as seen:
        out = model(torch.rand(4, 3, 96, 32), prior)
        loss, _ = total_loss(out, torch.tensor([0, 0, 1, 1]), variant(name).loss, model.regularization())
        loss.backward()
    return seen.names


def test_what_varies_on_a_gpu_is_listed():
    """Every operator of a step that torch says may vary is on the page, and every one on the page is in a step."""
    text = re.sub(r"\s+", " ", torch.use_deterministic_algorithms.__doc__)
    assert [name for name in VARYING.values() if f"`{name}`" not in text] == []
    found = set().union(*(operators(*network) for network in NETWORKS))
    assert {"convolution_backward", "nll_loss_forward", "_cdist_forward"} <= found  # the steps were really taken
    listed = set(re.findall(r"^\| `(torch\.[\w.]+)` \|", PAGE.read_text(), flags=re.M))
    assert listed == {VARYING[name] for name in found & VARYING.keys()}


# ---------------------------------------------------------------- the page
def test_the_tests_that_the_page_names_exist():
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) >= 10
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^def {test}\(", (REPO / "tests" / file).read_text(), flags=re.M)
    ]
    assert missing == []


def test_every_row_of_the_first_table_names_a_test():
    table = PAGE.read_text().partition("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what changes")]
    assert len(rows) >= 10 and all("`tests/" in row for row in rows)
