"""`make tour`: data, training, evaluation, notebooks, and one page that shows what came out.

    python -m reidkit.tour [--out build/tour]

Four steps, each of which keeps what a former run left: the rendered sets, finished runs, pages of notebooks that
are newer than their source and than the kit. What it trains is small; the notebooks with pictures, and the figure of
part maps, open the larger networks that ship with the kit. The page needs no network and no JavaScript.
"""

from __future__ import annotations

import base64
import html
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

REPO = Path(__file__).resolve().parents[1]
SIZE = "small"
VARIANTS = ("baseline", "mt-only", "mpn-no-ca")  # the stripes, the main tasks alone, MPN without channel attention
PRESET = "quick"
SEED = 0


@dataclass(frozen=True)
class Page:
    """One executed notebook: its file beside index.html, its title, the seconds its cells took."""

    file: str
    title: str
    seconds: float


@dataclass(frozen=True)
class Picture:
    """A figure of the page: a matplotlib Figure, a PIL picture or the path of a PNG, and what it shows."""

    source: str | Path | Figure | Image
    caption: str

    def data_url(self) -> str:
        """The picture inside the page."""
        if isinstance(self.source, (str, Path)):
            raw = Path(self.source).read_bytes()
        else:
            buffer = io.BytesIO()
            save = getattr(self.source, "savefig", None)
            save(buffer, format="png", dpi=144) if save else cast("Image", self.source).save(buffer, format="png")
            raw = buffer.getvalue()
        return "data:image/png;base64," + base64.b64encode(raw).decode()


STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --page: #fbfaf7; --card: #fff; --line: #dfe3e8;
        --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #9aa7b4; --page: #14181d; --card: #1d232a;
        --line: #343d47; --accent: #56b4e9; } figure img { filter: brightness(.92); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
       font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 2rem; margin: 0; } h2 { margin: 2.4rem 0 .8rem; font-size: 1.25rem; }
p { max-width: 44rem; } .soft { color: var(--soft); } a { color: var(--accent); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: .8rem; }
.card { display: block; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--line);
        border-radius: .6rem; text-decoration: none; color: inherit; }
a.card:hover, a.card:focus-visible { border-color: var(--accent); outline: none; }
.card b { display: block; } .card span { color: var(--soft); font-size: .88rem; }
figure { margin: 0; padding: .8rem; background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
figure img { max-width: 100%; height: auto; display: block; margin: auto; }
figcaption { color: #4a5560; font-size: .88rem; margin-top: .5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; min-width: 30rem; background: var(--card); }
th, td { text-align: right; padding: .4rem .8rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
"""


def write_index(
    out_dir: str | Path,
    notebooks: Iterable[Page],
    figures: Iterable[Picture],
    numbers: Mapping[str, pd.DataFrame],
    note: str = "",
) -> Path:
    """Write `out_dir/index.html`: links to the notebooks' pages, figures, tables; returns its path.

    numbers: {heading: table of text or numbers}. note: one paragraph on where the numbers come from.
    Everything is inside the page (styles, pictures), so it can be opened from disk or sent by mail.
    Raises ReIDKitError where a notebook's page is missing.
    """
    out = Path(out_dir)
    notebooks = list(notebooks)
    if lost := [n.file for n in notebooks if not (out / n.file).is_file()]:
        raise ReIDKitError(f"the tour lacks the pages {', '.join(lost)} in {out}; run notebooks/run.py --html {out}")
    cards = "".join(
        f'<a class="card" href="{html.escape(n.file)}"><b>{html.escape(n.title)}</b>'
        f"<span>executed in {n.seconds:.0f} s</span></a>"
        for n in notebooks
    )
    pictures = "".join(
        f'<figure><img alt="{html.escape(f.caption)}" src="{f.data_url()}">'
        f"<figcaption>{html.escape(f.caption)}</figcaption></figure>"
        for f in figures
    )
    tables = "".join(f"<h2>{html.escape(name)}</h2><div class=scroll>{_table(t)}</div>" for name, t in numbers.items())
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>reidkit: the tour</title><style>{STYLE}</style></head><body>
<h1>reidkit: the tour</h1>
<p class=soft>Part-aware person re-identification, from two papers to numbered notebooks. {html.escape(note)}</p>
{tables}
<h2>Figures</h2><div class=figures>{pictures}</div>
<h2>Notebooks</h2><div class=cards>{cards}</div>
</body></html>
"""
    write_text(out / "index.html", text)
    return out / "index.html"


def _table(table: pd.DataFrame) -> str:
    cells = [[table.index.name or "", *table.columns], *([i, *row] for i, row in zip(table.index, table.to_numpy()))]
    rows = [
        "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
        for tag, row in zip(["th", *["td"] * len(table)], cells)
    ]
    return "<table>" + "".join(rows) + "</table>"


def render(data: Path):
    """Step 1: the rendered set (kept under `data` between runs)."""
    from reidkit.data import load_dataset

    return load_dataset("sidewalk", root=data, size=SIZE)


def train_variants(dataset, runs: Path, variants: Sequence[str] = VARIANTS, preset: str = PRESET) -> dict[str, Path]:
    """Step 2: one run a variant at the quick preset; a finished run is kept, an interrupted one goes on."""
    from reidkit.training import recipe_for, run_name, train

    folders = {name: runs / run_name(name, dataset, preset, SEED, {}) for name in variants}
    for name, folder in folders.items():
        train(name, dataset, recipe_for(name, preset), folder, seed=SEED, preset=preset)
    return folders


def execute_notebooks(out: Path, notebooks: Path = REPO / "notebooks") -> list[Page]:
    """Step 3: run the notebooks whose page is missing or older than source, helpers or kit; returns all pages.

    Raises ReIDKitError with the runner's report where one fails.
    """
    sources = sorted(notebooks.glob("[0-9][0-9]_*.py"))
    shared = [*(REPO / "reidkit").rglob("*.py"), *notebooks.glob("[a-z]*.py"), *notebooks.glob("figures/*.py")]
    kit = max(f.stat().st_mtime for f in shared if f != Path(__file__).resolve())
    record = out / "notebooks.json"
    known = json.loads(record.read_text()) if record.is_file() else {}
    old = [s.stem for s in sources if s.stem not in known or not _newer(out / f"{s.stem}.html", s, kit)]
    if old:
        command = [sys.executable, str(notebooks / "run.py"), *old, "--check", "--html", str(out)]
        if subprocess.run(command).returncode:
            raise ReIDKitError("a notebook failed; its error stands above. `make tour` goes on from here once it runs")
        known = json.loads(record.read_text())
    return [Page(f"{s.stem}.html", known[s.stem]["title"], known[s.stem]["seconds"]) for s in sources]


def _newer(page: Path, source: Path, kit: float) -> bool:
    return page.is_file() and page.stat().st_mtime > max(source.stat().st_mtime, kit)


def read_results(folders: Mapping[str, Path]) -> pd.DataFrame:
    """The results of the tour's own runs, and of no other run that lies beside them."""
    from reidkit.reporting.report import collect_results

    return pd.concat([collect_results(folder) for folder in folders.values()], ignore_index=True)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Rank-1 / mAP in percent, a line a system, a column a test level."""
    level = results[results["shift"].isna() & results["metric"].isin(["rank1", "mAP"])]
    wide = (100 * level.pivot_table(index="system", columns=["level", "metric"], values="value", sort=False)).round(1)
    levels = list(dict.fromkeys(level["level"]))
    table = pd.DataFrame(
        {
            f"{name}: Rank-1 / mAP": wide[name, "rank1"].map("{:.1f}".format)
            + " / "
            + wide[name, "mAP"].map("{:.1f}".format)
            for name in levels
        }
    )
    return table.rename_axis("system")


def main(argv: Sequence[str] | None = None) -> int:
    """The whole tour; prints where the page is and what came out."""
    import argparse

    from reidkit.reporting import plots
    from reidkit.reporting.fig8 import shipped_figure

    parser = argparse.ArgumentParser(description="Train, evaluate, execute the notebooks, write one page.")
    parser.add_argument("--out", type=Path, default=REPO / "build" / "tour")
    parser.add_argument("--data", type=Path, default=REPO / "data")
    parser.add_argument("--runs", type=Path, default=REPO / "runs")
    args = parser.parse_args(argv)
    started = time.time()
    try:
        dataset = render(args.data)
        folders = train_variants(dataset, args.runs)
        pages = execute_notebooks(args.out)
        results = read_results(folders)
        maps, _ = shipped_figure(args.data)
        figures = [
            Picture(maps, "MPN's Fig. 8 with the networks that ship with the kit: part maps, and scores of 60 queries"),
            Picture(
                plots.rank1_under_shift(results),
                "Rank-1 when the query's crop is shifted down by a fraction of its height",
            ),
            Picture(
                plots.training_curves({n: f / "metrics.csv" for n, f in folders.items()}),
                "training loss an epoch (the sums have different numbers of terms)",
            ),
        ]
        table = summary(results)
        tested = ", ".join(sorted(set(results["form"])))
        note = f"Measured on Sidewalk {SIZE}, preset {PRESET}, {tested}, one seed ({SEED}): "
        note += "a demonstration, not a comparison."
        index = write_index(args.out, pages, figures, {"What came out": table}, note)
    except ReIDKitError as e:
        print(f"tour: {e}", file=sys.stderr)
        return 1
    print(f"\n{table.to_string()}\n\n{note}\nThe tour took {time.time() - started:.0f} s: open {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
