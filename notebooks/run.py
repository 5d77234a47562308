"""Run the notebooks: `NN_name.py` (jupytext py:percent, the source of truth) -> `NN_name.ipynb`.

    python notebooks/run.py                     every notebook, outputs written beside the source
    python notebooks/run.py 02 04               those two
    python notebooks/run.py 02_solutions        worked solutions of notebook 02 (in `solutions/`)
    python notebooks/run.py --check             into build/notebooks/, the committed .ipynb stay
    python notebooks/run.py --html build/tour   also one HTML page a notebook, read without network

A notebook is executed in a fresh kernel whose working directory is the notebook's folder. It fails
on an error in a cell, on an error that hides in an Output widget (where Jupyter shows it to
nobody), on a missing kernelspec, and when it has no code cell that ran. Outputs are kept small: no
widget state, no timestamps, finished progress bars dropped. What answers a question to predict is
written closed: see `close_answers`.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
CLOSED = """{%- extends 'lab/index.html.j2' -%}
{% block output_group %}
{%- if cell.metadata.get('jupyter', {}).get('outputs_hidden') -%}
<details class="answer"><summary>Your prediction first, then open the answer</summary>
{{ super() }}
</details>
{%- else -%}{{ super() }}{%- endif -%}
{% endblock %}
"""  # of a page: outputs that `close_answers` closed
SLOW = 10.0  # seconds; slower cells are listed


class NotebookError(Exception):
    """A notebook did not run as a reader would expect."""


@dataclass
class Run:
    """What became of one notebook: seconds by cell index, and the first line of its title."""

    name: str
    title: str
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def sources() -> list[Path]:
    """The numbered notebook sources in order, then those of the solutions."""
    return sorted(HERE.glob("[0-9][0-9]_*.py")) + sorted(HERE.glob("solutions/[0-9][0-9]_*.py"))


def find(name: str) -> Path:
    """The source that a number ("04": the lesson, not its solutions), a name or a path means."""
    stem = Path(name).stem
    found = [
        s
        for s in sources()
        if s.stem == stem or (s.parent == HERE and s.stem.split("_")[0] == stem)
    ]
    if len(found) != 1:
        known = ", ".join(s.stem for s in sources())
        raise NotebookError(f"no notebook {name!r}; choose from: {known}")
    return found[0]


def read_source(path: Path) -> NotebookNode:
    """The notebook of a py:percent file, with the kernelspec and with cell ids that do not change
    by themselves."""
    nb = jupytext.read(path, fmt="py:percent")
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    for i, cell in enumerate(nb.cells):
        cell.id = f"cell-{i:03d}"
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def execute(
    nb: NotebookNode, cwd: Path, timeout: float, name: str = "notebook"
) -> dict[int, float]:
    """Run every cell in a fresh kernel; fills the outputs in, returns {cell index: seconds}.

    Raises NotebookError as the module's docstring says; `timeout` is in seconds and per cell.
    """
    if nb.metadata.get("kernelspec", {}).get("name") != KERNEL["name"]:
        raise NotebookError(
            f"{name}: no kernelspec {KERNEL['name']!r}; JupyterLab would ask for a kernel"
        )
    seconds: dict[int, float] = {}

    def start(cell, cell_index):
        seconds[cell_index] = -time.perf_counter()

    def stop(cell, cell_index, execute_reply):
        seconds[cell_index] += time.perf_counter()

    client = NotebookClient(
        nb,
        timeout=timeout,
        startup_timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(cwd)}},
        extra_arguments=["--log-level=40"],
        on_cell_start=start,
        on_cell_executed=stop,
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as e:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(e))  # without terminal colours
        raise NotebookError(f"{name}: {plain}") from None
    if hidden := hidden_errors(nb):
        raise NotebookError(f"{name}: errors hidden in Output widgets: {'; '.join(hidden)}")
    if not any(c.cell_type == "code" and c.execution_count for c in nb.cells):
        raise NotebookError(f"{name}: no code cell ran")
    return {i: s for i, s in seconds.items() if s >= 0}


def hidden_errors(nb: NotebookNode) -> list[str]:
    """Errors that a callback left in an Output widget."""
    state = nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    outputs = [
        o
        for m in state.values()
        if m.get("model_name") == "OutputModel"
        for o in m["state"].get("outputs", [])
    ]
    return [f"{o['ename']}: {o['evalue']}" for o in outputs if o.get("output_type") == "error"]


def close_answers(nb: NotebookNode) -> None:
    """Close the outputs below a question to predict, up to the next words.

    JupyterLab then shows "..." in their place until a click on it, or until the cell is run; a page
    of `to_html` has a button. (GitHub knows no closed outputs: there they stay open.) A panel stays
    open: it asks its question itself.
    """
    asked = False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            asked = bool(re.search(r"\bpredict\b", cell.source, flags=re.I))
        elif asked and cell.get("outputs") and not _shows_a_panel(cell):
            cell.metadata["jupyter"] = {"outputs_hidden": True}


def _shows_a_panel(cell: NotebookNode) -> bool:
    """Whether a cell shows a widget and a picture of it, with the same words."""
    shown = [o.data for o in cell.outputs if "text/plain" in o.get("data", {})]
    words = {data["text/plain"] for data in shown if WIDGET_VIEW in data}
    pictures = [data for data in shown if {"image/png", "image/jpeg"} & set(data)]
    return any(data["text/plain"] in words for data in pictures)


def make_small(nb: NotebookNode) -> None:
    """Keep what a reader sees without a kernel: no widget state, no bare widget views, last line of
    a progress bar."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if _readable(o)]


def _readable(output: NotebookNode) -> bool:
    data = output.get("data", {})
    if WIDGET_VIEW in data:
        del data[WIDGET_VIEW]
        # a widget without a picture of itself says nothing on paper
        return set(data) != {"text/plain"}
    if output.output_type == "stream":
        output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
        if output.name == "stderr":
            # finished bars of tqdm
            output.text = re.sub(r"^.*\d+%\|.*\n?", "", output.text, flags=re.M)
        return bool(output.text.strip())
    return True


def to_html(nb: NotebookNode, path: Path) -> None:
    """One self-contained page: styles inside, pictures inside, formulas drawn by matplotlib, no
    script from outside."""
    from nbconvert import HTMLExporter

    page = NotebookNode(nb)
    page.cells = [_with_formulas(c) if c.cell_type == "markdown" else c for c in nb.cells]
    exporter = HTMLExporter(
        embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    exporter.raw_template = CLOSED
    for url in (
        "mathjax_url",
        "require_js_url",
        "jquery_url",
        "mermaid_js_url",
        "widget_renderer_url",
    ):
        setattr(exporter, url, "")
    body, _ = exporter.from_notebook_node(
        page, {"metadata": {"name": path.stem, "path": str(HERE)}}
    )
    body = re.sub(r"<script[^>]*src=\"[^\"]*\"[^>]*>\s*</script>", "", body)
    body = re.sub(r'href="(?:\.\./)?(\d\d_\w+)\.ipynb"', r'href="\1.html"', body)
    # pages of lessons stand alone
    body = re.sub(r'<a href="solutions/[^"]*">(.*?)</a>', r"\1", body)
    _replace(path, body)


def _with_formulas(cell: NotebookNode) -> NotebookNode:
    """A copy of a markdown cell with $...$ and $$...$$ drawn as SVG images (code is left alone)."""
    pieces = re.split(r"(```.*?```|`[^`\n]*`)", cell.source, flags=re.S)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(
            r"\$\$(.+?)\$\$", lambda m: _formula(m[1], display=True), pieces[i], flags=re.S
        )
        pieces[i] = re.sub(
            r"(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\w)", lambda m: _formula(m[1]), pieces[i]
        )
    return NotebookNode(cell, source="".join(pieces))


def _formula(tex: str, display: bool = False) -> str:
    """An <img> of a formula, or its source in code type where matplotlib's mathtext does not know a
    command."""
    from matplotlib import mathtext

    tex, picture = " ".join(tex.split()), io.BytesIO()
    try:
        depth = mathtext.math_to_image(f"${tex}$", picture, format="svg")
    except ValueError:
        return f"<code>{html.escape(tex)}</code>"
    code = base64.b64encode(picture.getvalue()).decode()
    style = f"vertical-align:-{depth:.1f}px" + (
        ";display:block;margin:1em auto" if display else ";display:inline"
    )
    return f'<img alt="{html.escape(tex)}" style="{style}" src="data:image/svg+xml;base64,{code}">'


def title_of(nb: NotebookNode) -> str:
    """The first heading."""
    for cell in nb.cells:
        if found := re.search(r"^# (.+)$", cell.source, flags=re.M):
            return found[1].strip()
    raise NotebookError("a notebook starts with a heading (# ...)")


def run(source: Path, *, out: Path, html_dir: Path | None, timeout: float) -> Run:
    """Execute one source and write its .ipynb to the same place below `out` (and its page)."""
    nb = read_source(source)
    result = Run(source.stem, title_of(nb))
    result.seconds = execute(nb, source.parent, timeout, source.stem)
    close_answers(nb)
    make_small(nb)
    _replace(out / source.relative_to(HERE).with_suffix(".ipynb"), nbformat.writes(nb) + "\n")
    if html_dir:
        to_html(nb, html_dir / f"{source.stem}.html")
    return result


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _remember(path: Path, runs: list[Run]) -> None:
    """Merge {name: title and seconds} into a JSON file, for the tour's page."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    known |= {r.name: {"title": r.title, "seconds": round(r.total, 1)} for r in runs}
    _replace(path, json.dumps(known, indent=2, sort_keys=True) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 1 if a notebook failed."""
    parser = argparse.ArgumentParser(description="Execute the notebooks.")
    parser.add_argument("names", nargs="*", help="numbers or names, default all")
    parser.add_argument(
        "--check", action="store_true", help="write to build/notebooks/, not beside the source"
    )
    parser.add_argument("--html", type=Path, metavar="DIR", help="also export HTML pages to DIR")
    parser.add_argument(
        "--timeout", type=float, default=1200, help="seconds a cell may take (default 1200)"
    )
    args = parser.parse_args(argv)
    out = HERE.parent / "build" / "notebooks" if args.check else HERE
    runs, failed = [], []
    try:
        chosen = [find(n) for n in args.names] or sources()
    except NotebookError as e:
        parser.error(str(e))
    for source in chosen:
        try:
            done = run(source, out=out, html_dir=args.html, timeout=args.timeout)
        except NotebookError as e:
            failed.append(source.stem)
            print(f"{source.stem}: FAILED\n{e}", flush=True)
            continue
        runs.append(done)
        slow = ", ".join(f"cell {i}: {s:.0f} s" for i, s in done.seconds.items() if s >= SLOW)
        print(
            f"{done.name}: {len(done.seconds)} cells, {done.total:.1f} "
            f"s{'; ' + slow if slow else ''}",
            flush=True,
        )
    if args.html:
        _remember(args.html / "notebooks.json", runs)
    print(
        f"{len(runs)} notebooks ran, {len(failed)} failed"
        + (f": {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
