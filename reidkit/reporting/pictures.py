"""Pictures in pixels: words, thumbnails and maps over images, for panels, sheets and pages."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

INK, MUTED = "#1A1A1A", "#555555"  # text, secondary text


@lru_cache
def font(size: int = 13, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, so that a picture looks the same on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def text(
    picture: Image.Image,
    xy: tuple[float, float],
    words: str,
    size: int = 13,
    fill: str = INK,
    anchor: str = "la",
    bold: bool = False,
) -> None:
    """Write a line, or lines separated by newlines. anchor: PIL's, "la" = xy is left and top, "mm" = the middle."""
    ImageDraw.Draw(picture).text(xy, words, font=font(size, bold), fill=fill, anchor=anchor, spacing=3)


def text_width(words: str, size: int = 13, bold: bool = False) -> float:
    """Width of a line in pixels."""
    return font(size, bold).getlength(words)


def fit_text(words: str, width: float, size: int = 13, bold: bool = False) -> str:
    """The words, cut with an ellipsis where they would be wider than `width` pixels."""
    if text_width(words, size, bold) <= width:
        return words
    while words and text_width(words + "…", size, bold) > width:
        words = words[:-1]
    return words + "…"


def thumbnail(image: Image.Image | np.ndarray | torch.Tensor, size: tuple[int, int]) -> Image.Image:
    """An image at (width, height) pixels: PIL, uint8 array [H, W, 3] or [H, W], uint8 tensor [3, H, W]."""
    if isinstance(image, torch.Tensor):
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)


def data_url(picture: Image.Image, kind: str = "JPEG", **options) -> str:
    """A picture as an address that holds it, for pages of one file. kind, options: of PIL's writer."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


@lru_cache
def colour_map(name: str = "viridis") -> np.ndarray:
    """[256, 3] uint8 of a matplotlib colour map."""
    import matplotlib

    return (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def heat_overlay(
    image: Image.Image | np.ndarray | torch.Tensor,
    values: np.ndarray | torch.Tensor,
    size: tuple[int, int],
    name: str = "viridis",
    strength: float = 0.85,
) -> Image.Image:
    """A map [h, w] in [0, 1] over a greyed image: no response leaves the image, a full one hides it by `strength`."""
    values = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32)), 0, 1)
    grown = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    grey = thumbnail(image, size).convert("L").convert("RGB")
    alpha = Image.fromarray((grown * strength * 255).round().astype(np.uint8))
    return Image.composite(Image.fromarray(colour_map(name)[(grown * 255).round().astype(np.uint8)]), grey, alpha)


def printable(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become question marks, control characters spaces."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in text)
