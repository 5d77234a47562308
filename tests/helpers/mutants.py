"""Damaged files, made with a seed: flipped bytes, and files of a whole form with wrong content."""

import csv
import io
import json
import random
import zipfile
from collections.abc import Callable

import numpy as np
import torch

VALUES = (None, True, False, 0, -1, 3, 2**31, 2**70, 1e308, -0.5, float("nan"), float("inf"))
VALUES += ("", "x", "nan", "0", "../..", "/", "\0", "\udc80", "é" * 300, "x" * 5000, [], {}, [[]], [1], {"a": 1})
CELLS = ("", "nan", "inf", "-inf", "-1", "0", "1e400", "9" * 40, "x", "\0", "../..", '"', "é", "x" * 5000, "True", ",")

Mutate = Callable[[bytes, random.Random], bytes]


def of_bytes(whole: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a cut, a run of one byte, bytes put in, taken out or told twice."""
    damaged, place = bytearray(whole), rng.randrange(len(whole))
    length = rng.choice((1, 4, 8, 64))
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del damaged[place:]
    elif kind == 2:
        damaged[place : place + length] = rng.choice((b"\0", b"\xff", b"\x7f", b"9", b"[")) * length
    elif kind == 3:
        damaged[place:place] = rng.randbytes(length)
    elif kind == 4:
        del damaged[place : place + length]
    else:
        damaged[place:place] = damaged[place : place + length]
    return bytes(damaged)


def near_the_start(whole: bytes, rng: random.Random) -> bytes:
    """`of_bytes` in the first 2,048 bytes, where binary formats keep what they state about the rest."""
    return of_bytes(whole[:2048], rng) + whole[2048:]


def of_json(whole: bytes, rng: random.Random) -> bytes:
    """One entry gone, new, of another type, or another entry's value."""
    if rng.random() < 0.2:
        return of_bytes(whole, rng)
    tree = json.loads(whole)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_containers(tree))
        where = rng.choice(places)
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        kind = rng.randrange(4)
        if kind == 0 and keys:
            del where[rng.choice(keys)]
        elif kind == 1:
            new = rng.choice(VALUES)
            where.update({rng.choice(("new", "", "0", "name")): new}) if isinstance(where, dict) else where.append(new)
        elif kind == 2 and len(keys) > 1:
            a, b = rng.sample(keys, 2)
            where[a], where[b] = where[b], where[a]
        elif keys:
            where[rng.choice(keys)] = rng.choice(VALUES)
    if rng.random() < 0.05:
        tree = rng.choice((*VALUES, [tree]))
    return json.dumps(tree).encode()


def _containers(tree):
    if isinstance(tree, (dict, list)):
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _containers(value)


def of_csv(whole: bytes, rng: random.Random) -> bytes:
    """A cell, a column or a row that is gone, wrong, or there twice."""
    if rng.random() < 0.2:
        return of_bytes(whole, rng)
    rows = list(csv.reader(io.StringIO(whole.decode())))
    for _ in range(rng.choice((1, 1, 2))):
        row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
        kind = rng.randrange(7)
        if kind == 0:
            for line in rows:
                del line[column : column + 1]
        elif kind == 1:
            rows.insert(row, list(rng.choice(rows)))
        elif kind == 2:
            del rows[row if len(rows) > 1 else 0 :]
            rows = rows or [["x"]]
        elif kind == 3:
            rows[row].append(rng.choice(CELLS))
        elif kind == 4:
            rows[0][column : column + 1] = [rng.choice(CELLS)]
        else:
            rows[row][column : column + 1] = [rng.choice(CELLS)]
        if not rows[0]:
            break
    out = io.StringIO()
    csv.writer(out, quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    return out.getvalue().encode("utf-8", "surrogateescape")


def of_npz(whole: bytes, rng: random.Random) -> bytes:
    """A column of another type, shape or content, or none; objects (pickles) too; a header that states too much."""
    if rng.random() < 0.3:
        return of_bytes(whole, rng)
    with np.load(io.BytesIO(whole)) as file:
        arrays = dict(file)
    name = rng.choice(list(arrays))
    column, out = arrays[name], io.BytesIO()
    with np.errstate(all="ignore"):
        other = (
            lambda: column.astype(rng.choice(("f4", "f8", "i8", "u1", "?", "c8", "U3"))),
            lambda: column[: len(column) // 2] if column.ndim else column,
            lambda: np.concatenate([column, column]),
            lambda: column[None],
            lambda: np.array(rng.choice((0, 7, np.nan, "x"))),
            lambda: np.full(column.shape, rng.choice((0, 1, 255, -1))).astype(column.dtype),
            lambda: np.full_like(column, rng.choice((np.nan, np.inf, -1, 7)), dtype=rng.choice(("f4", "f8"))),
            lambda: np.array([1, "x", None], object),
            lambda: column[::-1],
            lambda: np.frombuffer(of_bytes(column.tobytes() or b"\0", rng), np.uint8),
        )
        arrays[name] = rng.choice(other)()
    if rng.random() < 0.15:
        del arrays[name]
    np.savez(out, **arrays)
    if rng.random() < 0.15:
        return _stating_too_much(out.getvalue(), name, column.dtype)
    return out.getvalue()


def _stating_too_much(whole: bytes, name: str, dtype: np.dtype) -> bytes:
    header, out = io.BytesIO(), io.BytesIO()
    stated = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(header, stated)
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, header.getvalue() if entry == f"{name}.npy" else old.read(entry))
        new.writestr(f"{name}.npy", header.getvalue())
    return out.getvalue()


def of_tensors(whole: bytes, rng: random.Random) -> bytes:
    """A file of torch.save: an entry gone, new, of another type or shape; tensors with NaN."""
    if rng.random() < 0.3:
        return of_bytes(whole, rng)
    tree, out = torch.load(io.BytesIO(whole), weights_only=True), io.BytesIO()
    for _ in range(rng.choice((1, 1, 2))):
        where = rng.choice([c for c in _containers(tree) if len(c)])
        key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
        kind, old = rng.randrange(4), where[key]
        if kind == 0:
            del where[key]
        elif kind == 1 and isinstance(old, torch.Tensor):
            where[key] = rng.choice((old.new_zeros(3), old[..., None], old.double(), torch.full_like(old, 7)))
            if old.is_floating_point():
                where[key] = rng.choice((where[key], torch.full_like(old, rng.choice((torch.nan, torch.inf)))))
        elif kind == 2 and isinstance(where, dict):
            where["new"] = rng.choice(VALUES)
        else:
            where[key] = rng.choice((*VALUES, torch.zeros(2), bytearray(8)))
    torch.save(tree if rng.random() > 0.03 else rng.choice(VALUES), out)
    return out.getvalue()
