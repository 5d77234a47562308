"""The index of a gallery: what is read, what is kept, who waits, and how wrong half precision may be."""

import os
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from own_pictures import person_folders, save_person
from search_networks import Watched, small_network

from reidkit.errors import DatasetError, PriorError, ReIDKitError
from reidkit.search import blocks as blocks_module
from reidkit.search import index as index_module
from reidkit.search.blocks import halved, write_block
from reidkit.search.index import open_index


@pytest.fixture
def gallery(tmp_path):
    return person_folders(tmp_path / "g", persons=5, shots=4)


@pytest.fixture
def network():
    return Watched(small_network())


def names(index):
    return [file.name for file in index.files]


def opened(network, gallery, **options):
    network.read_names = []
    return open_index(network, gallery, progress=False, **options)


def kept(index):
    return index.rows(np.arange(len(index)))


def assert_rows(index, network, gallery):
    """Row i is the feature of picture i, in half precision; batches of another size differ in the last digit."""
    wanted = halved(network.model.extract(gallery, progress=False))[0]
    np.testing.assert_allclose(kept(index).astype(np.float32), wanted.astype(np.float32), atol=1e-4, rtol=1e-3)


def test_rows_are_the_features_of_extract_in_half_precision(gallery, network):
    index = opened(network, gallery)
    assert names(index) == sorted(names(index)) and len(index) == 20 and index.read == 20
    wanted = network.model.extract(gallery, progress=False)
    assert_rows(index, network, gallery)
    queries = wanted[3:6]
    unit = [v.double() / v.double().norm(dim=1, keepdim=True) for v in (queries, wanted)]
    exact = (unit[0] @ unit[1].T).numpy()
    error = np.abs(index.scores(queries) - exact)
    bound = index.rounding(np.arange(20))
    assert (error <= bound).all() and 0 < error.max() and bound.max() < 1e-3
    assert index.worst_rounding >= bound.max()
    some = np.array([7, 2, 19])
    np.testing.assert_allclose(index.scores(queries, some), index.scores(queries)[:, some], atol=1e-6)


def test_only_what_changed_is_read_again(gallery, network):
    before = opened(network, gallery)
    again = opened(network, gallery)
    assert network.read_names == [] and again.read == 0 and again.revision == before.revision
    os.remove(gallery / "p00" / "001.png")
    save_person(gallery / "p01" / "001.png", 9, 9)
    save_person(gallery / "new" / "x.png", 7)
    after = opened(network, gallery)
    assert sorted(network.read_names) == ["001.png", "x.png"] and after.read == 2 and after.revision != before.revision
    assert names(after) == sorted({*names(before), "new/x.png"} - {"p00/001.png"})
    assert_rows(after, network, gallery)
    shutil.copy2(gallery / "p02" / "000.png", gallery / "p02" / "copy.png")
    opened(network, gallery)
    assert network.read_names == ["copy.png"]


def test_broken_pictures_are_listed_and_not_tried_again(gallery, network):
    (gallery / "p00" / "bad.jpg").write_bytes(b"no image")
    (gallery / "p00" / "empty.png").write_bytes(b"")
    index = opened(network, gallery)
    assert set(index.broken) == {"p00/bad.jpg", "p00/empty.png"} and len(index) == 20 and index.read == 20
    assert "not an image" in index.broken["p00/bad.jpg"]
    again = opened(network, gallery)
    assert network.read_names == [] and again.broken == index.broken
    save_person(gallery / "p00" / "empty.png", 3)
    mended = opened(network, gallery)
    assert network.read_names == ["empty.png"] and set(mended.broken) == {"p00/bad.jpg"} and len(mended) == 21
    (mended.folder / "broken.json").write_text("{}")
    assert set(opened(network, gallery).broken) == {"p00/bad.jpg"} and network.read_names == ["bad.jpg"]


def test_nothing_that_can_be_read_is_an_error(tmp_path, network):
    (tmp_path / "a.png").write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"no picture of the gallery .* can be read; the first one: .*a\.png"):
            opened(network, tmp_path)


def test_an_interrupted_index_goes_on(gallery, network, monkeypatch):
    monkeypatch.setattr(index_module, "PIECE", 4)
    network.fail_after = 3
    with pytest.raises(KeyboardInterrupt):
        opened(network, gallery)
    network.fail_after = None
    index = opened(network, gallery)
    assert len(network.read_names) == 8 == index.read and len(index) == 20
    assert_rows(index, network, gallery)


def test_blocks_are_merged_and_dead_rows_go(gallery, network, monkeypatch):
    monkeypatch.setattr(index_module, "PIECE", 3)
    monkeypatch.setattr(blocks_module, "FULL", 8)
    index = opened(network, gallery)
    assert sorted(len(block) for block in index.blocks) == [4, 8, 8] and len(list(index.folder.glob("*.block"))) == 3
    for folder in ("p00", "p01", "p02"):
        shutil.rmtree(gallery / folder)
    after = opened(network, gallery)
    assert sum(len(block) for block in after.blocks) < 20 and len(after) == 8
    assert_rows(after, network, gallery)
    assert len(index.scores(torch.ones(1, index.dim))[0]) == 20, "an open index outlives the files that were merged"


def test_rows_that_are_there_twice_count_once(gallery, network):
    index = opened(network, gallery)
    block = index.blocks[0]
    shutil.copy(block.path, block.path.with_name("zz.block"))  # a merge that was killed before it removed the old one
    again = opened(network, gallery)
    assert network.read_names == [] and len(again) == 20 and np.array_equal(kept(again), kept(index))
    assert sum(map(len, opened(network, gallery).blocks)) == 20


def test_two_at_once_read_each_picture_once(gallery):
    networks, indexes = [Watched(small_network()) for _ in range(3)], []
    work = lambda network: indexes.append(open_index(network, gallery, progress=False))  # noqa: E731
    threads = [threading.Thread(target=work, args=(network,)) for network in networks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert len(indexes) == 3 and sum(len(network.read_names) for network in networks) == 20
    assert all(np.array_equal(kept(index), kept(indexes[0])) for index in indexes)


def test_networks_have_indexes_of_their_own(gallery, network):
    first = opened(network, gallery)
    other = Watched(small_network("ide", key="other"))
    assert opened(other, gallery).folder != first.folder and len(other.read_names) == 20
    opened(network, gallery)
    assert network.read_names == []
    wrong = Watched(small_network("ide", key="small"))  # the key of another network: never silently mixed
    with pytest.raises(ReIDKitError, match="columns"):
        opened(wrong, gallery).scores(torch.ones(1, 3))


def test_a_cache_dir_keeps_the_gallery_clean(gallery, network, tmp_path):
    index = opened(network, gallery, cache_dir=tmp_path / "cache")
    assert (tmp_path / "cache") in index.folder.parents and not (gallery / ".reidkit-search").exists()
    other = person_folders(tmp_path / "other" / "g", persons=1)  # the same name elsewhere
    assert opened(network, other, cache_dir=tmp_path / "cache").folder != index.folder
    opened(network, gallery, cache_dir=tmp_path / "cache")
    assert network.read_names == []


def test_a_gallery_that_cannot_be_written_to(gallery, network, monkeypatch):
    full = opened(network, gallery)

    @contextmanager
    def refused(*_):
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setattr(index_module, "locked", refused)
    index = opened(network, gallery)
    assert network.read_names == [] and np.array_equal(kept(index), kept(full)), "what is there is used"
    save_person(gallery / "new.png", 1)
    with pytest.raises(ReIDKitError, match=r"index of 1 pictures cannot be written to .*--cache-dir"):
        opened(network, gallery)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, b"{}"])
def test_a_damaged_block_is_read_again(gallery, network, damage):
    index = opened(network, gallery)
    index.blocks[0].path.write_bytes(damage)
    with pytest.warns(UserWarning, match="is damaged"):
        again = opened(network, gallery)
    assert len(network.read_names) == 20
    assert_rows(again, network, gallery)


def test_a_cut_block_is_read_again(gallery, network):
    path = opened(network, gallery).blocks[0].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert len(opened(network, gallery)) == 20 and len(network.read_names) == 20


def test_features_that_are_not_finite_are_noticed(gallery, network):
    index = opened(network, gallery)
    block, rows = index.blocks[0], index.blocks[0].rows()
    with block.path.open("r+b") as file:
        file.seek(block.offset)
        file.write(np.full(3, np.nan, np.float16).tobytes())
    with pytest.raises(ReIDKitError, match=r"not finite.*delete it"):
        opened(network, gallery).scores(torch.ones(1, index.dim))
    block.path.unlink()
    write_block(index.folder, block.files, np.nan_to_num(rows), np.full(len(block), np.nan, np.float32))
    with pytest.warns(UserWarning, match="is damaged"):
        assert_rows(opened(network, gallery), network, gallery)


def test_networks_that_need_priors_are_refused_first(gallery):
    network = Watched(small_network("baseline-ub"))
    assert network.model.needs_prior_at_test
    with pytest.raises(PriorError, match="search with a network that needs none"):
        opened(network, gallery)
    assert network.read_names == []
