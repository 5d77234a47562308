"""The device that was asked for is the one that trains."""

import pytest
import torch

from reidkit.errors import TrainingError


def test_the_second_gpu_is_the_second_gpu(monkeypatch):
    from reidkit.training.device import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(TrainingError, match="has 2 CUDA GPUs"):
        choose_device("cuda:2")
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(
        "reidkit.training.device.Accelerator", lambda **k: type("A", (), {"device": torch.device("cuda:1")})
    )
    from reidkit.training.device import make_accelerator

    make_accelerator(torch.device("cuda:1"), "no")
    assert chosen == [torch.device("cuda", 1)]


def test_one_job_on_a_gpu(monkeypatch):
    from reidkit.training import plan

    monkeypatch.setattr(plan, "choose_device", lambda name: torch.device("cuda"))
    assert plan.default_jobs(["--device", "auto"]) == 1
    monkeypatch.undo()
    assert plan.default_jobs(["--device", "cpu"]) >= 1
