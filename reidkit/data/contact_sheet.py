"""A page of thumbnails, one row a camera: the fastest way to see what a data set looks like."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reidkit.data.images import decode
from reidkit.errors import DatasetError

MAX_CAMERAS = 40  # rows of the page
PAPER, INK, GREY = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def contact_sheet(
    table: pd.DataFrame,
    *,
    title: str = "",
    columns: int = 12,
    thumb: tuple[int, int] = (128, 64),
    seed: int = 0,
) -> Image.Image:
    """An RGB picture: per camera (ascending) up to `columns` images of different people, drawn by `seed`.

    Of more than MAX_CAMERAS cameras the first ones are shown, and the title says so.

    table: with `path`, `pid`, `camid`. thumb: height, width in pixels; images keep their aspect.
    A file that cannot be opened is drawn as a crossed box, so the page shows the damage too.
    """
    height, width = thumb
    label, gap, head = 120, 4, 28
    cameras = sorted(table.camid.unique())
    if len(cameras) > MAX_CAMERAS:
        title = f"{title} ({MAX_CAMERAS} of {len(cameras):,})"
        cameras = cameras[:MAX_CAMERAS]
    size = (label + columns * (width + gap) + gap, head + len(cameras) * (height + gap) + gap)
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    draw.text((8, 6), title, fill=INK, font=font)
    rng = np.random.default_rng(seed)
    for row, camera in enumerate(cameras):
        images = table[table.camid == camera]
        top = head + row * (height + gap)
        draw.text((8, top + 8), f"camera {camera}", fill=INK, font=font)
        draw.text((8, top + 28), f"{len(images):,} images", fill=GREY, font=font)
        draw.text((8, top + 46), f"{images.pid.nunique():,} ids", fill=GREY, font=font)
        people = images.iloc[rng.permutation(len(images))].drop_duplicates("pid").head(columns)
        for column, path in enumerate(people.path):
            page.paste(_thumbnail(path, width, height), (label + column * (width + gap), top))
    return page


def _thumbnail(path: str, width: int, height: int) -> Image.Image:
    """The image scaled into a white box of the given size."""
    box = Image.new("RGB", (width, height), PAPER)
    try:
        picture = decode(path)
    except DatasetError:  # shown, not hidden: the report lists the file and its problem
        ImageDraw.Draw(box).line((0, 0, width, height), fill=GREY, width=2)
        ImageDraw.Draw(box).line((0, height, width, 0), fill=GREY, width=2)
        return box
    scale = min(width / picture.width, height / picture.height)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    box.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return box
