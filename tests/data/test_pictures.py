"""One rule for all pictures: what training, checks, contact sheets, priors and uploads see of every kind of file."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reidkit.data import images
from reidkit.data.contact_sheet import contact_sheet
from reidkit.data.copies import jpeg_damage as jpeg_damage_module
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.copies.jpeg_damage import hears_complaints, jpeg_damage, lost_block
from reidkit.data.images import BACKGROUND, FORMATS, IMAGE_SUFFIXES, OTHER_SUFFIXES, decode, read_image, upright_size
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.panels.kit.crop import read_upload

H, W = 32, 16


def noise(channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, channels), dtype=np.uint8)


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def png(values: np.ndarray, kind: int, depth: int, key: bytes = b"") -> bytes:
    """A PNG written by hand, as Pillow cannot write 16-bit colour or a transparent 16-bit grey.

    values: [H, W] or [H, W, C] uint16; depth 16, or 4 (grey only); key: content of the tRNS chunk.
    """
    if depth == 4:
        rows = [(row[0::2] << 4 | row[1::2]).astype(np.uint8).tobytes() for row in values]
    else:
        rows = [row.astype(">u2").tobytes() for row in values]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + (chunk(b"tRNS", key) if key else b"") + body


def on_background(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 4] -> [H, W, 3], pixel by pixel."""
    out = np.zeros((*pixels.shape[:2], 3))
    for y, x in np.ndindex(pixels.shape[:2]):
        share = pixels[y, x, 3] / 255
        out[y, x] = share * pixels[y, x, :3] + (1 - share) * np.array(BACKGROUND)
    return out


# ---- transparency ----------------------------------------------------------------------------------------------------


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


# ---- more than 8 bits ------------------------------------------------------------------------------------------------


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


# ---- upright, everywhere ---------------------------------------------------------------------------------------------


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


# ---- refused ---------------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 32\n%%EndComments\nshowpage\n%%EOF\n"


def test_a_postscript_file_named_jpg_starts_nothing(tmp_path, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError("a program was started")

    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    (tmp_path / "x.jpg").write_bytes(EPS)
    with pytest.raises(DatasetError, match=r"x\.jpg.*not an image"):
        decode(tmp_path / "x.jpg")
    with pytest.raises(ReIDKitError, match="'x' is not an image"):
        read_upload("x", EPS)
    assert "not an image" in inspect_image(str(tmp_path / "x.jpg")).problem


@pytest.mark.parametrize("kind", ["GIF", "PPM", "TGA", "ICO", "PCX", "JPEG2000"])
def test_other_kinds_under_a_false_name_are_refused(tmp_path, kind):
    data = io.BytesIO()
    try:
        layouts.picture(0, (H, W)).save(data, kind)
    except (OSError, KeyError):
        pytest.skip("this Pillow cannot write it")
    (tmp_path / "x.jpg").write_bytes(data.getvalue())
    with pytest.raises(DatasetError, match="read are JPEG, PNG, BMP, WEBP, TIFF"):
        decode(tmp_path / "x.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_stated_size_is_checked_before_decoding(tmp_path, monkeypatch):
    head = bytearray(png(np.zeros((2, 2), np.uint16), 0, 16))
    for width, height in ((200_000, 200_000), (13_300, 13_300), (2**31 - 1, 1), (10_000, 9_000)):
        head[16:24] = struct.pack(">II", width, height)
        head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
        (tmp_path / "x.png").write_bytes(head)
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
        for refused in (lambda: decode(tmp_path / "x.png"), lambda: read_upload("x", bytes(head))):
            with pytest.raises(ReIDKitError, match="too large"):
                refused()
    monkeypatch.undo()
    monkeypatch.setattr(images, "MAX_PIXELS", H * W - 1)
    path = save(layouts.picture(0, (H, W)), tmp_path / "x.png")
    with pytest.raises(DatasetError, match=f"too large: {W} x {H} pixels"):
        decode(path)


def test_what_cannot_be_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.bmp").write_bytes(layouts.encoded(kind="BMP")[:200])
    for name, why in (
        ("pipe.jpg", "plain file"),
        ("empty.jpg", "empty"),
        ("cut.bmp", "truncated|damaged"),
        ("none.jpg", "missing"),
    ):
        with pytest.raises(DatasetError, match=f"{name}.*({why})"):
            decode(tmp_path / name)


def test_the_lists_of_suffixes_do_not_overlap():
    assert not set(IMAGE_SUFFIXES) & set(OTHER_SUFFIXES)
    assert all(s.startswith(".") and s == s.lower() for s in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES))


# ---- JPEGs that are damaged in the middle ----------------------------------------------------------------------------


def jpegs() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    shapes = (
        {},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"exif": exif},
        {"progressive": True, "restart_marker_rows": 1},
    )
    pictures = [
        layouts.picture(1, (64, 32)),
        Image.new("RGB", (32, 64), (9, 99, 199)),
        layouts.picture(2).convert("L"),
        layouts.picture(5, (61, 35)).resize((40, 80)),
    ]
    made = []
    for picture in pictures:
        for quality in (20, 75, 95):
            for subsampling in (0, 2):
                for options in shapes:
                    data = io.BytesIO()
                    picture.save(data, "JPEG", quality=quality, subsampling=subsampling, **options)
                    made.append(data.getvalue())
    return made


@pytest.fixture(scope="module")
def hearing():
    if not hears_complaints():
        pytest.skip("this torchvision gives no warnings")


def thumbnail_inside() -> bytes:
    """A JPEG with another one in its EXIF block."""
    plain, small = layouts.encoded(1), layouts.encoded(2)
    block = b"Exif\0\0" + small
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def test_sound_jpegs_raise_no_alarm(tmp_path, hearing):
    sound = jpegs()
    sound += [data + b"trailing \xff\xd8 bytes" for data in sound[:12]]
    sound += [data + bytes(100) + b"zeros in the middle of trailing bytes" for data in sound[:12]]
    sound += [data[:-2] + fill + b"\xff\xd9" for data in sound[:12] for fill in (b"\xff" * 5, bytes(16))]
    assert [i for i, data in enumerate(sound) if jpeg_damage(data)] == []
    for data in (thumbnail_inside(), thumbnail_inside() + bytes(10_000)):
        (tmp_path / "x.jpg").write_bytes(data)
        for decode_too in (True, False):
            assert inspect_image(str(tmp_path / "x.jpg"), decode_too).problem == ""
    (tmp_path / "x.jpg").write_bytes(thumbnail_inside()[:-60])
    assert "truncated" in inspect_image(str(tmp_path / "x.jpg"), decode=False).problem


def damaged(good: bytes, damage: str, rng: np.random.Generator) -> bytes:
    """The bytes of a JPEG, damaged in the middle of its code stream."""
    data = bytearray(good)
    middle = (data.rindex(b"\xff\xda") + 14 + len(data)) // 2
    if damage == "60 zeros":
        data[middle : middle + 60] = bytes(60)
    elif damage == "64 random bytes":
        data[middle : middle + 64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    elif damage == "the rest is zeros":
        data[middle:] = bytes(len(data) - middle)
    else:
        data[middle:-2] = bytes(len(data) - 2 - middle)
    return bytes(data)


@pytest.mark.parametrize(
    ("damage", "share"),
    [("60 zeros", 1.0), ("64 random bytes", 0.5), ("the rest is zeros", 1.0), ("zeros up to the end mark", 1.0)],
)
def test_damage_in_the_middle_is_found(tmp_path, hearing, damage, share):
    rng, found = np.random.default_rng(0), []
    for seed in range(40):
        data = io.BytesIO()
        layouts.picture(seed, (128, 64)).save(data, "JPEG", quality=90)
        (tmp_path / "x.jpg").write_bytes(damaged(data.getvalue(), damage, rng))
        problem = inspect_image(str(tmp_path / "x.jpg")).problem
        found.append(problem.startswith(("damaged", "truncated")))
    assert sum(found) >= share * len(found)


def test_zeros_that_are_codes_of_a_plain_picture_are_no_damage():
    """With tables made for it, or progressive, a picture of one colour is hundreds of zeros."""
    plain, runs = Image.new("RGB", (512, 1024), (9, 99, 199)), 0
    for options in ({"optimize": True}, {"progressive": True}, {}):
        for picture in (plain, plain.convert("L")):
            data = io.BytesIO()
            picture.save(data, "JPEG", **options)
            runs += bytes(100) in data.getvalue()
            assert lost_block(data.getvalue()) == "" == jpeg_damage(data.getvalue())
    assert runs


def test_odd_headers_do_not_confuse_the_search_for_zeros():
    good = layouts.encoded()
    for data in (b"", b"\xff\xd8", b"\xff\xd8" + bytes(200), good[:30], good[:2] + bytes(40) + good[2:]):
        assert lost_block(data) == ""
    assert lost_block(good[:2] + b"\xff\xe5\0\x64" + bytes(98) + good[2:]) == ""  # zeros inside a segment


def test_without_a_decoder_that_warns_zeros_are_still_found(monkeypatch):
    monkeypatch.setattr(jpeg_damage_module, "_decoder", lambda: None)
    good = io.BytesIO()
    layouts.picture(0, (128, 64)).save(good, "JPEG", quality=90)
    assert "60 zeros from byte" in jpeg_damage(damaged(good.getvalue(), "60 zeros", np.random.default_rng(0)))
    assert jpeg_damage(good.getvalue()) == ""


def test_other_words_on_the_stream_are_passed_on(hearing):
    """A process whose C code writes to descriptor 2 while a complaint is listened for loses none of it."""
    code = (
        "import os, io\nfrom PIL import Image\nfrom reidkit.data import jpeg_damage as d\n"
        "data = io.BytesIO(); Image.new('RGB', (16, 16)).save(data, 'JPEG')\n"
        "decoder = d._decoder()\n"
        "d._decoder = lambda: lambda *a: (os.write(2, b'from elsewhere\\n'), decoder(*a))\n"
        "print(d.jpeg_complaint(data.getvalue()[:-2] + b'UUUU' + b'\\xff\\xd9'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "extraneous bytes" in done.stdout
    assert "from elsewhere" in done.stderr and "extraneous" not in done.stderr
