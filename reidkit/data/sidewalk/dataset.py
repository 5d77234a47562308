"""Sidewalk as a `ReIDDataset`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reidkit.data.dataset import ReIDDataset
from reidkit.data.sidewalk.plan import Settings, plan
from reidkit.data.sidewalk.tools import ToolRates
from reidkit.data.sidewalk.truth import VISIBLE, read_meta
from reidkit.data.sidewalk.writer import render_sidewalk
from reidkit.errors import DatasetError


def load_sidewalk(
    root: str | Path,
    size: str = "small",
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    rates: ToolRates | None = None,
) -> ReIDDataset:
    """The rendered data set, rendered first when it is not there yet (see `render_sidewalk` for the arguments).

    Test levels: "mild" (current), "strong", and "shift": the mild queries, each standing 0, 5, 10, 15 and 20 % of
    the image height lower (column `shift`), against the mild gallery.
    Further columns: group and differs (siblings), detector, occluder, yaw, top, bottom, quality, tool_faults.
    """
    settings = Settings(size, seed, rates or ToolRates())
    folder = render_sidewalk(root, size, seed, workers, progress, settings.rates)
    meta = read_meta(folder)
    planned = [(shot.path, shot.pid, shot.camid) for chunk in plan(settings) for shot in chunk]
    if planned != [*meta[["path", "pid", "camid"]].itertuples(index=False, name=None)]:
        raise DatasetError(
            f"{folder / 'meta.csv'} does not list the images of {settings.folder_name}, seed {seed}; delete it and "
            f"{folder / 'sidewalk.json'}: `reidkit sidewalk render` writes it again"
        )
    meta["path"] = [str(folder / path) for path in meta["path"]]
    tables = {name: _table(rows) for name, rows in meta.groupby("folder", sort=False)}
    mild = (tables["query"], tables["bounding_box_test"])
    return ReIDDataset(
        name=settings.folder_name,
        root=folder,
        train=tables["bounding_box_train"],
        query=mild[0],
        gallery=mild[1],
        levels={
            "mild": mild,
            "strong": (tables["query_strong"], tables["bounding_box_test_strong"]),
            "shift": (tables["query_shift"], mild[1]),
        },
        level="mild",
        info=settings.as_dict(),
        source={"name": "sidewalk", "options": {"size": size, "seed": seed}},
    )


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    drop = ["folder", *VISIBLE]
    if "query_shift" not in set(rows["folder"]):
        drop.append("shift")
    return rows.drop(columns=drop).reset_index(drop=True)
