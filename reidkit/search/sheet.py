"""One picture, or two, with the K part maps of a network: what `reidkit attention` draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from reidkit.attention import part_attention, similarity_attention
from reidkit.attention.cam import METHODS, Method
from reidkit.errors import ReIDKitError
from reidkit.priors import PriorBatch
from reidkit.reporting.pictures import INK, MUTED, fit_text, heat_overlay, text, text_width
from reidkit.search.network import PictureNetwork, refuse_priors
from reidkit.search.page import check_method, shown_size
from reidkit.search.pictures import Picture

LEAST, MOST = 300, 600  # pixels: the height at which a picture is shown
A_ROW = 6  # maps beside the picture; more parts go on below
GAP, LABEL, WORDS = 10, 22, 13  # pixels: between pictures, under one, size of the words


def attention_sheet(
    network: PictureNetwork, pictures: Sequence[Picture], *, method: Method = "gradcam", whole_picture: bool = False
) -> Image.Image:
    """RGB: every picture with its K part maps, under each the part's name; of two pictures also their comparison.

    The maps of a picture explain what each part classifier predicts. Those of the comparison explain the similarity
    of part k of the two, no class involved. A picture has its own shape and its own pixels, times a whole number where
    it is small; the network saw it stretched to its size, and its maps are stretched back.

    whole_picture: for networks that read a prior at test time: take the person to fill the picture.
    Raises ReIDKitError for other than one or two pictures and where grad-cam is missing, PriorError for a network
    that needs a prior, without `whole_picture`.
    """
    if len(pictures) not in (1, 2):
        raise ReIDKitError(f"a sheet shows one picture or two, {len(pictures)} were named")
    check_method(method)
    if not whole_picture:
        refuse_priors(
            network,
            "choose a network that needs none at test time, such as mpn, or take the person to fill the picture: "
            "--whole-picture (in Python whole_picture=True)",
        )
    images = network.normalised(picture.image for picture in pictures)  # [B, 3, H, W]
    prior = network.whole_picture_prior(len(images))
    maps = part_attention(network.model, images, method, prior)  # [B, K, H, W]
    rows = [(p.name, p.image, m, network.part_names) for p, m in zip(pictures, maps)]
    if len(pictures) == 2:
        rows += _comparison(network, pictures, images, method, prior)
    return _drawn(rows, _captions(network, pictures, method))


def _comparison(
    network: PictureNetwork, pictures: Sequence[Picture], images: Tensor, method: Method, prior: PriorBatch | None
) -> list[tuple[str, Image.Image, Tensor, Sequence[str]]]:
    """A row each: which regions of one picture make its parts like those of the other."""
    swapped, other_prior = images.flip(0), prior and prior.rows(torch.tensor([1, 0]))
    maps = similarity_attention(network.model, images, swapped, method, prior_a=prior, prior_b=other_prior)
    alike = part_similarities(network, images, prior)
    names = [f"{name}: {value:.2f}" for name, value in zip(network.part_names, alike.tolist())]
    return [(f"{p.name}, as like the other", p.image, m, names) for p, m in zip(pictures, maps)]


@torch.no_grad()
def part_similarities(network: PictureNetwork, images: Tensor, prior: PriorBatch | None = None) -> Tensor:
    """[K] cosine similarity of the part features of two normalised images [2, 3, H, W]."""
    model, images = network.model, images.to(network.device)
    parts = model.heads(model.feature_maps(images), prior and prior.to(network.device)).part_features  # [2, K, d]
    return F.cosine_similarity(parts[0], parts[1], dim=-1).cpu()


def _captions(network: PictureNetwork, pictures: Sequence[Picture], method: Method) -> list[str]:
    words = [
        f"{network.name}: {method}. {METHODS[method][1]}.",
        "Maps of one picture: where each part classifier finds evidence for the identity that it predicts itself.",
    ]
    if len(pictures) == 2:
        words.append(
            "Maps of the comparison: which regions make part k of one picture like part k of the other; the number is "
            "their cosine similarity. No class is asked."
        )
    words.append("Each map is scaled from its own smallest to its own largest value: it says where, not how much.")
    if network.model.needs_prior_at_test:
        words.append("The network reads a prior of the body; here the person is taken to fill the whole picture.")
    return words + [picture.note for picture in pictures if picture.note]


def _drawn(rows: Sequence[tuple[str, Image.Image, Tensor, Sequence[str]]], captions: Sequence[str]) -> Image.Image:
    """The sheet: a row of pictures for every entry (title, picture, maps [K, H, W], names), words below."""
    sizes = [_scaled(image) for _, image, _, _ in rows]
    columns = 1 + min(A_ROW, len(rows[0][2]))
    width = max(columns * (w + GAP) + GAP for w, _ in sizes)
    width = max(width, 480)
    lines = [line for caption in captions for line in wrapped(caption, width - 2 * GAP)]
    lists = [-(-len(maps) // A_ROW) for _, _, maps, _ in rows]
    height = (
        sum(LABEL + n * (h + LABEL + GAP) for n, (_, h) in zip(lists, sizes)) + GAP + len(lines) * (WORDS + 6) + GAP
    )
    sheet = Image.new("RGB", (width, height), "white")
    top = GAP // 2
    for (title, image, maps, names), size in zip(rows, sizes):
        text(sheet, (GAP, top), fit_text(title, width - 2 * GAP, WORDS, True), WORDS, bold=True)
        top = _row(sheet, image, maps, names, size, top + LABEL)
    for i, line in enumerate(lines):
        text(sheet, (GAP, top + GAP + i * (WORDS + 6)), line, WORDS, MUTED)
    return sheet


def _row(
    sheet: Image.Image, image: Image.Image, maps: Tensor, names: Sequence[str], size: tuple[int, int], top: int
) -> int:
    """Draw the picture and its maps; returns where the next row begins."""
    width, height = size
    sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (GAP, top))
    for k, (name, values) in enumerate(zip(names, maps)):
        x, y = GAP + (1 + k % A_ROW) * (width + GAP), top + k // A_ROW * (height + LABEL + GAP)
        sheet.paste(heat_overlay(image, values, size), (x, y))
        text(sheet, (x + width / 2, y + height + 4), fit_text(name, width + GAP - 2, 12), 12, INK, "ma")
    return top + -(-len(maps) // A_ROW) * (height + LABEL + GAP)


def _scaled(image: Image.Image) -> tuple[int, int]:
    """(width, height) at which a picture is shown: its own, times a whole number if small, shrunk if large."""
    factor = max(1, -(-LEAST // image.height)) if image.width <= LEAST else 1
    return shown_size(image, min(factor * image.height, MOST))


def wrapped(words: str, width: float, size: int = WORDS) -> list[str]:
    """The words in lines of at most `width` pixels; a longer word is cut."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(fit_text(word, width, size))
        else:
            lines[-1] = fit_text(longer, width, size)
    return lines
