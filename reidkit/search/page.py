"""Ranked lists as one HTML file that needs nothing else: pictures inside, readable on a telephone, no scripts."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from reidkit.attention import similarity_attention
from reidkit.attention.cam import METHODS, Method, find_method
from reidkit.data.images import decode
from reidkit.files import write_text
from reidkit.reporting.pictures import data_url, heat_overlay, printable
from reidkit.search.network import PictureNetwork
from reidkit.search.pictures import Picture
from reidkit.search.ranked import Hit, Search

QUERY, MATCH, MAP = 360, 220, 132  # pixels: heights of the pictures inside
QUALITY = 82  # of JPEG

STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #0072b2; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 0.75rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
ol { list-style: none; padding: 0; }
ol > li { border-top: 1px solid var(--line); padding: 0.75rem 0; }
.match { display: flex; gap: 0.75rem; align-items: flex-start; }
.match > img { width: 6rem; flex: none; }
.match > div { flex: 1; min-width: 0; }
.match p { margin: 0 0 0.4rem; }
.part { display: grid; grid-template-columns: minmax(3rem, 8rem) 1fr 2.8rem; gap: 0.4rem; font-size: 0.8rem; }
.part span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.part b { font-weight: normal; text-align: right; font-variant-numeric: tabular-nums; }
.part i { background: var(--line); height: 0.6rem; align-self: center; }
.part i::before { content: ""; display: block; height: 100%; width: var(--v); background: var(--bar); }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(3.6rem, 1fr)); gap: 0.3rem; margin: 0.4rem 0; }
figure { margin: 0; } figcaption { font-size: 0.7rem; line-height: 1.2; }
details { margin: 0.4rem 0; } summary { cursor: pointer; font-size: 0.85rem; }
.small { font-size: 0.85rem; }
"""


def write_page(out: str | Path, network: PictureNetwork, found: Search, *, method: Method | None = "gradcam") -> None:
    """Write the page of a search, in one step.

    method: of the part maps, see `METHODS`: which regions of a match make part k of it like part k of the query, and
    the other way round; no class is involved. None: no maps.
    Raises ReIDKitError where grad-cam is missing or the file cannot be written.
    """
    check_method(method)
    blocks = [_query(network, found, i, method) for i in range(len(found.queries))]
    words = [f"{len(found.index):,} pictures of {os.fspath(found.index.listing.root)}", f"network {network.name}"]
    title = "Search: " + ", ".join(query.name for query in found.queries)
    notes = "".join(f"<li>{_text(note)}</li>" for note in [*found.notes, *_about_gallery(found), *_about_maps(method)])
    write_text(
        out,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_text(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{_text(title)}</h1><p>{_text('; '.join(words))}</p>\n"
        f'{"".join(blocks)}\n<h2>How to read this</h2><ul class="small">{notes}</ul>{_skipped(found)}</body></html>\n',
    )


def check_method(method: Method | None) -> None:
    """UnknownNameError for an unknown method, ReIDKitError where the grad-cam package is missing."""
    if method is not None:
        find_method(method)


def _query(network: PictureNetwork, found: Search, place: int, method: Method | None) -> str:
    """One query with its list."""
    query, hits = found.queries[place], found.hits[place]
    images = [decode(found.index.path(hit.row)) for hit in hits]
    on_query, on_match = _maps(network, query.image, images, method)
    items = [
        _hit(network, query, hit, image, *((None, None) if method is None else (on_query[i], on_match[i])))
        for i, (hit, image) in enumerate(zip(hits, images))
    ]
    note = f'<p class="small">{_text(query.note)}</p>' if query.note else ""
    listed = f"<ol>{''.join(items)}</ol>" if items else "<p>No picture was found.</p>"
    return f"<h2>{_text(query.name)}</h2>{_picture(query.image, QUERY, f'query {query.name}')}{note}\n{listed}"


def _maps(
    network: PictureNetwork, query: Image.Image, images: Sequence[Image.Image], method: Method | None
) -> tuple[Tensor | Sequence, Tensor | Sequence]:
    """(maps on the query, maps on the matches), both [n, K, H, W] in [0, 1]."""
    if method is None or not images:
        return (), ()
    one, many = network.normalised([query]), network.normalised(images)
    on_match = similarity_attention(network.model, many, one, method)
    on_query = similarity_attention(network.model, one.expand(len(many), -1, -1, -1), many, method)
    return on_query, on_match


def _hit(
    network: PictureNetwork,
    query: Picture,
    hit: Hit,
    image: Image.Image,
    on_query: Tensor | None,
    on_match: Tensor | None,
) -> str:
    """One place of a list: the picture, its numbers, and the maps of both."""
    name = printable(hit.name)
    bars = "".join(
        f'<div class="part"><span>{_text(part)}</span>'
        f'<i style="--v:{100 * float(np.clip(value, 0, 1)):.0f}%"></i><b>{value:.2f}</b></div>'
        for part, value in zip(network.part_names, hit.parts)
    )
    maps = ""
    if on_query is not None and on_match is not None:
        maps = (
            f"<details{' open' if hit.rank == 1 else ''}><summary>Which regions make the parts alike</summary>"
            f"{_strip(network, 'match', image, on_match)}{_strip(network, 'query', query.image, on_query)}</details>"
        )
    return (
        f'<li><div class="match">{_picture(image, MATCH, f"match {hit.rank}: {name}")}'
        f"<div><p><strong>{hit.rank}.</strong> {_text(name)}<br>similarity <strong>{hit.score:.3f}</strong></p>"
        f"{bars}</div></div>{maps}</li>\n"
    )


def _strip(network: PictureNetwork, which: str, image: Image.Image, maps: Tensor) -> str:
    """K maps [K, H, W] over one picture, in the picture's own shape."""
    size = shown_size(image, MAP)
    figures = "".join(
        f"<figure>{_picture(heat_overlay(image, values, size), MAP, f'{which}: map of {part}')}"
        f"<figcaption>{_text(which)}, {_text(part)}</figcaption></figure>"
        for part, values in zip(network.part_names, maps)
    )
    return f'<div class="maps">{figures}</div>'


def shown_size(image: Image.Image, height: int) -> tuple[int, int]:
    """(width, height) of a picture in its own shape: `height` pixels tall, and at most twice as wide as that."""
    width = max(1, round(image.width * height / image.height))
    if width <= 2 * height:
        return width, height
    return 2 * height, max(1, round(2 * height * image.height / image.width))


def _picture(image: Image.Image, height: int, alt: str) -> str:
    """An <img> with the pixels inside."""
    size = shown_size(image, min(height, image.height))
    source = data_url(image.resize(size, Image.Resampling.BILINEAR), quality=QUALITY)
    return f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{_text(alt)}">'


def _text(words: str) -> str:
    return html.escape(printable(words))


def _about_gallery(found: Search) -> list[str]:
    listing = found.index.listing
    return [
        *([f"{listing.ignored:,} other files of the gallery are no pictures"] if listing.ignored else []),
        *(
            [f"{listing.own:,} files that the kit keeps with the data set (maps, caches) are not searched"]
            if listing.own
            else []
        ),
        *([f"{len(found.index.broken):,} pictures were skipped: see below"] if found.index.broken else []),
    ]


def _about_maps(method: Method | None) -> list[str]:
    if method is None:
        return []
    return [
        f"Maps: {method} ({METHODS[method][1]}) of the cosine similarity of part k of query and match; no class is "
        "asked. Each map is scaled from its own smallest to its own largest value: it says where, not how much. Of two "
        "equal pictures nothing could be more alike: there the gradient is zero, and gradient maps are noise.",
        "Similarities are those of the run's own test: whole features, and part by part.",
    ]


def _skipped(found: Search) -> str:
    """The pictures of the gallery that could not be read."""
    if not found.index.broken:
        return ""
    items = "".join(f"<li>{_text(name)}: {_text(why)}</li>" for name, why in sorted(found.index.broken.items()))
    return f'<h2>Skipped</h2><ul class="small">{items}</ul>'
