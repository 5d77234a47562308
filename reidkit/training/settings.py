"""One reader for every setting: what `--set key=value`, Python and recipe.json say means the same.

A setting has one type, the annotation of its field. Text from a command line is read as that type, values from
Python or JSON are held to it, and what does not fit is refused with the words of the field:

    read_value("epochs", "2.5", int)                    ReIDKitError: expected a whole number
    read_value("size", "256x128", tuple[int, int])      (256, 128); also "256,128", "[256, 128]", [256, 128]
    read_value("schedule", "stepp", Literal["step", "cosine"])   UnknownNameError: did you mean 'step'?
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reidkit.errors import ReIDKitError, unknown_name

MAX_SEED = 2**63 - 1  # what torch's generators take
WORDS = {"true": True, "false": False, "none": None, "null": None}  # in any case, where a field can be such a value


def field_types(record: type) -> dict[str, Any]:
    """{field: annotation} of a dataclass."""
    hints = get_type_hints(record)
    return {f.name: hints[f.name] for f in fields(record)}


def read_value(key: str, value: Any, kind: Any) -> Any:
    """`value` as the type `kind`: bool, int, float, str, Literal, tuple, a union of these, or a mapping.

    Text is parsed, everything else must already be of the type (an int will do for a float, a list for a tuple).
    Raises ReIDKitError that names the key, UnknownNameError where a choice is not on the list.
    """
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]  # quoted as in JSON
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read_union(key, value, arguments)
    if origin is Literal:
        text = value if isinstance(value, str) or value is None else str(value)
        if text not in arguments:
            raise unknown_name(key, str(text), [str(a) for a in arguments])
        return text
    if origin is tuple:
        return _read_tuple(key, value, arguments)
    if origin is Sequence:
        return _read_tuple(key, value, (*arguments, ...))
    if isinstance(kind, type) and issubclass(kind, (bool, int, float, str, NoneType)):
        return _read_plain(key, value, kind)
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return dict(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value  # a record, such as a branch of CGPN, passed in Python
    raise ReIDKitError(f"setting {key}={value!r} cannot be given as text: set it in Python, or add a variant to zoo.py")


def _read_union(key: str, value: Any, kinds: tuple) -> Any:
    """The first member that takes the value; text last, so that "false" is False where a field may be either."""
    problem: ReIDKitError | None = None
    for kind in sorted(kinds, key=lambda k: (k is str, k is not NoneType)):
        try:
            return read_value(key, value, kind)
        except ReIDKitError as error:
            problem = error if problem is None or kind is not NoneType else problem
    raise problem if problem else ReIDKitError(f"setting {key}={value!r} has no type")


def _read_plain(key: str, value: Any, kind: type) -> Any:
    given = value
    if isinstance(value, str) and kind is not str:
        value = WORDS[value.lower()] if value.lower() in WORDS else _number(value)
    if (kind is NoneType and value is None) or (kind is bool and isinstance(value, bool)):
        return value
    if kind is str and isinstance(value, str) and value:
        return value
    if kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        whole = isinstance(value, int) or value.is_integer()  # of any length; nan and infinity are not whole
        if kind is int and whole and abs(value) < 2**63:
            return int(value)
        if kind is float and abs(value) <= sys.float_info.max:  # nan is not
            return float(value)
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "none"}[kind]
    raise ReIDKitError(f"setting {key}={given!r}: expected {expected}")


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read_tuple(key: str, value: Any, arguments: tuple) -> tuple:
    """A tuple of a fixed length, or of any length for `tuple[int, ...]`."""
    given = value
    if isinstance(value, str):
        value = _split(value)
    if not isinstance(value, (list, tuple)):
        value = (value,)
    kinds = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
    if len(value) != len(kinds):
        one = "1 value" if len(kinds) == 1 else f"{len(kinds)} values"
        raise ReIDKitError(f"setting {key}={given!r}: expected {one}, such as {key}={','.join('12' for _ in kinds)}")
    return tuple(read_value(key, v, kind) for v, kind in zip(value, kinds))


def _split(text: str) -> list[Any]:
    """ "[256, 128]", "256,128" or "256x128" -> its entries; "[]" and "" are no entries."""
    try:
        found = json.loads(text)
        if isinstance(found, list):
            return found
    except ValueError:
        pass
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("[]", "()"):
        inner = inner[1:-1].strip()
    parts = inner.split("x") if inner.replace("x", "").isdigit() else inner.removesuffix(",").split(",")
    return [p.strip().strip("'\"") for p in parts] if inner else []


def as_text(value: Any) -> str:
    """A typed value as `--set` takes it: the inverse of `read_value` for every type of setting."""
    return value if isinstance(value, str) else json.dumps(value)


def plain(value: Any) -> Any:
    """The value as JSON keeps it, for comparing with what was read back from a file."""
    return json.loads(json.dumps(value))
