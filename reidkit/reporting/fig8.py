"""MPN Fig. 8 with networks of our own: K part maps of one picture, a row a network, and scores beside them.

python -m reidkit.reporting.fig8 --out docs/fig8.jpg   # shipped heroes, Sidewalk medium, level strong

A picture can be chosen to please, so this one is chosen by a rule, and what many pictures say stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from reidkit.attention import part_attention
from reidkit.attention.measures import body_rows
from reidkit.attention.scores import score_model
from reidkit.data import ReIDDataset, load_dataset
from reidkit.data.images import read_image
from reidkit.data.place import data_root
from reidkit.data.sidewalk import load_truth
from reidkit.data.transforms import normalize
from reidkit.files import replacing
from reidkit.models import ReIDModel
from reidkit.reporting.pictures import MUTED, heat_overlay, text, thumbnail

NETWORKS = {"Baseline": "baseline", "Naive MTL": "naive-mtl", "MPN": "mpn"}  # rows of the figure -> shipped networks
WORDS = {  # score -> what stands beside the pictures
    "pointing": "peak in the own part",
    "own_argmax": "own part wins",
    "similarity": "maps alike",
    "background": "on the background",
}
LEFT, GAP, TOP, BELOW = 214, 8, 22, 18  # pixels: the words of a row, between pictures, the headings, under a row


def badly_placed(query: pd.DataFrame) -> int:
    """The row of the first query whose box is too large and whose person nothing covers; of photographs the first."""
    if "detector" not in query:
        return 0
    return int(np.flatnonzero((query.detector == "loose") & (query.occluder == "none"))[0])


def part_scores(
    models: Mapping[str, ReIDModel], test: ReIDDataset, size: tuple[int, int], images: int = 60, seed: int = 0
):
    """{network: its scores} over `images` queries of `test`, the same for all: see `score_model`. Grad-CAM.

    Raises DatasetError for photographs, which have no ground truth.
    """
    table = test.query.sample(min(images, len(test.query)), random_state=seed).sort_index().reset_index(drop=True)
    truth = load_truth(test, table)
    return {
        name: score_model(model, table, truth, size=size, checks=False, progress=False)
        for name, model in models.items()
    }


def own_rows(test: ReIDDataset, row: int, model: ReIDModel, size: tuple[int, int]) -> np.ndarray:
    """[K, H] bool: which rows of the picture of query `row` belong to each share of the body. DatasetError as above."""
    truth = load_truth(test, test.query.iloc[[row]])
    return body_rows(truth.top, truth.bottom, model.part_extents, size[0])[0]


def figure8(
    picture: Tensor,
    maps: Mapping[str, Tensor],
    scores: Mapping[str, Mapping[str, float]] | None = None,
    own: np.ndarray | None = None,
    height: int = 240,
) -> Image.Image:
    """The figure. picture: uint8 [3, H, W]; maps: {network: [K, H, W] in [0, 1]}.

    scores: {network: `score_model`}, written beside its row. own: [K, H] bool, the rows of each part's share of the
    body, between two white lines. height: of one picture, in pixels.
    """
    H, W = picture.shape[1:]
    size = (round(height * W / H), height)
    K = max(len(m) for m in maps.values())
    step, line = size[0] + GAP, height + BELOW
    sheet = Image.new("RGB", (LEFT + (K + 1) * step, TOP + len(maps) * line), "white")
    for column, heading in enumerate(["image", *(f"part {k + 1}" for k in range(K))]):
        text(sheet, (LEFT + column * step + size[0] / 2, 4), heading, 13, MUTED, "ma")
    for i, (name, found) in enumerate(maps.items()):
        y = TOP + i * line
        text(sheet, (8, y + 6), f"({'abcdefgh'[i]}) {name}", 17, bold=True)
        for j, (score, words) in enumerate(WORDS.items() if scores else ()):
            assert scores is not None
            text(sheet, (8, y + 44 + 24 * j), words, 13, MUTED)
            text(sheet, (LEFT - 14, y + 44 + 24 * j), f"{scores[name][score]:.2f}", 14, anchor="ra", bold=True)
        sheet.paste(thumbnail(picture, size), (LEFT, y))
        for k, values in enumerate(found):
            one = heat_overlay(picture, values, size, "inferno")
            for edge in [] if own is None else np.flatnonzero(np.diff(own[k])) + 1:  # the first row of another share
                y_edge = round(edge * height / H)
                ImageDraw.Draw(one).line([(0, y_edge), (size[0], y_edge)], fill="white")
            sheet.paste(one, (LEFT + (k + 1) * step, y))
    return sheet


def shipped_figure(root: str | Path, images: int = 60) -> tuple[Image.Image, pd.DataFrame]:
    """The figure of the shipped heroes on Sidewalk medium, level strong (rendered below `root` on first use), and the
    scores that are written in it: a row a network."""
    from reidkit.training.runs import find_run, load_run

    test = load_dataset("sidewalk", root=root, size="medium").at_level("strong")
    models, size = {label: load_run(name) for label, name in NETWORKS.items()}, find_run("mpn").recipe().size
    row = badly_placed(test.query)
    picture = torch.from_numpy(read_image(test.query.path.iloc[row], size))
    maps = {name: part_attention(model, normalize(picture[None]))[0] for name, model in models.items()}
    scores = part_scores(models, test, size, images)
    sheet = figure8(picture, maps, scores, own_rows(test, row, models["MPN"], size))
    return sheet, pd.DataFrame(scores).T.loc[:, list(WORDS)]


def main(argv: list[str] | None = None) -> None:
    """Draw the shipped networks and print their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=data_root())
    parser.add_argument("--out", type=Path, default=Path("docs/fig8.jpg"))
    parser.add_argument("--images", type=int, default=60)
    args = parser.parse_args(argv)
    sheet, scores = shipped_figure(args.root, args.images)
    with replacing(args.out) as temporary:
        sheet.save(temporary, format="JPEG", quality=88, subsampling=0)
    print(f"{scores.round(2).to_string()}\n{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
