"""The tour, step after step: each leaves a page that is whole."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reidkit.data import data_root, load_dataset
from reidkit.errors import ReIDKitError
from reidkit.lifetime import SIGINT_CODE
from reidkit.tour.page import TourPage, figures, notebook_links, tables
from reidkit.tour.steps import PRESET, REPO, SEED, SIZE, VARIANTS

GO_ON = "`make tour` goes on from here."


def main(argv: Sequence[str] | None = None) -> int:
    """The whole tour; prints at once where its page is, and in the end what came out."""
    parser = argparse.ArgumentParser(description="Train, evaluate, execute the notebooks, write one page.")
    parser.add_argument("--out", type=Path, default=REPO / "build" / "tour")
    parser.add_argument("--data", type=Path, default=data_root())
    parser.add_argument("--runs", type=Path, default=REPO / "runs")
    args = parser.parse_args(argv)
    page, started = TourPage(args.out), time.time()
    try:
        run(
            page,
            args.data,
            args.runs,
            lambda words: print(f"tour: {words} ({time.time() - started:.0f} s)", flush=True),
        )
    except ReIDKitError as error:
        page.write(f"The tour has stopped: {error}. {GO_ON}", reload=False)
        print(f"tour: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        page.write(f"The tour was interrupted. {GO_ON}", reload=False)
        print(f"tour: interrupted. {GO_ON}", file=sys.stderr)
        return SIGINT_CODE
    return 0


def run(page: TourPage, data: Path, runs: Path, say: Callable[[str], None]) -> None:
    """All steps. Raises ReIDKitError where one fails; the page then holds what came before."""
    say(f"open {page.write('Step 1 of 4: rendering people; the first pictures come within two minutes.')}: it grows")
    from reidkit.tour import people, steps
    from reidkit.tour.words import explained

    answers = people.ask(load_dataset("sidewalk", root=data, size="medium").at_level("strong"))
    page.sections.append(people.section(answers))
    page.write(f"Step 2 of 4: training {len(VARIANTS)} small networks, a minute or two each.")
    say(f"the page has its first pictures. {people.finding(answers)}")

    folders = steps.train_variants(load_dataset("sidewalk", root=data, size=SIZE), runs)
    results = steps.read_results(folders)
    table, tested = steps.summary(results), ", ".join(sorted(set(results["form"])))
    names = explained(table.columns, table.index)
    page.note = (
        f"The table and the figures: measured on Sidewalk {SIZE}, preset {PRESET}, {tested}, one seed ({SEED}): "
        "a demonstration, not a comparison."
    )
    page.sections.append(tables({"Three networks trained on this computer: Rank-1 / mAP (%)": table}, names))
    page.sections.append(figures(steps.pictures_of(results, folders)))
    page.write("Step 3 of 4: executing the notebooks, about ten minutes.")
    say(f"trained and evaluated:\n\n{table.to_string()}\n\n{page.note}")

    page.sections.append(notebook_links(page.out, steps.execute_notebooks(page.out)))
    say(f"done: open {page.write()}")


if __name__ == "__main__":
    sys.exit(main())
