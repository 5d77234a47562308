"""Checks of a data set that need its tables only: identities, cameras, names. The work grows with the rows."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import chain, islice, pairwise

import numpy as np
import pandas as pd

from reidkit.data.dataset import ReIDDataset

SPLITS = ("train", "query", "gallery")
COLUMNS = ["check", "count", "examples", "is_problem"]
SHOWN = 5  # examples


def check_labels(ds: ReIDDataset) -> pd.DataFrame:
    """Gaps and clashes of identities and cameras: check, count, examples, is_problem. Only rows with a count.

    Some queries without a match are a note; where no query has one, nothing can be ranked.
    """
    nobody = ds.nobody
    people = {s: set(getattr(ds, s).pid) - nobody for s in SPLITS}
    test = people["query"] | people["gallery"]
    cameras = set(ds.train.camid) | set(ds.query.camid) | set(ds.gallery.camid)
    per_person = ds.train.groupby("pid").camid.nunique()
    both, low = people["train"] & test, {c for c in cameras if c < 1}
    alone = queries_without_match(ds)
    all_alone = len(alone) == len(ds.query)
    why = ", as all test images are of one camera" if pd.concat([ds.query, ds.gallery]).camid.nunique() == 1 else ""
    one_camera = per_person.index[per_person == 1]
    rows = [
        ("identities in train and in test", len(both), _examples(both), True),
        (
            f"queries without a match in another camera{f': all of them{why}' if all_alone else ''}"
            if ds.cameras_known
            else "queries without another picture in the gallery",
            len(alone),
            _examples(alone.pid),
            all_alone,
        ),
        ("unused identity numbers", *_unused(people["train"] | test), False),
    ]
    if ds.cameras_known:
        seen = "training identities seen by one camera only"
        rows[1:1] = [("camera numbers below 1", len(low), _examples(low), min(low, default=0) < 0)]  # from 0 is usual
        rows[3:3] = [
            ("unused camera numbers", *_unused(cameras), False),
            (seen, len(one_camera), _examples(one_camera), False),
        ]
    return _table(rows)


def check_files(ds: ReIDDataset) -> pd.DataFrame:
    """Files and marked rows, in the columns of `check_labels`.

    A problem: images that are not read. Notes: names that differ by the suffix only (their maps have one
    name), junk, distractors.
    """
    unread = [os.path.basename(path) for path in ds.info.get("unread_images", ())]
    paths = pd.concat([getattr(ds, s).path for s in SPLITS]).drop_duplicates()
    stems = paths.map(lambda path: os.path.splitext(path)[0])
    twins = paths[stems.duplicated(keep=False)].map(os.path.basename)
    junk = ds.gallery.pid[ds.gallery.pid.isin(ds.junk_pids)]
    unlabelled = len(ds.gallery) if ds.train.empty and ds.query.empty else 0
    is_distractor = ds.gallery.pid.isin(ds.nobody - {*ds.junk_pids})
    if "distractor" in ds.gallery:
        is_distractor |= ds.gallery.distractor
    distractors = ds.gallery.pid[is_distractor]
    rows = [
        ("images that are not read: of another kind, or in a folder below", len(unread), _examples(unread), True),
        ("images whose names differ by the suffix only", len(twins), _examples(twins), False),
        ("pictures without identities, to be searched and not to be trained on", unlabelled, "all", False),
        (
            "junk images in the gallery, ignored when ranking",
            0 if unlabelled else len(junk),
            f"identity {_examples(junk)}",
            False,
        ),
        ("distractors in the gallery, never a match", len(distractors), f"identity {_examples(distractors)}", False),
    ]
    return _table(rows)


def queries_without_match(ds: ReIDDataset) -> pd.DataFrame:
    """The rows of `ds.query` that have no gallery image of their person by another camera."""
    gallery = ds.gallery[~ds.gallery.pid.isin(ds.junk_pids)]
    cameras = gallery.groupby("pid").camid.agg(["min", "max"])  # another camera than c is there unless both are c
    query = ds.query.reset_index(drop=True)
    known = query[query.pid.isin(cameras.index)]
    seen_by = cameras.loc[known.pid].set_index(known.index)
    return query.drop(known.index[(seen_by["min"] != known.camid) | (seen_by["max"] != known.camid)])


def _unused(numbers: Collection[int]) -> tuple[int, str]:
    """How many numbers from 1 to the largest one are not used, and the first of them."""
    used = np.unique([0, *(int(n) for n in numbers if n > 0)]).tolist()
    gaps = chain.from_iterable(range(low + 1, high) for low, high in pairwise(used))
    return used[-1] + 1 - len(used), _examples(islice(gaps, SHOWN + 1))


def _examples(values) -> str:
    """The first values, ascending."""
    values = sorted({value if isinstance(value, str) else int(value) for value in values})
    return ", ".join(map(str, values[:SHOWN])) + (" ..." if len(values) > SHOWN else "")


def _table(rows: list[tuple[str, int, str, bool]]) -> pd.DataFrame:
    """Rows with a count, as a table."""
    found = [row for row in rows if row[1]]
    return pd.DataFrame(found, columns=COLUMNS).astype({"is_problem": bool})
