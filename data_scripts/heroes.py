"""Train and ship the networks that the notebooks and panels open: `make heroes`.

    python data_scripts/heroes.py                      # runs/ and data/ of the kit; finished runs are kept
    python data_scripts/heroes.py --only mpn,baseline  # some of them

Sidewalk medium, preset hero, seed 0, one run after another with all cores (or a GPU). An interrupted run goes on from
its last epoch. Weights above 12 MB a network or 60 MB in all, in half precision, are refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reidkit.cli.options import going_on_later
from reidkit.data import data_root, load_dataset
from reidkit.errors import ReIDKitError
from reidkit.training.ide import run_name
from reidkit.training.runs import SHIPPED
from reidkit.training.ship import HEROES, ship
from reidkit.training.suites import Entry, run_suite

KIT = Path(__file__).resolve().parents[1]
SIZE, PRESET, SEED = "medium", "hero", 0


def build(names: list[str], root: Path, runs: Path, out: Path, size: str = SIZE, preset: str = PRESET) -> list[Path]:
    """Train what is not finished, then ship all of it and the IDE that MPN's rows start from; returns the folders.

    Raises ReIDKitError with the end of their logs where trainings fail; nothing is shipped then.
    """
    dataset = load_dataset("sidewalk", root=root, size=size)
    arguments = ["--dataset", "sidewalk", "--root", str(root), "--size", size]
    rows = tuple(Entry(name) for name in names)
    report = run_suite(rows, dataset, arguments, runs, seeds=[SEED], preset=preset, jobs=1)
    if report.failed:
        raise ReIDKitError("; ".join(f"{path.name}: {why}" for path, why in report.failed.items()))
    start = runs / run_name("ide", dataset, preset, SEED)
    return ship([*report.finished, *([start] if start.is_dir() else [])], out)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 1 where a training failed or a network is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(HEROES), help=", ".join(HEROES))
    parser.add_argument("--root", type=Path, default=data_root())
    parser.add_argument("--runs", type=Path, default=KIT / "runs")
    args = parser.parse_args(argv)
    try:
        with going_on_later():
            for folder in build(args.only, args.root, args.runs, SHIPPED):
                print(folder)
    except ReIDKitError as e:
        print(f"heroes: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
