"""The errors of the kit. Each message names the culprit, says what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar


class ReIDKitError(Exception):
    """Base of every error that the kit raises on bad input."""


class DatasetError(ReIDKitError):
    """A data set folder, image or file name is not what it should be."""


class PriorError(ReIDKitError):
    """A parsing map, segmentation map or prior file is not what it should be."""


class CheckpointError(ReIDKitError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class TrainingError(ReIDKitError):
    """Training cannot start or go on (batch shape, NaN loss, a run folder in use)."""


class UnknownNameError(ReIDKitError, ValueError):
    """A name is not in the table it was looked up in."""


T = TypeVar("T")


def one_of(kind: str, name: str, known: Iterable[T]) -> T:
    """`name`, which is one of `known`; UnknownNameError where it is not. For text from outside, such as an option."""
    choices = list(known)
    for choice in choices:
        if choice == name:
            return choice
    raise unknown_name(kind, name, map(str, choices))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not in a table: names the closest match and every choice."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Choose one of: {', '.join(known)}")


def check_shapes(*tensors: tuple[str, Any, str]) -> None:
    """TrainingError unless all (name, tensor, letters) fit: a letter is one length, not 0, wherever it stands.

    check_shapes(("features", features, "... N D"), ("labels", labels, "N")); "...": any dimensions before the letters.
    Shapes alone are read, so no host waits for its device.
    """
    lengths, fit = {}, True
    for _, tensor, text in tensors:
        letters, shape = text.split(), tuple(tensor.shape)
        if letters[0] == "...":
            front = len(shape) - len(letters) + 1
            shape = (shape[:front], *shape[front:])
        fit = fit and len(shape) == len(letters) and 0 not in shape
        for letter, length in zip(letters, shape):
            fit = fit and lengths.setdefault(letter, length) == length
    if not fit:
        found = ", ".join(
            f"{name} [{text.replace(' ', ', ')}] is {list(tensor.shape)}" for name, tensor, text in tensors
        )
        raise TrainingError(f"shapes do not fit: {found}; a letter stands for one length, at least 1, in all of them")
