"""JPEGs that are damaged in the middle are found; sound ones raise no alarm."""

import io
import struct
import subprocess
import sys

import layouts
import numpy as np
import pytest
from PIL import Image

from reidkit.data.copies import jpeg_damage as jpeg_damage_module
from reidkit.data.copies.imagefile import inspect_image
from reidkit.data.copies.jpeg_damage import hears_complaints, jpeg_damage, lost_block


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
        "import os, io\nfrom PIL import Image\nfrom reidkit.data.copies import jpeg_damage as d\n"
        "data = io.BytesIO(); Image.new('RGB', (16, 16)).save(data, 'JPEG')\n"
        "decoder = d._decoder()\n"
        "d._decoder = lambda: lambda *a: (os.write(2, b'from elsewhere\\n'), decoder(*a))\n"
        "print(d.jpeg_complaint(data.getvalue()[:-2] + b'UUUU' + b'\\xff\\xd9'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "extraneous bytes" in done.stdout
    assert "from elsewhere" in done.stderr and "extraneous" not in done.stderr
