"""Prior files that are damaged, or state what cannot be: refused when loaded, before memory is asked for."""

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reidkit.errors import PriorError
from reidkit.priors import PriorTable
from reidkit.priors.store import make_table


@pytest.fixture
def file(tmp_path) -> Path:
    n = 3
    table = make_table(
        [f"train/{i}.jpg" for i in range(n)],
        np.ones((n, 4, 3), bool),
        np.zeros(n, np.float32),
        np.ones(n, np.float32),
        np.ones(n, bool),
        np.arange(1, n + 1).astype(np.uint64),
        settings={"grid": [4, 3]},
    )
    table.save(tmp_path / "p.npz")
    return tmp_path / "p.npz"


def rewritten(file: Path, **columns) -> Path:
    """The same npz with other columns (None: without)."""
    with np.load(file) as old:
        arrays = {**dict(old), **columns}
    np.savez_compressed(file, **{name: column for name, column in arrays.items() if column is not None})
    return file


def refused(file: Path, match: str) -> None:
    """Loading raises PriorError that names the file, and asks for no more than a few megabytes on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(PriorError, match=match) as caught:
            PriorTable.load(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert str(file) in str(caught.value) and "build it again" in str(caught.value)


@pytest.mark.parametrize(
    "top, bottom",
    [
        (np.nan, 1),
        (0, np.nan),
        (-0.01, 1),
        (0, 1.01),
        (0.5, 0.5),
        (0.8, 0.2),
        (-np.inf, 1),
        (0, np.inf),
        (1, 1),
        (0, 0),
    ],
)
def test_senseless_boundaries(file, top, bottom):
    tops, bottoms = np.zeros(3, np.float32), np.ones(3, np.float32)
    tops[1], bottoms[1] = top, bottom
    refused(rewritten(file, top=tops, bottom=bottoms), r"1 of 3 boundaries.*train/1\.jpg.*0 <= top < bottom <= 1")


@pytest.mark.parametrize("grid", [[2**26, 4], [4, 2**26], [0, 3], [-4, -3], [2**62, 4], [300, 300]])
def test_senseless_grids(file, grid):
    refused(rewritten(file, grid=np.array(grid, np.int64)), "its grid is")


def test_a_grid_that_the_manifest_contradicts(file):
    text = json.dumps({"grid": [2**26, 4]}).encode()
    refused(rewritten(file, manifest=np.frombuffer(text, np.uint8)), "manifest")


@pytest.mark.parametrize(
    "columns",
    [
        {"top": np.zeros(2, np.float32)},
        {"reliable": np.ones(4, bool)},
        {"stamps": np.ones((3, 1), np.uint64)},
        {"bits": np.zeros((3, 1), np.uint8)},
        {"bits": np.zeros((3, 2), np.float64)},
        {"top": np.zeros(3)},
        {"grid": np.array([4, 3, 1])},
        {"grid": np.array(4)},
        {"paths": None},
        {"manifest": None},
        {"top": np.array([1, "x", None], object)},
        {"paths": np.array(["a", "b", "c"])},
        {"manifest": np.frombuffer(b"[1, 2]", np.uint8)},
        {"manifest": np.frombuffer(b"{", np.uint8)},
        {"manifest": np.frombuffer(b"\xff\xfe", np.uint8)},
        {"paths": np.frombuffer(b"\xff\n\n", np.uint8)},
        {"paths": np.frombuffer(b"a\na\nb", np.uint8)},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_columns_of_another_length_or_type(file, columns):
    refused(rewritten(file, **columns), "p.npz is not a whole prior table")


def test_a_length_that_only_the_header_states(file):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    for content, match in (
        (header.getvalue(), "column 'top'"),
        (members["top.npy"] + b"more", "more than its header"),
        (members["top.npy"][:-4], "not a whole"),
        (b"", "not a whole"),
    ):
        with zipfile.ZipFile(file, "w") as new:
            for name, whole in members.items():
                new.writestr(name, content if name == "top.npy" else whole)
        refused(file, match)


def test_files_that_are_no_npz(file, tmp_path):
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    refused(file, "p.npz is not a whole prior table")
    for content in (b"", b"PK", b"{}", bytes(500)):
        file.write_bytes(content)
        refused(file, "p.npz is not a whole prior table")


def test_every_flipped_byte_is_refused_or_changes_nothing(file):
    """The zip's checksums cover the columns; what they do not cover must not raise anything but PriorError."""
    whole, table = file.read_bytes(), PriorTable.load(file)
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        file.write_bytes(damaged)
        try:
            other = PriorTable.load(file)
        except PriorError:
            continue
        assert other.paths == table.paths and np.array_equal(other.masks, table.masks)
        assert np.array_equal(other.top, table.top) and dict(other.manifest) == dict(table.manifest)
