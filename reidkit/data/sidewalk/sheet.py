"""A page to look at: people x levels x cameras, each with its exact body parts and what the parsing tool made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from reidkit.data.lip import LIP_COLOURS
from reidkit.data.sidewalk.labels import PART_NAMES, part_map
from reidkit.data.sidewalk.plan import Settings, plan, take

# Colours that colour-blind readers tell apart (Okabe and Ito), one a body part; 0 is the background.
PART_COLOURS = np.array(
    ((0, 0, 0), (230, 159, 0), (0, 114, 178), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167)),
    np.uint8,
)
assert len(PART_COLOURS) == len(PART_NAMES) + 1


def overlay(
    image: np.ndarray, labels: np.ndarray, colours: np.ndarray = PART_COLOURS, weight: float = 0.6
) -> np.ndarray:
    """Tint an image [H, W, 3] uint8 where labels [H, W] are not 0 -> [H, W, 3] uint8."""
    tinted = (1 - weight) * image + weight * colours[labels]
    return np.where(labels[..., None] > 0, tinted, image).astype(np.uint8)


def truth_sheet(
    size: str = "small",
    seed: int = 0,
    people: int = 3,
    levels: tuple[str, ...] = ("mild", "medium", "strong"),
    cameras: int = 4,
    zoom: int = 1,
) -> Image.Image:
    """Render a page without touching the disk: one row a person and level, one triple of pictures a camera.

    Each triple: the image, its exact body parts laid over it, the imperfect parsing map in LIP colours.
    zoom: enlarges every picture. Raises UnknownNameError for an unknown size or level.
    """
    settings = Settings(size, seed)
    spec = settings.spec
    first = {}  # one shot a person, as a template
    for chunk in plan(settings):
        for shot in chunk:
            if shot.folder == "bounding_box_train":
                first.setdefault(shot.pid, shot)
    rows, titles = [], []
    for pid, shot in list(first.items())[:people]:
        for stream, level in enumerate(levels):
            cells = []
            for camid in range(1, min(cameras, spec.cameras) + 1):
                one = replace(shot, camid=camid, level=level, key=(seed, 90 + stream, pid, camid))
                picture, parsing, _, _ = take(settings, one)
                cells += [picture.image, overlay(picture.image, part_map(picture.codes)), LIP_COLOURS[parsing]]
            rows.append(np.concatenate([np.pad(c, ((1, 1), (1, 1), (0, 0)), constant_values=255) for c in cells], 1))
            titles.append(f"id {pid}, {level}")
    sheet = Image.fromarray(np.concatenate(rows))
    sheet = sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
    return _with_titles(sheet, titles)


def _with_titles(sheet: Image.Image, titles: list[str]) -> Image.Image:
    """The sheet with a column of row titles to its left."""
    page = Image.new("RGB", (sheet.width + 90, sheet.height), (255, 255, 255))
    page.paste(sheet, (90, 0))
    draw, step = ImageDraw.Draw(page), sheet.height // len(titles)
    for i, title in enumerate(titles):
        draw.text((6, i * step + step // 2 - 5), title, fill=(0, 0, 0))
    return page
