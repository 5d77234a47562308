"""A contact sheet of coarse priors: what did the tools do to this data set?

Three sections: images without a usable prior, the most doubtful of the usable ones, the best ones. Each case shows
the photograph, the parsing map, the segmentation map, and the photograph under mask M with the K stripes, and below it
the reason if the prior is not reliable. A legend at the end names the pictures and the colours of the labels shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from reidkit.data.dataset import ReIDDataset
from reidkit.data.images import decode
from reidkit.data.lip import LIP_COLOURS, LIP_LABELS
from reidkit.errors import DatasetError, PriorError
from reidkit.priors.coarse import prior_steps
from reidkit.priors.files import MapPair
from reidkit.priors.source import MapSource
from reidkit.priors.store import PriorTable

STRIPE = (255, 176, 0)  # visible on dark and light clothes, also to colour-blind readers
PAPER, INK = (255, 255, 255), (30, 30, 30)
GAP, LINE = 6, 14  # pixels between cells; height of a line of text
LEGEND = (
    "Each case: photograph | parsing map | segmentation map (white: person) |",
    "mask M (bright) with its stripes (orange lines). Not reliable: the parsing",
    "map lacks a head or every leg, or no cell of the grid is body.",
)


def prior_quality(table: PriorTable) -> np.ndarray:
    """[N] how plausible each prior looks, in [0, 1]: a rule of thumb for sorting a sheet, not a measurement.

    0 where not reliable. Else the height of the ROI, times the share of its rows that hold body (a tool that lost
    a band leaves a gap), minus how far the covered area is from the data set's median (bleeding, lost body).
    """
    rows = table.masks.any(axis=2)  # [N, h]
    height = table.bottom - table.top
    filled = rows.sum(axis=1) / np.maximum(height * table.grid[0], 1)
    area = table.masks.mean(axis=(1, 2))
    typical = np.median(area[table.reliable]) if table.reliable.any() else 0.0
    return np.where(table.reliable, np.clip(height * filled - np.abs(area - typical), 0, 1), 0.0)


def prior_sheet(
    ds: ReIDDataset,
    table: PriorTable,
    *,
    source: MapSource | None = None,
    count: int = 6,
    height: int = 160,
    num_parts: int = 6,
    per_row: int = 3,
    seed: int = 0,
) -> Image.Image:
    """The sheet as an RGB picture: `count` cases a section, `per_row` cases side by side.

    source: shows the two maps too (`open_source(ds, tool)`, the tool the table was made with).
    Which of the images without a usable prior are shown is drawn by `seed`: they have no order.
    Raises PriorError for an empty table or an image that does not open.
    """
    if not len(table):
        raise PriorError("the prior table is empty: there is nothing to show; build it for at least one split")
    quality = prior_quality(table)
    order = np.argsort(quality, kind="stable")
    good = order[table.reliable[order]]
    bad = np.random.default_rng(seed).permutation(np.flatnonzero(~table.reliable))
    worst, best = good[: min(count, len(good) // 2)], good[::-1][: min(count, len(good) - len(good) // 2)]
    sections = (
        (f"not reliable: {len(bad)} of {len(table)} (whole image, divided evenly)", bad[:count]),
        (f"doubtful: the lowest of {len(good)} reliable ones", worst),
        (f"best of {len(good)} reliable ones", best),
    )
    labels: set[int] = set()
    blocks = []
    for title, rows in sections:
        cases = [_case(ds, table, int(row), source, height, num_parts, float(quality[row]), labels) for row in rows]
        blocks.append(_section(title, cases, per_row))
    width = max(*(b.width for b in blocks), 7 * max(map(len, LEGEND)))
    blocks.append(_legend(sorted(labels), width))
    sheet = Image.new("RGB", (width, sum(b.height for b in blocks)), PAPER)
    y = 0
    for block in blocks:
        sheet.paste(block, (0, y))
        y += block.height
    return sheet


def prior_overlay(image: np.ndarray, mask: np.ndarray, top: float, bottom: float, num_parts: int = 6) -> np.ndarray:
    """[H, W, 3] uint8: the image darkened outside `mask` [h, w], with the borders of the K stripes between the
    boundaries `top` and `bottom` (fractions of the height)."""
    height, width = image.shape[:2]
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    inside = mask[rows[:, None], columns[None]]  # [H, W]
    out = np.where(inside[..., None], image, image // 4).astype(np.uint8)
    for edge in np.linspace(top, bottom, num_parts + 1):
        out[min(round(edge * height), height - 1)] = STRIPE
    return out


def _case(
    ds: ReIDDataset,
    table: PriorTable,
    row: int,
    source: MapSource | None,
    height: int,
    num_parts: int,
    quality: float,
    labels: set[int],
) -> Image.Image:
    """One case: two or four pictures side by side, below them the file's name and the quality, or why there is none.

    labels: the LIP labels of the case's parsing map are added to it, for the legend.
    """
    path = table.paths[row]
    try:
        photo = decode(Path(ds.root) / path)
    except DatasetError as error:
        raise PriorError(f"{Path(ds.root) / path} does not open ({error}); restore the image") from error
    width = max(1, round(photo.width * height / photo.height))
    photo = photo.resize((width, height), Image.Resampling.BICUBIC)
    pictures = [photo]
    maps = source.maps([path])[0] if source is not None and table.stamps[row] else None
    if maps:
        labels.update(np.unique(maps[0]).tolist())
        pictures += [p.resize((width, height), Image.Resampling.NEAREST) for p in map_pictures(maps)]
    overlay = prior_overlay(np.asarray(photo), table.masks[row], table.top[row], table.bottom[row], num_parts)
    pictures.append(Image.fromarray(overlay))
    columns = 2 if source is None else 4
    case = Image.new("RGB", (columns * (width + 2), height + 2 * LINE), PAPER)
    for i, picture in enumerate(pictures):
        case.paste(picture, (i * (width + 2), 0))
    draw = ImageDraw.Draw(case)
    draw.text((0, height), Path(path).name, fill=INK)
    draw.text((0, height + LINE), _verdict(table, row, maps, quality), fill=INK)
    return case


def _verdict(table: PriorTable, row: int, maps: MapPair | None, quality: float) -> str:
    """The line under a case: its quality, or why its prior is not reliable ("no head, no leg", "empty mask")."""
    if table.reliable[row]:
        return f"quality {quality:.2f}"
    if not table.stamps[row]:
        return "not reliable: no maps"
    limits = {key: table.manifest[key] for key in ("min_head", "min_leg", "threshold") if key in table.manifest}
    reason = prior_steps(*maps, table.grid, **limits).reason if maps else ""
    return f"not reliable: {reason}" if reason else "not reliable"


def _legend(labels: Sequence[int], width: int) -> Image.Image:
    """What the pictures of a case are, and a colour patch for each parsing label shown. -> RGB, `width` pixels wide."""
    cell = 8 * max(map(len, LIP_LABELS)) + LINE
    columns = max(1, (width - 2 * GAP) // cell)
    block = Image.new("RGB", (width, (len(LEGEND) + 1 - (-len(labels) // columns)) * LINE + GAP), PAPER)
    draw = ImageDraw.Draw(block)
    for i, line in enumerate(LEGEND):
        draw.text((GAP, i * LINE), line, fill=INK)
    for i, label in enumerate(labels):
        x, y = GAP + i % columns * cell, (len(LEGEND) + i // columns) * LINE + GAP // 2
        draw.rectangle([x, y + 2, x + LINE - 6, y + LINE - 4], fill=tuple(LIP_COLOURS[label].tolist()))
        draw.text((x + LINE, y), LIP_LABELS[label], fill=INK)
    return block


def map_pictures(maps: MapPair) -> tuple[Image.Image, Image.Image]:
    """The parsing map in colours and the segmentation map in grey, as RGB pictures [H, W]."""
    parsing, segmentation = maps
    grey = (np.asarray(segmentation, np.float32) * 255).round().astype(np.uint8)
    return Image.fromarray(LIP_COLOURS[parsing]), Image.fromarray(grey).convert("RGB")


def _section(title: str, cases: Sequence[Image.Image], per_row: int) -> Image.Image:
    """A title and the cases below it."""
    cell = max((c.width for c in cases), default=0) + 2 * GAP, max((c.height for c in cases), default=0) + GAP
    lines = -(-len(cases) // per_row)
    width = max(cell[0] * per_row, 8 * len(title))
    block = Image.new("RGB", (width + GAP, lines * cell[1] + 2 * LINE), PAPER)
    ImageDraw.Draw(block).text((GAP, LINE // 2), title, fill=INK)
    for i, case in enumerate(cases):
        block.paste(case, (GAP + i % per_row * cell[0], 2 * LINE + i // per_row * cell[1]))
    return block
