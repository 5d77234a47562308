"""Files that are no pictures, or too large ones: refused by name, before anything is decoded or started."""

import io
import os
import struct
import subprocess
import zlib

import layouts
import numpy as np
import pytest
from picture_files import H, W, png, save
from PIL import Image

from reidkit.data import images
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, decode
from reidkit.errors import DatasetError, ReIDKitError
from reidkit.panels.kit.crop import read_upload

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
