"""The errors of the kit. Each message names the culprit, says what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar


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
