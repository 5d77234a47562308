"""Pictures as files, also of kinds that Pillow cannot write."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

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
