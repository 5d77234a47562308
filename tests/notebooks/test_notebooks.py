"""Notebooks: lint of source and outputs, the runner's own failure cases, and execution from top to bottom."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest
import torch
from needs import need
from paths import REPO

for package in ("jupytext", "nbclient", "nbconvert", "ipykernel", "ipywidgets"):
    need(package)
import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from reidkit import panels

NOTEBOOKS = REPO / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
SOLUTIONS = sorted(NOTEBOOKS.glob("solutions/[0-9][0-9]_*.py"))
SIZE_BUDGET = 1_500_000  # bytes
LIMIT = 3600  # seconds a cell may take, on a machine that does other things, too
FORBIDDEN = {
    r"\.cuda\(\)": "choose the device once and use .to(device)",
    r"^\s*[!%]\s*(pip|conda)\b": "the environment is set up outside",
    r"import \*": "name what you import",
    r"\.\./data\b": "data sets lie where `data_root` says, whatever the working directory",
    r"[\"'](/(?!/)[A-Za-z]|[A-Za-z]:\\\\)[^\"']*[\"']": "no absolute path",
    r"<img[^>]+src=[\"']?https?:|!\[[^\]]*\]\(https?:": "no picture from the network",
}
CELL_LINES = 25
COLUMNS = 100  # of code and of what it prints: what a projector shows
SETTINGS = """
DATASET = {"name": "sidewalk", "size": "small"}  # or {"name": "market1501"} once it is under ROOT
ROOT = None  # data sets: in the kit's data/ (or REIDKIT_DATA); or a folder; Sidewalk is rendered
PRESET = "quick"  # or "long", or "paper" for a GPU
SEED = 0
RUNS = Path("../runs")  # your own runs, looked for first
SHIPPED = Path("../results/sidewalk/checkpoints")  # runs that ship with the kit
RETRAIN = False  # True: train here and now, whatever runs exist
RESULTS = Path("../results/sidewalk/runs.csv")  # measured results of many seeds
SEEDS = 3  # seeds a row should have
""".strip().splitlines()  # the words of every settings cell, in this order


HERO = 'PRESET = "hero"  # or "quick", or "paper" for a GPU'


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load("notebook_runner", NOTEBOOKS / "run.py")
exercises = load("exercises", NOTEBOOKS / "exercises.py")
answers = load("answers", NOTEBOOKS / "answers.py")
check = exercises.check


@pytest.fixture(params=LESSONS + SOLUTIONS, ids=lambda p: p.stem)
def source(request):
    return request.param


@pytest.fixture(params=LESSONS, ids=lambda p: p.stem)
def lesson(request):
    return request.param


def code_of(source):
    """The sources of a notebook's code cells."""
    return [c.source for c in jupytext.read(source, fmt="py:percent").cells if c.cell_type == "code"]


def printed(source):
    """Everything that the written notebook printed."""
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.fixture
def written(source):
    path = source.with_suffix(".ipynb")
    assert path.is_file(), f"{path.name} is missing: run `make notebooks`"
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert LESSONS and LESSONS[0].stem == "00_start_here"
    assert [s.stem for s in SOLUTIONS] == [f"{s.stem[:2]}_solutions" for s in LESSONS]
    orphans = {p.stem for p in NOTEBOOKS.rglob("[0-9]*.ipynb")} - {s.stem for s in LESSONS + SOLUTIONS}
    assert not orphans, f"no .py source for {orphans}"


def test_source(source):
    nb = jupytext.read(source, fmt="py:percent")
    for cell in nb.cells:
        for pattern, advice in FORBIDDEN.items():
            found = re.search(pattern, cell.source, flags=re.M)
            assert not found, f"{source.name}: {found[0]!r} ({advice})"
    long = [c.splitlines()[0] for c in code_of(source) if len(c.splitlines()) > CELL_LINES]
    assert not long, f"{source.name}: cells of more than {CELL_LINES} lines start with {long}"


def words_of(source):
    """The texts of a notebook's cells of words, without blocks of code."""
    cells = jupytext.read(source, fmt="py:percent").cells
    return [re.sub(r"^```.*?^```", "", c.source, flags=re.M | re.S) for c in cells if c.cell_type == "markdown"]


def test_no_line_of_a_sentence_begins_a_list(source):
    """A line that a paragraph goes on with at "1. " or "- " would be shown as a list."""
    item = re.compile(r"(1[.)]|[-+*]) \S")
    for paragraph in (p.strip("\n").splitlines() for text in words_of(source) for p in re.split(r"\n\s*\n", text)):
        if paragraph and not re.match(r"(\d+[.)]|[-+*]) ", paragraph[0]):
            assert not [line for line in paragraph[1:] if item.match(line)]


def test_files_named_in_the_words_exist(source):
    named = re.findall(
        r"`((?:reidkit|results|tests|notebooks|data_scripts|docs)/[\w./-]+)`", "\n".join(words_of(source))
    )
    assert [n for n in named if not (REPO / n).exists()] == []


def test_lines_fit_a_projector(source, written):
    """Code, and texts that it prints; tables, pictures and words are laid out by the browser."""
    lines = [line for code in code_of(source) for line in code.splitlines()]
    for cell in written.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if set(data) == {"text/plain"}:
                lines += data["text/plain"].splitlines()
    assert not [line for line in lines if len(line) > COLUMNS]


def test_answers_are_closed_until_asked(lesson):
    """The outputs below a question to predict are closed, up to the next words; a panel asks its question itself."""
    cells = nbformat.read(lesson.with_suffix(".ipynb"), as_version=4).cells
    asked, closed = False, 0
    for cell in cells:
        if cell.cell_type == "markdown":
            asked = bool(re.search(r"\bpredict\b", cell.source, flags=re.I))
        elif cell.outputs:
            hidden = cell.metadata.get("jupyter", {}).get("outputs_hidden", False)
            panel = re.search(rf"\b({'|'.join(panels.__all__)})\b", cell.source)
            assert hidden == (asked and not panel), cell.source
            closed += hidden
    assert closed or lesson.stem == "12_dashboard"


@pytest.mark.parametrize("name", ["00_start_here", "03_mpn_step_by_step"])
def test_the_result_comes_first(name):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    first = next(c for c in cells if c.cell_type == "code" and c.outputs)
    assert any({"image/png", "image/jpeg"} & set(o.get("data", {})) for o in first.outputs)
    assert cells.index(first) <= 4, "before any theory"


def test_opening_and_closing(lesson):
    """TEACHING: what you learn, prerequisites, paper section, minutes; settings; questionnaire, turns, summary."""
    nb = jupytext.read(lesson, fmt="py:percent")
    opening = nb.cells[0].source
    assert re.match(rf"# {lesson.stem[:2]} ", opening), "the first line is '# NN Title'"
    for word in ("What you will learn", "Prerequisites", "Paper", "Minutes", "Sec.", "CPU", "GPU"):
        assert word in opening, f"the opening cell lacks {word!r}"
    settings = next(c.source for c in nb.cells if c.cell_type == "code")
    for word in ("DATASET", "PRESET", "SEED"):
        assert re.search(rf"^{word} = ", settings, flags=re.M), f"the settings cell lacks {word}"
    text = "\n".join(c.source for c in nb.cells)
    for word in ("Questionnaire", "Your turn", "Summary", "Predict"):
        assert word.lower() in text.lower(), f"there is no {word!r}"
    assert text.count("<details>") >= 3, "a questionnaire has answers"


def test_every_notebook_opens_with_the_same_form(lesson):
    opening = jupytext.read(lesson, fmt="py:percent").cells[0].source
    first, *paragraphs = opening.split("\n\n")
    assert first.count("\n") == 0
    names = [re.match(r"\*\*(.+?)\.\*\* ", p) for p in paragraphs]
    assert [n and n[1] for n in names] == ["What you will learn", "Prerequisites", "Paper", "Minutes"]
    _, before, paper, minutes = (" ".join(p.split()) for p in paragraphs)
    links = re.findall(r"\[(\d\d) [^\]]+\]\((\d\d)_\w+\.ipynb\)", before)
    assert (links or lesson.stem[:2] == "00") and all(a == b for a, b in links), "prerequisites are links"
    assert "Notebook" not in before
    assert re.search(r"\b(MPN|CGPN)\b.*, Sec\. \d", paper), "the section of which paper"
    assert re.match(r"\*\*Minutes\.\*\* \d+ on a 2-core CPU( \([^)]+\))?, \d+ on a GPU\.", minutes), minutes


def test_every_settings_cell_has_the_same_words(lesson):
    """The same names, values and comments in the same order; then what only this notebook has."""
    settings, *rest = code_of(lesson)
    if lesson.stem == "00_start_here":
        settings = settings.replace('"tiny"', '"small"')  # so that this first page needs no minutes
    if '"medium"' in settings:  # a notebook of pictures opens the heroes
        settings = settings.replace('"medium"', '"small"').replace(HERO, SETTINGS[2])
    lines = settings.splitlines()
    assert lines[:2] == ["from pathlib import Path", ""]
    assert lines[2] == "# Settings: the same names in every notebook. Change one, then run all cells again."
    shared = [line for line in lines[3:] if line in SETTINGS]
    assert shared == [line for line in SETTINGS if line in shared], "in this order"
    assert shared[:4] == SETTINGS[:4] and shared == lines[3 : 3 + len(shared)], "own settings come last"
    known = {line.split(" = ")[0] for line in SETTINGS}
    assert not [line for line in lines[3 + len(shared) :] if line.split(" = ")[0] in known], "other words for a setting"
    used = "\n".join(rest)
    for name in (line.split(" = ")[0] for line in shared[4:]):
        assert re.search(rf"\b{name}\b", used), f"{name} is set and not used"
    assert not re.findall(rf"^(?:{'|'.join(known - {'DATASET'})}) = ", used, flags=re.M), "a setting stands in its cell"


def test_a_helper_stands_once():
    """What two notebooks define under one name is either a helper, which has a module, or needs a second name."""
    where = {}
    for lesson in LESSONS:
        for name in set(re.findall(r"^(?:def|class) (\w+)", "\n".join(code_of(lesson)), flags=re.M)):
            where.setdefault(name, []).append(lesson.stem)
    twice = {name: notebooks for name, notebooks in where.items() if len(notebooks) > 1}
    assert not twice
    modules = [NOTEBOOKS / "lesson.py", NOTEBOOKS / "exercises.py", *(NOTEBOOKS / "figures").glob("*.py")]
    helpers = re.findall(r"^def (\w+)", "\n".join(m.read_text() for m in modules), flags=re.M)
    assert len(helpers) == len(set(helpers)) and not set(helpers) & set(where)


def exercises_of(lesson):
    """The names of a notebook's exercises, by the list under "Your turn"."""
    text = "\n".join(c.source for c in jupytext.read(lesson, fmt="py:percent").cells)
    turn = text[text.index("## Your turn") : text.index("## Questionnaire")]
    return [f"{lesson.stem[:2]}.{n}" for n in re.findall(r"^(\d)\. ", turn, flags=re.M)]


def test_exercises_hold_no_answer(lesson):
    """Their cell asks and calls the checker; what is expected stands elsewhere, and the output says "not attempted"."""
    names = exercises_of(lesson)
    assert len(names) >= 2
    cell = next(c for c in code_of(lesson) if "check_exercise(" in c)
    assert re.findall(r'check_exercise\("([\d.]+)"', cell) == names
    assert len(re.findall(r"^\w+ = None\b", cell, flags=re.M)) == len(names)
    assert not re.search(r"hint|expected|\bdef\b|lambda", cell)
    assert f"solutions/{lesson.stem[:2]}_solutions.ipynb" in "\n".join(
        c.source for c in jupytext.read(lesson, fmt="py:percent").cells)  # fmt: skip
    assert re.findall(r"^(\d): not attempted yet$", printed(lesson), flags=re.M) == [n[-1] for n in names]


def test_solutions_are_right(lesson):
    """Each exercise has a worked solution that the same checker accepted, and the checker refuses something else."""
    names = exercises_of(lesson)
    solution = NOTEBOOKS / "solutions" / f"{lesson.stem[:2]}_solutions.py"
    assert re.findall(r'check_exercise\("([\d.]+)"', solution.read_text()) == names
    assert f"(../{lesson.stem}.ipynb)" in solution.read_text()
    assert re.findall(r"^(\d):.*right$", printed(solution), flags=re.M) == [n[-1] for n in names]
    for name in names:
        assert answers.EXERCISES[name].hint


def test_the_lecturers_page_counts_the_exercises():
    counts = {len(exercises_of(lesson)) for lesson in LESSONS}
    assert counts == {2, 3} and "ends with two or three exercises" in (REPO / "docs" / "teaching.md").read_text()


def test_every_expectation_is_an_exercise():
    assert sorted(answers.EXERCISES) == [name for lesson in LESSONS for name in exercises_of(lesson)]


def test_exercises_refuse_wrong_answers():
    """Without anything from a notebook: a wrong number, a wrong word, a function that is wrong or fails."""
    wrong = {"05.3": "psa", "09.3": "Branch1", "06.2": [9, 10], "06.3": [0, 2, 5, 2, 18]}
    for name, exercise in answers.EXERCISES.items():
        if exercise.expected.__code__.co_argcount:
            continue
        assert exercises.check_exercise(name, None) == "not attempted yet"
        expected = exercise.expected()
        answer = (lambda *_: 1 / 0) if callable(expected) and name != "06.3" else wrong.get(name, -1.0)
        assert exercises.check_exercise(name, answer).startswith("not yet"), name
        if not callable(expected):
            assert exercises.check_exercise(name, expected) == "right", name
    with pytest.raises(KeyError):
        exercises.check_exercise("99.1", 0)


def by_torch(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


def rank_k_by_torch(first_hits, k):
    return (first_hits <= k).float().mean()


RIGHT = [
    ("00.2", 0.2727),
    ("03.3", lambda h, g: 1 - np.dot(a := np.mean(h, axis=0), b := np.mean(g, axis=0)) / np.sqrt(a @ a * (b @ b))),
    ("04.2", rank_k_by_torch),
    ("07.3", lambda m: torch.stack([half.double().amax((2, 3)) for half in m.chunk(2, dim=2)], dim=1)),
    ("07.3", lambda m: np.stack([half.max(axis=(2, 3)) for half in (m[:, :, :5], m[:, :, 5:])], axis=1)),
    ("09.3", "Branch 1 & Branch 3"),
    ("09.3", "Table 4: branch 1 and branch 3"),
    ("10.2", by_torch),
    ("10.2", lambda a, b: torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)),
    ("10.3", lambda F, g: (F.double() * g.double()).sum(1).relu()),
]
WRONG = [
    ("00.2", (1 / 1 + 2 / 97 + 3 / 98 + 4 / 99) / 4),  # ranks counted from 0
    ("04.2", lambda first_hits, k: (first_hits < k).float().mean()),
    ("07.3", lambda m: torch.stack([half.double().mean((2, 3)) for half in m.chunk(2, dim=2)], dim=1)),
    ("09.3", "Branch 1 & Branch 2"),
    ("10.2", lambda a, b: (a * b).sum() / a.norm()),
    ("11.2", lambda q, c, g, d: g <= 0 or (q == g and c == d)),  # distractors stay
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers_of_another_kind_are_right(name, answer):
    """Written for tensors or for arrays, in another number type, in another spelling."""
    assert exercises.check_exercise(name, answer) == "right"


@pytest.mark.parametrize(("name", "answer"), WRONG)
def test_near_misses_are_refused_with_their_hint(name, answer):
    assert exercises.check_exercise(name, answer).startswith("not yet. Hint: ")


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


def test_an_answer_is_closed_and_a_panel_is_open(tmp_path):
    bar = "from tqdm.auto import tqdm\nlist(tqdm(range(3)))"
    panel = """from ipywidgets import IntSlider
from IPython.display import display
display({"text/plain": "P", "application/vnd.jupyter.widget-view+json": {"model_id": IntSlider().model_id}}, raw=True)
display({"text/plain": "P", "image/png": "iVBORw0KGgo="}, raw=True)"""
    first, second = (new_markdown_cell("**Predict.** What comes?") for _ in range(2))
    nb = notebook(
        new_code_cell("1"), first, new_code_cell("x = 2"), new_code_cell("x"), new_code_cell(bar),
        new_markdown_cell("Now you know."), new_code_cell("3"), second, new_code_cell(panel))  # fmt: skip
    runner.execute(nb, tmp_path, LIMIT)
    runner.close_answers(nb)
    runner.make_small(nb)
    closed = [c.metadata.get("jupyter", {}).get("outputs_hidden", False) for c in nb.cells if c.cell_type == "code"]
    assert closed == [False, False, True, True, False, False]
    runner.to_html(notebook(new_markdown_cell("# t"), *nb.cells[:-1]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<details class="answer">') == 2
    answer = page.split('<details class="answer">')[1].split("</details>")[0]
    assert "<pre>2</pre>" in answer and "<summary>" in answer


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


def test_a_number_means_the_lesson_and_solutions_have_a_name():
    assert runner.find("03").stem == "03_mpn_step_by_step"
    assert runner.find("03_solutions") == NOTEBOOKS / "solutions" / "03_solutions.py"
    assert runner.find("notebooks/solutions/03_solutions.py") == runner.find("03_solutions")
    assert runner.sources() == LESSONS + SOLUTIONS


def test_a_solution_runs_in_its_folder_and_is_written_there(tmp_path):
    done = runner.run(runner.find("00_solutions"), out=tmp_path, html_dir=None, timeout=120)
    nb = nbformat.read(tmp_path / "solutions" / "00_solutions.ipynb", as_version=4)
    assert done.name == "00_solutions" and "right" in nb.cells[-1].outputs[0].text


def test_unknown_notebook_lists_the_known(capsys):
    with pytest.raises(SystemExit):
        runner.main(["99"])
    assert "00_start_here" in capsys.readouterr().err


def test_html_needs_no_network(tmp_path):
    text = "# 01 Title\nA mean $\\frac{1}{N}\\sum_i x_i$ and `$HOME$`, [next](02_coarse_priors.ipynb)\n\n$$L = a + b$$"
    text += "\n\nworked: [solutions/01_solutions](solutions/01_solutions.ipynb)"
    nb = notebook(new_markdown_cell(text), new_code_cell("1 + 1"))
    runner.to_html(nb, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml;base64,") >= 2 and "$HOME$" in page
    assert 'href="02_coarse_priors.html"' in page
    assert "worked: solutions/01_solutions" in page and ".ipynb" not in page
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
