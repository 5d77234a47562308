"""Shared fixtures. Tests render the tiny Sidewalk set once into build/test-data and reuse it."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from paths import REPO

torch.set_num_threads(1)
try:
    import hypothesis
except ModuleNotFoundError:
    pass  # its tests are skipped (see `needs`)
else:  # how long an example takes says how busy the machine is, and nothing else
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository root."""
    return REPO


@pytest.fixture(scope="session")
def data_root() -> Path:
    """A folder kept between test runs; the renderer is atomic, so parallel workers may share it."""
    root = REPO / "build" / "test-data"
    root.mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture(scope="session")
def sidewalk_tiny(data_root):
    """The tiny Sidewalk set (a `ReIDDataset`); do not write into its folder."""
    from reidkit.data import load_dataset

    return load_dataset("sidewalk", root=data_root, size="tiny")
