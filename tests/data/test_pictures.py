"""One rule for all pictures: what training, checks, contact sheets, priors and uploads see of every kind of file."""

import io
import struct

import layouts
import numpy as np
import pandas as pd
import pytest
from picture_files import H, W, noise, png, save
from PIL import Image

from reidkit.data.contact_sheet import contact_sheet
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.images import BACKGROUND, FORMATS, decode, read_image, upright_size
from reidkit.panels.kit.crop import read_upload


def on_background(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 4] -> [H, W, 3], pixel by pixel."""
    out = np.zeros((*pixels.shape[:2], 3))
    for y, x in np.ndindex(pixels.shape[:2]):
        share = pixels[y, x, 3] / 255
        out[y, x] = share * pixels[y, x, :3] + (1 - share) * np.array(BACKGROUND)
    return out


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_put_on_the_background(tmp_path, suffix):
    pixels = noise(4)
    pixels[:8, :, 3], pixels[8:16, :, 3] = 0, 255
    path = save(Image.fromarray(pixels), tmp_path / f"x{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    seen = np.asarray(decode(path)).astype(float)
    assert np.abs(seen - on_background(pixels)).max() <= 1
    assert (seen[:8] == BACKGROUND).all() and (seen[8:16] == pixels[8:16, :, :3]).all()


def hidden(mode: str) -> Image.Image | bytes:
    """Noise that is wholly transparent, in every way that a file can say so."""
    if mode == "RGBA":
        return Image.fromarray(np.dstack([noise(3), np.zeros((H, W), np.uint8)]))
    if mode == "LA":
        return Image.fromarray(np.dstack([noise(1), np.zeros((H, W), np.uint8)]))
    if mode == "P, alpha of every entry":
        image = Image.fromarray(noise(3)).quantize(256)
        image.info["transparency"] = bytes(256)
        return image
    values = {"16-bit grey key": 0, "16-bit colour key": 2, "4-bit grey key": 0}
    deep = np.full((H, W), 9 if mode.startswith("4") else 40_001, np.uint16)
    kind = values[mode]
    pixels = np.dstack([deep] * 3) if kind == 2 else deep
    key = struct.pack(">H", deep[0, 0]) * (3 if kind == 2 else 1)
    return png(pixels, kind, 4 if mode.startswith("4") else 16, key)


@pytest.mark.parametrize(
    "mode", ["RGBA", "LA", "P, alpha of every entry", "16-bit grey key", "16-bit colour key", "4-bit grey key"]
)
def test_what_alpha_hides_does_not_come_back(tmp_path, mode):
    made, path = hidden(mode), tmp_path / "x.png"
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        made.save(path)
    assert np.asarray(decode(path)).std() == 0
    facts = inspect_image(str(path))
    assert facts.problem == "" and facts.transparent == H * W and "transparent pixels" in facts.note
    assert "alpha" in inspect_image(str(path), decode=False).note


def test_one_transparent_colour_of_a_palette(tmp_path):
    image = Image.fromarray(np.arange(H * W, dtype=np.uint8).reshape(H, W) % 8, "P")
    image.putpalette([v for i in range(256) for v in (i, 200, 10)])
    seen = np.asarray(decode(save(image, tmp_path / "x.png", transparency=3)))
    is_hole = np.asarray(image) == 3
    assert (seen[is_hole] == BACKGROUND).all() and (seen[~is_hole][:, 1] == 200).all()


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    pixels = noise(3)
    path = save(Image.fromarray(np.dstack([pixels, np.full((H, W), 255, np.uint8)])), tmp_path / "x.png")
    assert np.array_equal(np.asarray(decode(path)), pixels)
    facts = inspect_image(str(path))
    assert facts.transparent == 0 and facts.note == "mode RGBA, converted to RGB when read"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    path = save(Image.fromarray(ramp), tmp_path / f"x{suffix}")
    assert np.asarray(decode(path))[0, :, 0].tolist() == list(range(256))
    assert "16-bit" in inspect_image(str(path)).note


@pytest.mark.parametrize(
    ("values", "top"),
    [(np.int32, 65535), (np.int32, 255), (np.int32, 10**7), (np.float32, 1), (np.float32, 255), (np.float32, 65535)],
)
def test_wide_values_are_scaled(tmp_path, values, top):
    ramp = np.linspace(0, top, 256)[None].repeat(4, 0).astype(values)
    path = save(Image.fromarray(ramp), tmp_path / "x.tif")
    seen = np.asarray(decode(path))[0, :, 0].astype(int)
    assert np.abs(seen - np.arange(256)).max() <= 1 and (np.diff(seen) >= 0).all()
    assert "scaled" in inspect_image(str(path)).note


def test_floats_that_are_no_numbers(tmp_path):
    values = np.full((H, W), 0.5, np.float32)
    values[0, :3] = np.nan, np.inf, -2
    seen = np.asarray(decode(save(Image.fromarray(values), tmp_path / "x.tif")))[..., 0]
    assert seen[0, :3].tolist() == [0, 0, 0] and (seen[1:] == 128).all()


@pytest.mark.parametrize("kind", [2, 4, 6])  # colour, grey with alpha, colour with alpha
def test_sixteen_bits_a_channel(tmp_path, kind):
    channels = {2: 3, 4: 2, 6: 4}[kind]
    values = np.linspace(0, 65535, H * W).astype(np.uint16).reshape(H, W)
    deep = np.dstack([values] * channels)
    if kind != 2:
        deep[..., -1] = 65535
    (tmp_path / "x.png").write_bytes(png(deep, kind, 16))
    assert np.array_equal(np.asarray(decode(tmp_path / "x.png"))[..., 0], values >> 8)
    assert "16-bit" in inspect_image(str(tmp_path / "x.png")).note


def lying(orientation: int, kind: str) -> bytes:
    """An arrow of four grey levels, stored as EXIF value `orientation` says, so that upright it is `arrow()`."""
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # the transposition that undoes it
    stored = Image.fromarray(arrow())
    stored = stored if back is None else stored.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    stored.save(data, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return data.getvalue()


def arrow() -> np.ndarray:
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[: H // 2, : W // 2], pixels[: H // 2, W // 2 :], pixels[H // 2 :, : W // 2] = 250, 170, 80
    return pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path, kind, orientation):
    path = tmp_path / f"x{FORMATS[kind][0]}"
    path.write_bytes(lying(orientation, kind))
    seen = np.asarray(decode(path))
    assert seen.shape == (H, W, 3) and np.abs(seen.astype(int) - arrow()).max() <= 12
    assert upright_size(path) == (H, W)
    assert np.array_equal(read_upload("x", path.read_bytes()), seen)
    notes = [inspect_image(str(path), decode=d).note for d in (True, False)]
    assert all(("not upright" in note) == (orientation != 1) for note in notes), notes


def test_unreadable_exif_is_a_note(tmp_path):
    picture = layouts.picture(1, (H, W))
    path = save(picture, tmp_path / "x.png", exif=b"XX*\0" + bytes(20))
    assert np.array_equal(np.asarray(decode(path)), np.asarray(picture))
    assert inspect_image(str(path)).note == "unreadable EXIF"


def encodings() -> dict[str, bytes]:
    """One picture in many kinds of file."""
    picture = layouts.picture(3, (H, W))
    made = {}
    for kind, modes in {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "L", "P", "1", "RGBA", "LA"),
        "BMP": ("RGB", "L", "P", "1"),
        "WEBP": ("RGB", "RGBA"),
        "TIFF": ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "LAB", "YCbCr"),
    }.items():
        for mode in modes:
            data = io.BytesIO()
            image = Image.new("LAB", (W, H), (128, 128, 128)) if mode == "LAB" else picture.convert(mode)
            image.save(data, kind)
            made[f"{kind} {mode}"] = data.getvalue()
    made["16-bit"] = png(np.full((H, W), 30_000, np.uint16), 0, 16)
    made["turned"] = lying(6, "JPEG")
    return made


@pytest.mark.parametrize(("name", "data"), encodings().items(), ids=encodings())
def test_uploads_sheets_and_training_see_the_same_pixels(tmp_path, name, data):
    path = tmp_path / "0001_c1.jpg"
    path.write_bytes(data)
    seen = np.asarray(decode(path))
    assert seen.shape == (H, W, 3)
    assert np.array_equal(read_image(path, (H, W)), seen.transpose(2, 0, 1))
    assert np.array_equal(read_upload(name, data), seen)
    table = pd.DataFrame({"path": [str(path)], "pid": [1], "camid": [1]})
    sheet = np.asarray(contact_sheet(table, columns=1, thumb=(H, W)))
    assert np.array_equal(sheet[28 : 28 + H, 120 : 120 + W], seen)
    assert inspect_image(str(path)).problem == "" == inspect_image(str(path), decode=False).problem


def test_of_several_pictures_the_first_is_read(tmp_path):
    pages = [Image.new("RGB", (W, H), (v, v, v)) for v in (10, 200)]
    for suffix in (".tif", ".webp", ".png"):
        path = save(pages[0], tmp_path / f"x{suffix}", save_all=True, append_images=pages[1:])
        assert np.asarray(decode(path)).max() < 20
        assert "several pictures" in inspect_image(str(path)).note
