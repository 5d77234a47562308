"""The weights of a run, model.safetensors: checked before they are believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from reidkit.errors import CheckpointError
from reidkit.models import ReIDModel
from reidkit.tensor_files import not_finite


def check_shapes(model: ReIDModel, path: Path) -> None:
    """Raise CheckpointError unless a safetensors file, of which the header is read, holds a model of these shapes."""
    try:
        with safe_open(path, "pt") as file:
            theirs = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; the run is not finished") from None
    except (SafetensorError, OSError, ValueError) as e:
        raise CheckpointError(f"{path} is damaged ({e}); train the run again") from e
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    if own != theirs:
        missing, extra = sorted(own.keys() - theirs.keys()), sorted(theirs.keys() - own.keys())
        shapes = [f"{k}: {theirs[k]} instead of {own[k]}" for k in own.keys() & theirs.keys() if own[k] != theirs[k]]
        raise CheckpointError(
            f"{path} belongs to another model than {model.name}: missing {missing[:4]}, "
            f"unexpected {extra[:4]}, other shapes {shapes[:4]}"
        )


def load_weights(model: ReIDModel, path: Path) -> None:
    """Load a safetensors file into a model of the same shape, or raise CheckpointError that says what differs."""
    check_shapes(model, path)
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise CheckpointError(f"{path} is damaged ({e}); train the run again") from e
    if bad := not_finite(state):
        raise CheckpointError(f"{path} holds numbers that are not finite, in {bad}; train the run again")
    model.load_state_dict(state)


def sha256(weights: Path) -> str:
    """Of a weights file, in hex; "no file" where there is none."""
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"


def check_hash(weights: Path, checksum: Path) -> None:
    """Raise CheckpointError where the weights are not the ones that were shipped."""
    found = sha256(weights)
    if found != (expected := checksum.read_text().strip()):
        raise CheckpointError(
            f"{weights} is not the file that was shipped (SHA-256 {found[:12]}, expected "
            f"{expected[:12]}); restore it with git, or delete {checksum} if you changed it yourself"
        )
