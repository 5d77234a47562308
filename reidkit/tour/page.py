"""The tour's page: one file with everything inside, readable on a telephone, whole after every step.

page = TourPage("build/tour", note="Measured on ...")
page.write("Rendering the pictures of people ...")   # with a line that says what goes on; it reloads itself
page.sections.append(tables({"What came out": table}))
page.write()                                         # the tour is over: nothing reloads
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from reidkit.errors import ReIDKitError
from reidkit.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

RELOAD = 15  # seconds between two looks at a page that grows

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --page: #fbfaf7; --card: #fff; --line: #dfe3e8;
        --accent: #0072b2; --right: #0072b2; --wrong: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #9aa7b4; --page: #14181d; --card: #1d232a;
        --line: #343d47; --accent: #56b4e9; --right: #56b4e9; --wrong: #e69f00; }
        figure img { filter: brightness(.92); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
       font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; } h2 { margin: 2.4rem 0 .6rem; font-size: 1.3rem; }
h3 { margin: 1.4rem 0 .4rem; font-size: 1rem; }
p { max-width: 44rem; margin: .6rem 0; } .soft { color: var(--soft); } a { color: var(--accent); }
.now { padding: .7rem 1rem; border-left: .3rem solid var(--accent); background: var(--card); }
.finding { font-size: 1.1rem; font-weight: 600; }
dl { max-width: 44rem; } dt { font-weight: 600; } dd { margin: 0 0 .5rem; color: var(--soft); }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(4.6rem, 1fr)); gap: .5rem; max-width: 48rem; }
.tile { margin: 0; font-size: .8rem; line-height: 1.3; }
.tile img { display: block; width: 100%; height: auto; border: .25rem solid transparent; border-radius: .3rem; }
.tile.right img { border-color: var(--right); } .tile.wrong img { border: .25rem dashed var(--wrong); }
.tile.query img { border-color: var(--ink); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: .8rem; }
.card { display: block; padding: .9rem 1rem; background: var(--card); border: 1px solid var(--line);
        border-radius: .6rem; text-decoration: none; color: inherit; }
a.card:hover, a.card:focus-visible { border-color: var(--accent); outline: none; }
.card b { display: block; } .card span { color: var(--soft); font-size: .88rem; }
figure.picture { margin: 0; padding: .6rem; background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
figure.picture img { max-width: 100%; height: auto; display: block; margin: auto; }
figure.picture figcaption { color: #4a5560; font-size: .88rem; margin-top: .5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; background: var(--card); }
th, td { text-align: right; padding: .4rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
@media (max-width: 30rem) { th, td { padding: .4rem .35rem; font-size: .92rem; } }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
"""


@dataclass(frozen=True)
class Notebook:
    """One executed notebook: its page beside index.html, its title, the seconds its cells took."""

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
            save(buffer, format="png", dpi=160) if save else cast("Image", self.source).save(buffer, format="png")
            raw = buffer.getvalue()
        return "data:image/png;base64," + base64.b64encode(raw).decode()


@dataclass
class TourPage:
    """`<out>/index.html`: sections of HTML in order, under a note on where the numbers come from."""

    out: Path
    note: str = ""
    sections: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The page."""
        return self.out / "index.html"

    def write(self, now: str = "", *, reload: bool = True) -> Path:
        """Write the page as it is; returns its path.

        now: a line that says what the tour is doing. With it the page loads itself again every `RELOAD` seconds, unless
        `reload` is False, as it is for a tour that has stopped. Styles and pictures are inside the file, so that it can
        be opened from disk or sent by mail. Raises ReIDKitError where the disk refuses.
        """
        again = f'<meta http-equiv="refresh" content="{RELOAD}">' if now and reload else ""
        words = html.escape(now) + (f" This page loads itself again every {RELOAD} seconds." if again else "")
        write_text(
            self.file,
            f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{again}<title>reidkit: the tour</title><style>{STYLE}</style></head><body>
<h1>reidkit: the tour</h1>
<p class=soft>Part-aware person re-identification, from two papers to numbered notebooks. {html.escape(self.note)}</p>
{f"<p class=now role=status>{words}</p>" if now else ""}
{"".join(self.sections)}
</body></html>
""",
        )
        return self.file


def tables(numbers: Mapping[str, pd.DataFrame], names: Mapping[str, str] | None = None) -> str:
    """Tables of text or numbers under their headings, and below them what their names mean."""
    parts = [
        f"<h2>{html.escape(title)}</h2><div class=scroll>{_table(table)}</div>" for title, table in numbers.items()
    ]
    return "".join(parts) + glossary(names or {})


def glossary(names: Mapping[str, str]) -> str:
    """{name: what it means} as a list."""
    entries = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(words)}</dd>" for name, words in names.items())
    return f"<dl>{''.join(entries)}</dl>" if names else ""


def figures(pictures: Iterable[Picture]) -> str:
    """Figures with their captions."""
    parts = (
        f'<figure class=picture><img alt="{html.escape(p.caption)}" src="{p.data_url()}">'
        f"<figcaption>{html.escape(p.caption)}</figcaption></figure>"
        for p in pictures
    )
    return f"<h2>Figures</h2><div class=figures>{''.join(parts)}</div>"


def notebook_links(out: Path, notebooks: Iterable[Notebook]) -> str:
    """Cards that open the notebooks' pages. Raises ReIDKitError where a page is missing beside index.html."""
    notebooks = list(notebooks)
    if lost := [n.file for n in notebooks if not (out / n.file).is_file()]:
        raise ReIDKitError(f"the tour lacks the pages {', '.join(lost)} in {out}; run notebooks/run.py --html {out}")
    cards = "".join(
        f'<a class="card" href="{html.escape(n.file)}"><b>{html.escape(n.title)}</b>'
        f"<span>executed in {n.seconds:.0f} s</span></a>"
        for n in notebooks
    )
    return f"<h2>Notebooks</h2><div class=cards>{cards}</div>"


def _table(table: pd.DataFrame) -> str:
    cells = [[table.index.name or "", *table.columns], *([i, *row] for i, row in zip(table.index, table.to_numpy()))]
    rows = [
        "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
        for tag, row in zip(["th", *["td"] * len(table)], cells)
    ]
    return "<table>" + "".join(rows) + "</table>"
