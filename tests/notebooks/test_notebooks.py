"""Notebooks: lint of source and outputs, the runner's own failure cases, and execution from top to bottom."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest
from needs import need
from paths import REPO

for package in ("jupytext", "nbclient", "nbconvert", "ipykernel", "ipywidgets"):
    need(package)
import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

NOTEBOOKS = REPO / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
SIZE_BUDGET = 1_500_000  # bytes
LIMIT = 3600  # seconds a cell may take, on a machine that does other things, too
FORBIDDEN = {
    r"\.cuda\(\)": "choose the device once and use .to(device)",
    r"^\s*[!%]\s*(pip|conda)\b": "the environment is set up outside",
    r"import \*": "name what you import",
    r"[\"'](/(?!/)[A-Za-z]|[A-Za-z]:\\\\)[^\"']*[\"']": "no absolute path",
    r"<img[^>]+src=[\"']?https?:|!\[[^\]]*\]\(https?:": "no picture from the network",
}


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load("notebook_runner", NOTEBOOKS / "run.py")
check = load("exercises", NOTEBOOKS / "exercises.py").check


@pytest.fixture(params=SOURCES, ids=lambda p: p.stem)
def source(request):
    return request.param


@pytest.fixture
def written(source):
    path = source.with_suffix(".ipynb")
    assert path.is_file(), f"{path.name} is missing: run `make notebooks`"
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert SOURCES and SOURCES[0].stem == "00_start_here"
    orphans = {p.stem for p in NOTEBOOKS.glob("*.ipynb")} - {s.stem for s in SOURCES}
    assert not orphans, f"no .py source for {orphans}"


def test_source(source):
    nb = jupytext.read(source, fmt="py:percent")
    for cell in nb.cells:
        for pattern, advice in FORBIDDEN.items():
            found = re.search(pattern, cell.source, flags=re.M)
            assert not found, f"{source.name}: {found[0]!r} ({advice})"
    code = [c.source for c in nb.cells if c.cell_type == "code"]
    long = [c.splitlines()[0] for c in code if len(c.splitlines()) > 40]
    assert not long, f"{source.name}: cells of more than 40 lines start with {long}"


def test_opening_and_closing(source):
    """TEACHING: what you learn, prerequisites, paper section, minutes; settings; questionnaire, turns, summary."""
    nb = jupytext.read(source, fmt="py:percent")
    opening = nb.cells[0].source
    assert re.match(rf"# {source.stem[:2]} ", opening), "the first line is '# NN Title'"
    for word in ("What you will learn", "Prerequisites", "Paper", "Minutes", "Sec.", "CPU", "GPU"):
        assert word in opening, f"the opening cell lacks {word!r}"
    settings = next(c.source for c in nb.cells if c.cell_type == "code")
    for word in ("DATASET", "PRESET", "SEED"):
        assert re.search(rf"^{word} = ", settings, flags=re.M), f"the settings cell lacks {word}"
    text = "\n".join(c.source for c in nb.cells)
    for word in ("Questionnaire", "Your turn", "Summary", "Predict"):
        assert word.lower() in text.lower(), f"there is no {word!r}"
    assert text.count("<details>") >= 3, "a questionnaire has answers"


def test_written_notebook(source, written):
    nbformat.validate(written)
    assert written.metadata.kernelspec.name == "python3"
    assert "widgets" not in written.metadata, "widget state is not committed"
    code = [c for c in written.cells if c.cell_type == "code" and c.source.strip()]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), "not run from top to bottom"
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", f"{source.stem}: {output.get('evalue')}"
            assert runner.WIDGET_VIEW not in output.get("data", {})
            assert str(REPO) not in json.dumps(output), "an output shows a path of the machine that ran it"
    size = source.with_suffix(".ipynb").stat().st_size
    assert size <= SIZE_BUDGET, f"{size} bytes; draw fewer or smaller figures"


def test_source_and_notebook_agree(source, written):
    fresh = runner.read_source(source)
    for i, (a, b) in enumerate(zip(fresh.cells, written.cells)):
        assert (a.cell_type, a.source, a.id) == (b.cell_type, b.source, b.id), (
            f"cell {i} of {source.stem}.ipynb is not that of the .py: run `make notebooks`"
        )
    assert len(fresh.cells) == len(written.cells)


@pytest.mark.notebook
def test_notebook_runs(source, capsys):
    code = runner.main([source.stem, "--check", "--timeout", str(LIMIT)])
    assert code == 0, capsys.readouterr().out
    print(capsys.readouterr().out)


# the runner itself


def notebook(*cells):
    nb = new_notebook(cells=list(cells))
    nb.metadata.kernelspec = dict(runner.KERNEL)
    return nb


def test_an_error_in_a_cell_is_reported(tmp_path):
    with pytest.raises(runner.NotebookError, match="ZeroDivisionError") as caught:
        runner.execute(notebook(new_code_cell("1 / 0")), tmp_path, LIMIT, "sample")
    assert str(caught.value).startswith("sample:") and "\x1b" not in str(caught.value)


def test_an_error_hidden_in_an_output_widget_is_found(tmp_path):
    code = "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    raise KeyError('planted')\nout"
    with pytest.raises(runner.NotebookError, match="hidden in Output widgets: KeyError: 'planted'"):
        runner.execute(notebook(new_code_cell(code)), tmp_path, LIMIT)


def test_no_kernelspec_and_no_code_cell(tmp_path):
    with pytest.raises(runner.NotebookError, match="no kernelspec"):
        runner.execute(new_notebook(cells=[new_code_cell("1")]), tmp_path, LIMIT)
    with pytest.raises(runner.NotebookError, match="no code cell ran"):
        runner.execute(notebook(new_markdown_cell("# only words")), tmp_path, LIMIT)


def test_a_cell_that_takes_too_long(tmp_path):
    with pytest.raises(runner.NotebookError, match="timed out"):
        runner.execute(notebook(new_code_cell("import time; time.sleep(60)")), tmp_path, 1)


def test_outputs_are_made_small(tmp_path):
    code = [
        "import ipywidgets, sys\nipywidgets.IntSlider()",
        "print('kept', end='\\r'); print('last')",
        "sys.stderr.write('\\r 50%|##  | 1/2\\r100%|####| 2/2 [00:01<00:00]\\n'); 'value'",
    ]
    nb = notebook(*map(new_code_cell, code))
    seconds = runner.execute(nb, tmp_path, LIMIT)
    runner.make_small(nb)
    assert list(seconds) == [0, 1, 2] and all(s > 0 for s in seconds.values())
    assert nb.cells[0].outputs == [] and "widgets" not in nb.metadata
    assert nb.cells[1].outputs[0].text == "last\n"
    assert [o.output_type for o in nb.cells[2].outputs] == ["execute_result"]


def test_unknown_notebook_lists_the_known(capsys):
    with pytest.raises(SystemExit):
        runner.main(["99"])
    assert "00_start_here" in capsys.readouterr().err


def test_html_needs_no_network(tmp_path):
    text = "# 01 Title\nA mean $\\frac{1}{N}\\sum_i x_i$ and `$HOME$`, [next](02_coarse_priors.ipynb)\n\n$$L = a + b$$"
    nb = notebook(new_markdown_cell(text), new_code_cell("1 + 1"))
    runner.to_html(nb, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml;base64,") >= 2 and "$HOME$" in page
    assert 'href="02_coarse_priors.html"' in page
    assert not re.findall(r"<(?:script|img)[^>]*src=\"(?!data:)[^\"]*\"", page)
    assert not re.findall(r"<link[^>]*href=\"http[^\"]*\"", page)
    assert nb.cells[0].source == text  # the notebook itself keeps its formulas


def test_exercise_checker():
    assert check(None, 1).startswith("not attempted")
    assert check(0.5, 0.5) == "right" and check(np.ones(2), [1, 1]) == "right"
    assert check(0.4, 0.5, hint="count again") == "not yet. Hint: count again"
    assert check([1, 2, 3], [1, 2]) == "not yet"
    assert check("a", "b") == "not yet" and check(4, lambda a: a % 2 == 0) == "right"
    assert check(object(), 3).startswith("not yet: your answer could not be compared")
