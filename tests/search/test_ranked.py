"""Lists: exactly those of `rank`, whatever half precision says; what FAISS's indexes miss is measured."""

import sys

import numpy as np
import pytest
import torch
from needs import need
from own_pictures import person_folders, save_person
from search_networks import Watched, coloured, small_network

from reidkit.errors import ReIDKitError, UnknownNameError
from reidkit.evaluation import rank
from reidkit.search import nearest as nearest_module
from reidkit.search import open_index, open_pictures, ranked, search
from reidkit.search.nearest import Nearest, open_nearest, recall


class Angles(Watched):
    """Its feature is an angle told by the red of a picture, in steps that half precision cannot see."""

    def features(self, pixels, names):
        red = pixels[:, 0].double().mean((1, 2))  # [B]
        angle = torch.where(red > 0, 0.5 + 1e-4 * red, 0.0)
        return torch.stack([angle.cos(), angle.sin()], dim=1).float()  # [B, 2]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return person_folders(tmp_path_factory.mktemp("search") / "g", persons=12, shots=5)


@pytest.fixture(scope="module")
def network():
    return small_network()


def rows(found):
    return [[hit.row for hit in hits] for hits in found.hits]


def test_the_list_of_rank(gallery, network, tmp_path):
    queries = [save_person(tmp_path / f"{i}.png", i, 99) for i in range(4)]
    index = open_index(network, gallery, progress=False)
    found = search(network, index, open_pictures(queries), top=15)
    qf, gf = network.model.extract(queries), network.model.extract(gallery)
    order, scores = rank(qf, gf, 15, return_scores=True)
    assert rows(found) == order.tolist()
    assert [[hit.name for hit in hits] for hits in found.hits] == [[index.files[i].name for i in row] for row in order]
    np.testing.assert_allclose([[hit.score for hit in hits] for hits in found.hits], scores, atol=1e-6)
    assert [hit.rank for hit in found.hits[0]] == list(range(1, 16))
    parts = network.parts(gf)  # [G, K, d]
    for hit in found.hits[2]:
        wanted = torch.cosine_similarity(network.parts(qf)[2], parts[hit.row], dim=-1)
        np.testing.assert_allclose(hit.parts, wanted, atol=1e-5)
    assert found.notes == ["exact: every picture is compared, recall@15 is 1 by definition"]


def test_half_precision_does_not_decide_the_order(tmp_path):
    for i in range(40):
        coloured(tmp_path / "g" / f"{i:02d}.png", (100 + (7 * i) % 40, 100, 100))
    query = open_pictures([coloured(tmp_path / "q.png", (0, 100, 100))])
    network = Angles(small_network())
    network.parts = lambda features: features.unflatten(-1, (2, 1))
    index = open_index(network, tmp_path / "g", progress=False)
    reds = [100 + (7 * i) % 40 for i in range(40)]
    wanted = np.argsort(reds)[:5].tolist()  # the smallest angles
    kept = rank(torch.tensor([[1.0, 0.0]]), torch.from_numpy(index.rows(np.arange(40))), 5)[0].tolist()
    assert kept != wanted, "the rows that are kept cannot tell these pictures apart"
    assert rows(search(network, index, query, top=5)) == [wanted]


def test_equal_pictures_keep_the_order_of_the_gallery(tmp_path, network):
    for name in ("c", "a", "b"):
        save_person(tmp_path / "g" / f"{name}.png", 1)
    save_person(tmp_path / "g" / "0.png", 2)
    found = search(
        network, open_index(network, tmp_path / "g", progress=False), open_pictures([tmp_path / "g" / "a.png"])
    )
    assert [hit.name for hit in found.hits[0]] == ["a.png", "b.png", "c.png", "0.png"], (
        "a short gallery gives a short list"
    )


def test_copies_beyond_counting_are_said(tmp_path, network, monkeypatch):
    monkeypatch.setattr(ranked, "MOST_AGAIN", 0)
    for i in range(9):
        save_person(tmp_path / "g" / f"{i}.png", 1)
    watched = Watched(network)
    index = open_index(watched, tmp_path / "g", progress=False)
    watched.read_names = []
    found = search(watched, index, open_pictures([tmp_path / "g" / "3.png"]), top=2)
    assert len(watched.read_names) == 8 and watched.read_names == sorted(watched.read_names)
    assert len(rows(found)[0]) == 2 and [hit.score for hit in found.hits[0]] == pytest.approx([1, 1])
    assert found.notes[-1].startswith("1 more pictures are as like the query")


def test_a_picture_that_breaks_meanwhile_is_left_out(tmp_path, network):
    for i in range(4):
        save_person(tmp_path / "g" / f"{i}.png", i)
    index = open_index(network, tmp_path / "g", progress=False)
    query = open_pictures([save_person(tmp_path / "q.png", 1, 1)])
    (tmp_path / "g" / "1.png").write_bytes(b"gone")
    found = search(network, index, query, top=3)
    assert 1 not in rows(found)[0] and any("1.png" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss_finds_the_list_and_says_its_recall(gallery, network, tmp_path, kind):
    need("faiss")
    query = open_pictures([save_person(tmp_path / "q.png", 3, 99)])
    index = open_index(network, gallery, cache_dir=tmp_path / "cache", progress=False)
    found, exact = (search(network, index, query, top=5, kind=k) for k in (kind, "exact"))
    assert rows(found) == rows(exact), "so few pictures are all looked at"
    assert (
        found.notes[0]
        == f"{kind}: recall@5 1.000 of the exact lists, measured on 50 pictures of this gallery as queries"
    )
    assert (index.folder / f"{kind}.faiss").is_file()


def test_the_flat_index_of_faiss_agrees_with_ours(gallery, network):
    faiss = need("faiss")
    index = open_index(network, gallery, progress=False)
    flat = faiss.IndexFlatIP(index.dim)
    flat.add(index.rows(np.arange(len(index))).astype(np.float32))
    queries = index.rows(np.arange(0, 60, 7)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scores, found = flat.search(queries, 10)
    ours = index.scores(torch.from_numpy(queries))
    assert np.array_equal(np.argsort(-ours, axis=1, kind="stable")[:, :10], found)
    np.testing.assert_allclose(np.sort(-ours, axis=1)[:, :10], -scores, atol=1e-5)


def test_recall_is_what_a_count_by_hand_gives(gallery, network, monkeypatch):
    """An index that forgets every third row: the share of the exact neighbours that is left."""
    index = open_index(network, gallery, progress=False)

    class Forgetful:
        def find(self, queries, count):
            scores = index.scores(torch.from_numpy(queries))
            scores[:, ::3] = -np.inf
            return list(np.argsort(-scores, axis=1)[:, :count])

    share, sample = recall(index, Forgetful(), 6, sample=9, seed=1)
    drawn = np.sort(np.random.default_rng(1).permutation(60)[:9])
    found = []
    for own in drawn:
        scores = index.rows(np.arange(60)).astype(np.float64) @ index.rows(np.array([own]))[0].astype(np.float64)
        neighbours = [i for i in np.argsort(-scores, kind="stable") if i != own][:6]
        found += [i % 3 != 0 for i in neighbours]
    assert sample == 9 and share == pytest.approx(np.mean(found)) and 0 < share < 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_faiss_index_is_kept_until_the_gallery_changes(tmp_path, network, monkeypatch, kind):
    need("faiss")
    gallery = person_folders(tmp_path / "g", persons=3, shots=3)
    built, build = [], Nearest.build.__func__
    monkeypatch.setattr(Nearest, "build", classmethod(lambda cls, *a: built.append(1) or build(cls, *a)))
    for _ in range(2):
        open_nearest(open_index(network, gallery, progress=False), kind)
    assert len(built) == 1
    save_person(gallery / "new.png", 5)
    index = open_index(network, gallery, progress=False)
    assert open_nearest(index, kind).index.ntotal == 10 and len(built) == 2
    (index.folder / f"{kind}.faiss").write_bytes(b"damaged")
    assert open_nearest(index, kind).index.ntotal == 10 and len(built) == 3
    with monkeypatch.context() as patch:
        patch.setattr(nearest_module, "replacing", refused)
        save_person(gallery / "newer.png", 6)
        index = open_index(network, gallery, progress=False)
        assert open_nearest(index, kind).index.ntotal == 11, "a disk that takes nothing costs time, not the answer"


def refused(*_):
    raise ReIDKitError("cannot write")


def test_without_faiss(gallery, network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    query = open_pictures([save_person(tmp_path / "q.png", 3, 99)])
    index = open_index(network, gallery, progress=False)
    assert len(search(network, index, query, top=3).hits[0]) == 3
    with pytest.raises(ReIDKitError, match=r"need FAISS: pip install 'reidkit\[search\]'"):
        search(network, index, query, kind="ivf")


def test_what_cannot_be_searched(gallery, network):
    index = open_index(network, gallery, progress=False)
    query = open_pictures([index.path(0)])
    for options, error, match in (
        ({"top": 0}, ReIDKitError, "top must be at least 1"),
        ({"kind": "flat"}, UnknownNameError, "unknown index 'flat'"),
    ):
        with pytest.raises(error, match=match):
            search(network, index, query, **options)
    with pytest.raises(ReIDKitError, match="nothing to search for"):
        search(network, index, [])


def test_one_picture_in_the_gallery(tmp_path, network):
    save_person(tmp_path / "g" / "a.png", 1)
    index = open_index(network, tmp_path / "g", progress=False)
    query = open_pictures([save_person(tmp_path / "q.png", 3)])
    kinds = ["exact"] + (["ivf", "hnsw"] if need("faiss") else [])
    assert [rows(search(network, index, query, kind=kind)) for kind in kinds] == [[[0]]] * 3
