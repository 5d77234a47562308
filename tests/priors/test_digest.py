"""What a result says of its priors: a digest of what they are, whenever and wherever they were made."""

from dataclasses import replace

import numpy as np
import pytest

from reidkit.errors import PriorError
from reidkit.priors import PriorTable, coarse_priors
from reidkit.priors.dense import TextureTable
from reidkit.priors.store import make_table


def small_table():
    """Three images, of which one is not reliable."""
    maps = np.zeros((3, 8, 4), int)
    maps[:2, 1, 1:3], maps[:2, 2:6, 1:3] = 13, 9
    batch = coarse_priors(maps, maps > 0, (4, 2))
    columns = (getattr(batch, name).numpy() for name in ("mask", "top", "bottom", "reliable"))
    return make_table(("a", "b", "c"), *columns, np.arange(1, 4, dtype=np.uint64), settings={})


def test_the_digest_of_priors_follows_what_they_say_and_not_when_they_were_made():
    table = small_table()
    turned = table.subset(table.paths[::-1])
    assert replace(table, stamps=table.stamps + 1, manifest={"a": 1}).digest() == table.digest() == turned.digest()
    other = {
        "masks": np.concatenate([~table.masks[:1], table.masks[1:]]),
        "top": table.top + np.float32(0.01),
        "bottom": table.bottom - np.float32(0.01),
        "reliable": ~table.reliable,
        "paths": ("x", *table.paths[1:]),
    }
    digests = {table.digest(), *(replace(table, **{key: value}).digest() for key, value in other.items())}
    assert table.reliable.tolist() == [True, True, False] and len(digests) == 1 + len(other)


def test_a_table_has_a_row_a_path_in_every_column(tmp_path):
    table = small_table()
    for name, wrong in (("top", table.top[:2]), ("masks", table.masks[0]), ("paths", ("a", "b"))):
        with pytest.raises(PriorError, match="columns of other lengths"):
            replace(table, **{name: wrong})
    with pytest.raises(PriorError, match=r"none\.npz: no such prior table; make it with build_priors"):
        PriorTable.load(tmp_path / "none.npz")


def test_the_digest_of_textures():
    textures = np.arange(2 * 24 * 4, dtype=np.uint8).reshape(2, 24, 4, 1, 1)
    one, turned = TextureTable(("a", "b"), textures), TextureTable(("b", "a"), textures[::-1])
    swapped, first = TextureTable(("b", "a"), textures), TextureTable(("a",), textures)
    assert one.digest() == turned.digest()
    assert len({one.digest(), swapped.digest(), first.digest()}) == 3
