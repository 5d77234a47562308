"""The tour's steps, each of which keeps what a former run left: rendered sets, finished runs, pages of notebooks that
are newer than their source and than the kit. What is trained here is small, and brief."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reidkit.data import ReIDDataset
from reidkit.errors import ReIDKitError
from reidkit.tour.page import Notebook, Picture
from reidkit.tour.words import label

REPO = Path(__file__).resolve().parents[2]
SIZE = "small"
VARIANTS = ("baseline", "mt-only", "mpn-no-ca")  # the stripes, the main tasks alone, MPN without channel attention
PRESET = "quick"
SEED = 0


def train_variants(
    dataset: ReIDDataset, runs: Path, variants: Sequence[str] = VARIANTS, preset: str = PRESET
) -> dict[str, Path]:
    """One run a variant at the quick preset; a finished run is kept, an interrupted one goes on."""
    from reidkit.training import recipe_for, run_name, train

    folders = {name: runs / run_name(name, dataset, preset, SEED, {}) for name in variants}
    for name, folder in folders.items():
        train(name, dataset, recipe_for(name, preset), folder, seed=SEED, preset=preset)
    return folders


def execute_notebooks(out: Path, notebooks: Path = REPO / "notebooks") -> list[Notebook]:
    """Run the notebooks whose page is missing or older than source, helpers or kit; returns all pages.

    Raises ReIDKitError with the runner's report where one fails.
    """
    sources = sorted(notebooks.glob("[0-9][0-9]_*.py"))
    kit = [f for f in (REPO / "reidkit").rglob("*.py") if f.parent != Path(__file__).resolve().parent]
    shared = [*kit, *notebooks.glob("[a-z]*.py"), *notebooks.glob("figures/*.py")]
    changed = max(f.stat().st_mtime for f in shared)
    record = out / "notebooks.json"
    known = json.loads(record.read_text()) if record.is_file() else {}
    old = [s.stem for s in sources if s.stem not in known or not _newer(out / f"{s.stem}.html", s, changed)]
    if old:
        command = [sys.executable, str(notebooks / "run.py"), *old, "--check", "--html", str(out)]
        if subprocess.run(command).returncode:
            raise ReIDKitError("a notebook failed; its error stands above. `make tour` goes on from here once it runs")
        known = json.loads(record.read_text())
    return [Notebook(f"{s.stem}.html", known[s.stem]["title"], known[s.stem]["seconds"]) for s in sources]


def _newer(page: Path, source: Path, changed: float) -> bool:
    return page.is_file() and page.stat().st_mtime > max(source.stat().st_mtime, changed)


def read_results(folders: Mapping[str, Path]) -> pd.DataFrame:
    """The results of the tour's own runs, and of no other run that lies beside them; systems by the paper's names."""
    from reidkit.reporting.report import collect_results

    results = pd.concat([collect_results(folder) for folder in folders.values()], ignore_index=True)
    return results.assign(system=[label(name) for name in results.system])


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Rank-1 / mAP in percent, a line a test level, a column a system: narrow enough for a telephone."""
    level = results[results["shift"].isna() & results["metric"].isin(["rank1", "mAP"])]
    wide = 100 * level.pivot_table(index="level", columns=["system", "metric"], values="value", sort=False)
    columns = {
        system: wide[system, "rank1"].map("{:.1f}".format) + " / " + wide[system, "mAP"].map("{:.1f}".format)
        for system in dict.fromkeys(level["system"])
    }
    return pd.DataFrame(columns).loc[list(dict.fromkeys(level["level"]))].rename_axis("level")


def pictures_of(results: pd.DataFrame, folders: Mapping[str, Path]) -> list[Picture]:
    """Rank-1 under a controlled shift, and the losses, at a size that a telephone shows unshrunk."""
    from reidkit.reporting import plots

    shift = plots.rank1_under_shift(results)
    curves = plots.training_curves({label(name): folder / "metrics.csv" for name, folder in folders.items()})
    for figure in (shift, curves):
        figure.set_size_inches(4.4, 3.4)
    return [
        Picture(
            shift,
            "Rank-1 at the level shift: the mild queries, the person moved down by a fraction of the picture's height",
        ),
        Picture(curves, "training loss an epoch (the sums have different numbers of terms)"),
    ]
