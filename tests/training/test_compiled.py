"""`--compile`: the same losses from a compiled step; one that cannot be compiled costs a warning and nothing else."""

import warnings

import pytest
import torch
from market_folder import make_market_folder
from market_runs import SMOKE, call
from safetensors.torch import load_file
from stepping import small_batch, small_recipe, small_step

from reidkit.errors import TrainingError
from reidkit.training import RunFolder, gradients, train
from reidkit.training.device import choose_compile
from reidkit.training.loop import training_step
from reidkit.training.steps import augmentation
from reidkit.training.suites import SuiteReport

WHOLE = {"fullgraph": True, "dynamic": False}  # the step is one graph, as on a GPU


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def losses_side_by_side(name, batches, device="cpu", in_step=False):
    """[2, batches, terms]: the losses of a compiled and of an eager run.

    in_step: after each batch the compiled network gets the eager one's weights. On its own it soon goes another way:
    a ReLU that rounding switches changes a gradient by half a percent.
    """
    recipe = small_recipe(name, clip_norm=20.0)
    runs = [small_step(name, recipe, compiled=on, device=device) for on in (True, False)]
    (compiled, _), (eager, _) = runs
    augment, generator, lines = augmentation(recipe), torch.Generator().manual_seed(0), []
    for seed in range(batches):
        batch = augment(small_batch(recipe, seed, prior=eager.model.needs_prior).to(device), generator)
        terms = [training_step(batch, step, optimizer, recipe, 0.01) for step, optimizer in runs]
        lines.append(torch.stack([torch.stack(list(t.values())) for t in terms]))
        if in_step:
            compiled.model.load_state_dict(eager.model.state_dict())
    assert compiled.compiled and not eager.compiled
    return torch.stack(lines, dim=1).cpu()


@pytest.mark.parametrize("name", ["mpn", "mpn-no-ca", "cgpn", "mgn"])
def test_a_compiled_step_has_the_losses_of_an_eager_one(name, monkeypatch, fresh_compiler):
    monkeypatch.setitem(gradients.CAPTURE, "cpu", {"backend": "aot_eager", **WHOLE})
    torch.testing.assert_close(*losses_side_by_side(name, 3), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_generated_code_has_the_losses_of_an_eager_step(monkeypatch, fresh_compiler):
    monkeypatch.setitem(gradients.CAPTURE, "cpu", WHOLE)
    torch.testing.assert_close(*losses_side_by_side("mpn-no-ca", 4, in_step=True), atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mpn", "mpn-no-ca", "cgpn", "mgn"])
def test_a_captured_step_has_the_losses_of_an_eager_one_on_a_gpu(name, fresh_compiler):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    torch.testing.assert_close(*losses_side_by_side(name, 50, "cuda", in_step=True), atol=1e-2, rtol=1e-2)


def test_torch_compiles_more_networks_of_a_process_than_it_counts_by_code(monkeypatch, fresh_compiler):
    """A notebook that trains ten networks: torch by itself gives up at the ninth, or here the third."""
    monkeypatch.setitem(gradients.CAPTURE, "cpu", {"backend": "eager", **WHOLE})
    recipe = small_recipe("ide")
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    with torch._dynamo.config.patch({limit: 2}):
        for seed in range(4):
            step, optimizer = small_step("ide", recipe, compiled=True, classes=9 + seed)  # another network
            batch = augmentation(recipe)(small_batch(recipe, seed, prior=False), torch.Generator().manual_seed(0))
            training_step(batch, step, optimizer, recipe, 0.01)
            assert step.compiled, seed


# ---------------------------------------------------------------- a compiler that fails
def breaking(stage):
    """A `torch.compile` that fails when the step is called, or only in the backward pass of its result."""

    def fail(gradient):
        raise RuntimeError("no triton here\nand a long trace")

    def compile(function, **options):
        def step(*inputs):
            loss, terms = function(*inputs)  # batch norm has seen the batch, dropout has drawn
            if stage == "forward":
                fail(None)
            loss.register_hook(fail)
            return loss, terms

        return step

    return compile


@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_a_run_that_cannot_be_compiled_goes_on_as_if_nothing_had_been(sidewalk_tiny, tmp_path, monkeypatch, stage):
    recipe = small_recipe("ide", epochs=2, batches_per_epoch=2, **{"model.dropout": 0.5})
    plain = train("ide", sidewalk_tiny, recipe, tmp_path / "plain", device="cpu", progress=False)
    monkeypatch.setattr(torch, "compile", breaking(stage))
    with pytest.warns(
        UserWarning, match="cannot be compiled here .RuntimeError: no triton here.; .* uncompiled"
    ) as said:
        result = train("ide", sidewalk_tiny, recipe, tmp_path / "tried", device="cpu", compile_net=True, progress=False)
    assert sum("cannot be compiled" in str(w.message) for w in said) == 1
    assert result["provenance"]["compiled"] is False and result["metrics"] == plain["metrics"]
    a, b = (load_file(RunFolder(tmp_path / f).weights) for f in ("plain", "tried"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_result_says_that_it_was_compiled(sidewalk_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    recipe = small_recipe("ide", epochs=1, batches_per_epoch=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*compiled")
        result = train("ide", sidewalk_tiny, recipe, tmp_path / "r", device="cpu", compile_net=True, progress=False)
    assert result["provenance"]["compiled"] is True


def test_out_of_memory_is_not_taken_for_a_compiler_that_fails(sidewalk_tiny, tmp_path, monkeypatch):
    def too_large(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda function: too_large)
    with pytest.raises(TrainingError, match="--set num_ids=3"), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*compiled")
        train("ide", sidewalk_tiny, small_recipe("ide"), tmp_path / "r", device="cpu", compile_net=True, progress=False)


def test_who_compiles_unasked():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert choose_compile(None, "paper", gpu) and not choose_compile(None, "paper", gpu, processes=2)
    assert not choose_compile(None, "quick", gpu) and not choose_compile(None, "paper", cpu)
    assert choose_compile(True, "quick", cpu) and not choose_compile(False, "paper", gpu)


@pytest.mark.parametrize(("typed", "handed"), [([], None), (["--compile"], True), (["--no-compile"], False)])
def test_what_is_typed_is_what_trains(tmp_path, monkeypatch, typed, handed):
    got, suites = [], []
    result = {"metrics": {}, "test": {}}
    monkeypatch.setattr("reidkit.training.train", lambda *a, compile_net, **k: got.append(compile_net) or result)
    monkeypatch.setattr("reidkit.training.suites.run_suite", lambda *a, **k: suites.append(a[2]) or SuiteReport())
    data = ["--dataset", "market-layout", "--root", make_market_folder(tmp_path / "a"), *typed]
    assert call("train", "ide", *data, *SMOKE).exit_code == 0 and got == [handed]
    assert call("ablate", "mpn-table1", *data, "--only", "mt-only", "--no-progress").exit_code == 0
    assert [word for word in suites[0] if "compile" in word] == typed
