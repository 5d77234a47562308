"""Textures of dense body maps: the warp against a slow reference, mirroring, files, and what is kept of them."""

import numpy as np
import pytest
import torch
from market_folder import make_market_folder
from PIL import Image

from reidkit import files
from reidkit.data import load_dataset
from reidkit.data.images import relative_paths
from reidkit.data.texture import CHARTS, MIRROR, TextureBatch
from reidkit.errors import PriorError
from reidkit.priors import dense
from reidkit.priors.dense import FILL, find_textures, read_iuv, require_textures, texture_file, warp


def slow_warp(image, iuv, size, fill):
    """Texel by texel."""
    H, W = image.shape[:2]
    out = np.zeros((24, 4, size, size), np.uint8)
    for k in range(24):
        known = {}
        for y in range(H):
            for x in range(W):
                if int(iuv[0, y, x]) == k + 1:
                    place = min(int(iuv[2, y, x] * size), size - 1), min(int(iuv[1, y, x] * size), size - 1)
                    known.setdefault(place, []).append(image[y, x].astype(float))
        known = {place: np.mean(colours, 0) for place, colours in known.items()}
        for _ in range(fill):
            grown = dict(known)
            for row in range(size):
                for column in range(size):
                    near = [(row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
                    near = [known[place] for place in near if place in known]
                    if near and (row, column) not in known:
                        grown[row, column] = np.mean(near, 0)
            known = grown
        for (row, column), colour in known.items():
            out[k, :3, row, column], out[k, 3, row, column] = np.round(colour), 255
    return out


def random_map(rng, height=20, width=9, size=8):
    """I, U, V with a third of the pixels on a body; U and V in the middle of texels."""
    chart = rng.integers(1, 25, (height, width)) * (rng.random((height, width)) < 0.3)
    uv = (rng.integers(0, size, (2, height, width)) + 0.5) / size * (chart > 0)
    return np.concatenate([chart[None], uv]).astype(np.float32)


@pytest.mark.parametrize("fill", [0, 1, 3])
def test_warp_against_a_slow_reference(fill):
    rng = np.random.default_rng(fill)
    iuv, image = random_map(rng), rng.integers(0, 256, (20, 9, 3), dtype=np.uint8)
    iuv[:, 0, 0] = 3, 1, 1  # the last texel, not one past it
    found, expected = warp(image, iuv, 8, fill).astype(int), slow_warp(image, iuv, 8, fill).astype(int)
    assert np.abs(found - expected).max() <= 1 and (found[:, 3] == expected[:, 3]).all()  # 1: halves round either way
    assert found[2, 3, 7, 7] == 255 and (warp(image, 0 * iuv, 8, fill) == 0).all()


def test_mirrored_images_have_mirrored_textures():
    """The texture of a mirror image (left and right exchanged, 1 - U) is what `flip` makes of the texture."""
    rng = np.random.default_rng(5)
    iuv, image = random_map(rng), rng.integers(0, 256, (20, 9, 3), dtype=np.uint8)
    swapped = np.array([0, *(m + 1 for m in MIRROR)])[iuv[0].astype(int)]
    mirrored = np.stack([swapped, np.where(swapped > 0, 1 - iuv[1], 0), iuv[2]])[:, :, ::-1]
    textures = TextureBatch(torch.from_numpy(np.stack([warp(image, iuv, 8), warp(image[:, ::-1], mirrored, 8)])))
    assert torch.equal(textures.flip().texture[0], textures.texture[1])
    assert torch.equal(textures.flip(torch.tensor([False, True])).texture[0], textures.texture[0])
    assert torch.equal(textures.flip(torch.tensor([False, True])).texture[1], textures.texture[0])
    assert torch.equal(textures.flip().flip().texture, textures.texture)


def test_left_and_right_charts_are_pairs():
    assert len(CHARTS) == 24 and [MIRROR[m] for m in MIRROR] == list(range(24))
    assert [i + 1 for i, m in enumerate(MIRROR) if m == i] == [1, 2]  # torso
    assert MIRROR[3 - 1] == 4 - 1 and MIRROR[7 - 1] == 8 - 1 and MIRROR[15 - 1] == 16 - 1 and MIRROR[23 - 1] == 24 - 1


def write_iuv(file, iuv, order="IUV"):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz":
        np.savez(file, **dict(zip("IUV", iuv)))
        return
    planes = np.stack([iuv[0], np.round(255 * iuv[1]), np.round(255 * iuv[2])], -1).astype(np.uint8)
    Image.fromarray(planes if order == "IUV" else planes[..., ::-1].copy()).save(file)


@pytest.mark.parametrize("name, order", [("a.png", "IUV"), ("a.png", "VUI"), ("a.npz", "")])
def test_maps_are_read_in_every_form(tmp_path, name, order):
    iuv = random_map(np.random.default_rng(1), size=5)
    write_iuv(tmp_path / name, iuv, order)
    assert np.abs(read_iuv(tmp_path / name) - iuv).max() < 1 / 255
    np.savez(tmp_path / "b.npz", iuv=iuv)
    assert np.array_equal(read_iuv(tmp_path / "b.npz"), iuv)


def test_maps_that_are_none_are_refused(tmp_path):
    good = random_map(np.random.default_rng(1))
    for change, said in (
        ((0, 30), "charts I from 0 to 24"),
        ((0, 1.5), "charts"),
        ((1, 1.2), "U and V"),
        ((2, np.nan), "I"),
    ):
        bad = good.copy()
        bad[change[0], 0, 0] = change[1]
        np.savez(tmp_path / "x.npz", iuv=bad)
        with pytest.raises(PriorError, match=said):
            read_iuv(tmp_path / "x.npz")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    Image.new("RGB", (4, 4), (200, 200, 200)).save(tmp_path / "photo.png")
    np.savez(tmp_path / "other.npz", x=good)
    for name in ("broken.png", "grey.png", "photo.png", "other.npz"):
        with pytest.raises(PriorError, match=name):
            read_iuv(tmp_path / name)


@pytest.fixture
def market(tmp_path):
    ds = load_dataset("market-layout", root=make_market_folder(tmp_path / "set"))
    rng = np.random.default_rng(0)
    for path in relative_paths(ds.train["path"], ds.root):
        write_iuv((tmp_path / "set" / "dense" / path).with_suffix(".png"), random_map(rng, 32, 16, 32))
    return ds


def test_textures_from_files_are_kept_until_a_map_or_an_image_changes(market):
    paths = relative_paths(market.train["path"], market.root)
    table = find_textures(market, "files", progress=False)
    image, file = np.asarray(Image.open(market.root / paths[3])), (market.root / "dense" / paths[3]).with_suffix(".png")
    assert np.array_equal(table.lookup([paths[3]]).texture[0].numpy(), warp(image, read_iuv(file), fill=FILL))
    kept = texture_file(market, "files").stat().st_mtime_ns
    find_textures(market, "files", progress=False)
    assert texture_file(market, "files").stat().st_mtime_ns == kept
    write_iuv(file, np.zeros((3, 32, 16), np.float32))
    assert not find_textures(market, "files", progress=False).lookup([paths[3]]).texture.any()
    Image.new("RGB", (16, 32), (0, 0, 255)).save(market.root / paths[4])  # other pixels under the same map
    seen = find_textures(market, "files", progress=False).lookup([paths[4]]).texture[0]  # [24, 4, S, S]
    assert (seen[:, 2] > 250)[seen[:, 3] > 0].all() and seen[:, 3].any()
    with pytest.raises(PriorError, match="first is nowhere"):
        table.lookup(["nowhere.jpg"])
    assert sorted(p.suffix for p in texture_file(market, "files").parent.iterdir()) == [".json", ".npy"]


def test_no_room_for_textures_is_said_before_the_first(market, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(dense, "warp", lambda *a: pytest.fail("a texture was made"))
    with pytest.raises(PriorError, match=r"textures cannot be kept.*No space left.*make room.*--cache-dir"):
        find_textures(market, "files", progress=False)
    assert not list(texture_file(market, "files").parent.iterdir())


def test_missing_and_misfitting_maps_are_named(market):
    path = relative_paths(market.train["path"], market.root)[2]
    file = (market.root / "dense" / path).with_suffix(".png")
    write_iuv(file, random_map(np.random.default_rng(0), 10, 16))
    with pytest.raises(PriorError, match=rf"{path} has 10x16 pixels.*32x16"):
        find_textures(market, "files", progress=False)
    file.unlink()
    with pytest.raises(PriorError, match=r"1 of .* have no dense body map"):
        require_textures(market, "files")
    with pytest.raises(PriorError, match="was not rendered"):
        require_textures(market, "sidewalk")
    with pytest.raises(PriorError, match="makes no dense body maps"):
        require_textures(market, "torchvision+segformer")
