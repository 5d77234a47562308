"""The tour's page and its bookkeeping (training and notebooks have tests of their own)."""

import base64
import io
import json
import os
import re
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reidkit import tour
from reidkit.errors import ReIDKitError
from reidkit.reporting import plots
from reidkit.reporting.report import COLUMNS

RESULTS = pd.DataFrame(
    [
        [f"{s}-0", s, s, "sidewalk-small", "quick", 0, level, "ours", "", np.nan, metric, value, "", "", ""]
        for s, base in (("baseline", 0.5), ("mpn-no-ca", 0.625))
        for level, drop in (("mild", 0.0), ("strong", 0.25))
        for metric, value in (("rank1", base - drop + 0.125), ("mAP", base - drop), ("mINP", 0.1))
    ],
    columns=COLUMNS,
)


def test_summary():
    table = tour.summary(RESULTS)
    assert table.loc["baseline", "mild: Rank-1 / mAP"] == "62.5 / 50.0"
    assert table.loc["mpn-no-ca", "strong: Rank-1 / mAP"] == "50.0 / 37.5"


def test_index_is_one_page_without_the_network(tmp_path):
    (tmp_path / "00_start_here.html").write_text("<p>page</p>")
    pages = [tour.Page("00_start_here.html", "00 Start <here>", 12.3)]
    figure = tour.Picture(plots.bars({"a": 1.0, "b": 2.0}), 'bars & "signs"')
    index = tour.write_index(tmp_path, pages, [figure], {"What came out": tour.summary(RESULTS)}, "Measured here.")
    text = index.read_text()
    assert index.name == "index.html" and not list(tmp_path.glob(".index*"))
    assert 'href="00_start_here.html"' in text and "00 Start &lt;here&gt;" in text and "executed in 12 s" in text
    assert "62.5 / 50.0" in text and "bars &amp; &quot;signs&quot;" in text and "Measured here." in text
    assert not re.search(r"(?:src|href)=\"?(?:https?:)?//", text) and "<script" not in text
    picture = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", text)[1])
    assert picture.startswith(b"\x89PNG")
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_pictures_of_three_kinds(tmp_path):
    picture = Image.new("RGB", (4, 3), "red")
    picture.save(tmp_path / "a.png")
    for source in (picture, tmp_path / "a.png", plots.bars({"a": 1.0})):
        raw = base64.b64decode(tour.Picture(source, "").data_url().removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(raw)) as found:
            assert found.format == "PNG" and (found.width > 100 or found.getpixel((0, 0)) == (255, 0, 0))


def test_a_missing_page_is_named(tmp_path):
    with pytest.raises(ReIDKitError, match=r"02_coarse_priors\.html"):
        tour.write_index(tmp_path, [tour.Page("02_coarse_priors.html", "02", 1)], [], {})


def test_only_old_notebooks_are_executed(tmp_path, monkeypatch):
    """A page newer than its source and than the kit is kept; the others are handed to the runner."""
    out, notebooks, calls, now = tmp_path / "out", tmp_path / "notebooks", [], time.time()
    out.mkdir(), notebooks.mkdir()
    for name in ("00_a", "01_b"):
        (notebooks / f"{name}.py").write_text("# %%\n")

    class Done:
        returncode = 0

    def run(command):
        names = [c for c in command if re.match(r"\d\d_", c)]
        calls.append(names)
        for name in names:
            (out / f"{name}.html").write_text("page")
            os.utime(out / f"{name}.html", (now + 30, now + 30))  # newer, however coarse the clock of the disk
        known = {n: {"title": n.upper(), "seconds": 1.0} for n in ("00_a", "01_b")}
        (out / "notebooks.json").write_text(json.dumps(known))
        return Done

    monkeypatch.setattr(tour.subprocess, "run", run)
    pages = tour.execute_notebooks(out, notebooks)
    assert calls == [["00_a", "01_b"]] and [p.title for p in pages] == ["00_A", "01_B"]
    tour.execute_notebooks(out, notebooks)
    assert len(calls) == 1
    os.utime(notebooks / "01_b.py", (now + 60, now + 60))
    tour.execute_notebooks(out, notebooks)
    assert calls[1:] == [["01_b"]]
    os.utime(notebooks / "01_b.py", (1, 1))
    newer = time.time() + 60
    (notebooks / "figures").mkdir()
    for helper in ("lesson.py", "figures/results.py"):  # what notebooks share is newer than all pages
        (notebooks / helper).write_text("")
        os.utime(notebooks / helper, (newer, newer))
        tour.execute_notebooks(out, notebooks)
        assert calls.pop() == ["00_a", "01_b"]
        (notebooks / helper).unlink()
    os.utime(notebooks / "01_b.py", (newer, newer))
    Done.returncode = 1
    with pytest.raises(ReIDKitError, match="a notebook failed"):
        tour.execute_notebooks(out, notebooks)
