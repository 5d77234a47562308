"""Out of memory: the error names the largest batch that fits and how to ask for it."""

import pytest
import torch
from stepping import small_recipe

from reidkit.errors import TrainingError
from reidkit.training import loop as loop_module
from reidkit.training import train

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")
CPU = RuntimeError(  # torch has no type for it
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "2147483648 bytes. Error code 12 (Cannot allocate memory)"
)


def train_within(images, dataset, path, monkeypatch, error=GPU, **settings):
    """Train on a device where a step of more than `images` images runs out of memory; what the error says."""
    real, tried = loop_module.training_step, []

    def step(batch, gradients, *more, **named):
        tried.append(len(batch))
        assert batch.prior is None or len(batch.prior.top) == len(batch.images) == len(batch.labels)
        if len(batch) > images:
            raise error
        return real(batch, gradients, *more, **named)

    monkeypatch.setattr(loop_module, "training_step", step)
    with pytest.raises(TrainingError) as raised:
        train("mpn-no-ca", dataset, small_recipe("mpn-no-ca", **settings), path, device="cpu", progress=False)
    return str(raised.value), tried


@pytest.mark.parametrize(("images", "ids"), [(15, 7), (8, 4), (9, 4), (3, 1)])
def test_the_largest_batch_that_fits_is_found_and_said(sidewalk_tiny, tmp_path, monkeypatch, images, ids):
    said, tried = train_within(images, sidewalk_tiny, tmp_path / "r", monkeypatch, num_ids=8, num_instances=2)
    assert f"--set num_ids={ids}" in said and f"P x K = {ids} x 2" in said and "8 x 2" in said
    assert "CUDA out of memory (" not in said and "CUDA out of memory" in said
    assert tried[0] == 16 and len(tried) <= 4  # by halving


def test_a_cpu_without_memory_says_the_same(sidewalk_tiny, tmp_path, monkeypatch):
    said, _ = train_within(9, sidewalk_tiny, tmp_path / "r", monkeypatch, CPU, num_ids=8, num_instances=2)
    assert "--set num_ids=4" in said and "(can't allocate memory: you tried to allocate 2147483648 bytes)" in said


def test_another_error_of_a_step_stays_what_it_is(sidewalk_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "training_step", lambda *a, **n: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        train("mpn-no-ca", sidewalk_tiny, small_recipe("mpn-no-ca"), tmp_path / "r", device="cpu", progress=False)


def test_where_nothing_fits_smaller_images_are_named(sidewalk_tiny, tmp_path, monkeypatch):
    said, _ = train_within(1, sidewalk_tiny, tmp_path / "r", monkeypatch, num_ids=4, num_instances=2)
    assert "not even 1 x 2 images fit" in said and "--set size=" in said and "num_ids=" not in said


def test_batch_norm_needs_two_images(sidewalk_tiny, tmp_path, monkeypatch):
    said, tried = train_within(1, sidewalk_tiny, tmp_path / "r", monkeypatch, num_ids=4, num_instances=1)
    assert "not even 2 x 1 images fit" in said and min(tried) == 2
