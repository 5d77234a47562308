"""`make mutants`: change one operator or number of the code at a time, and see whether its own tests notice.

    python tests/helpers/mutation.py [--room losses ...] [--survivors]

Tries the mutants that were not tried yet: of lines that are new or read differently; all where
results/benchmarks/mutants.json is not there. --survivors: those that survived, again, after tests were added. Each
result is written as it comes, so an interruption loses one mutant, and with the last of a room the counts in
docs/mutants.md, where every survivor is explained. What is changed: comparisons, arithmetic, `and`/`or`, `not`, signs,
numbers, True and False, conditions, and calls without arguments (`x.detach()` becomes `x`). What is not: annotations,
docstrings, texts, and what a `raise` says.

Each mutant is a fork of a process that has the large libraries loaded, in which the module is imported changed and
its tests run until the first one fails. A mutant that needs many times the processor time of the tests is killed, too.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import hashlib
import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

from paths import REPO

STORED, PAGE = REPO / "results" / "benchmarks" / "mutants.json", REPO / "docs" / "mutants.md"
BEGIN, END = "<!-- counts: written by make mutants -->", "<!-- end of counts -->"
MODULE = "(module)"  # in the place of a function's name
PATIENCE, AT_LEAST = 5, 5  # times the processor time of the tests themselves; and seconds

ROOMS = {  # name: the module, and the tests that are its own, quickest first
    "losses": ("reidkit/losses.py", ("tests/test_losses.py",)),
    "ranking": (
        "reidkit/evaluation/ranking.py",
        ("tests/evaluation/test_ranking.py", "tests/evaluation/test_ranked_list.py"),
    ),
    "counting": ("reidkit/evaluation/counting.py", ("tests/evaluation/test_counting.py",)),
    "coarse priors": ("reidkit/priors/coarse.py", ("tests/priors/test_coarse.py",)),
    "sampler": ("reidkit/data/sampler.py", ("tests/data/test_sampler.py",)),
}

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


@dataclass(frozen=True)
class Mutant:
    """One change: in which function, on which line of the file, how that line reads, and what became what.

    nth: which of several changes that read the same, 0 for the first.
    """

    function: str
    line: int
    source: str
    before: str
    after: str
    nth: int = 0

    @property
    def key(self) -> str:
        """Eight digits that stay the same when the line moves."""
        told = (self.function, self.source, self.before, self.after, self.nth)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:8]


def mutants(source: str) -> Iterator[tuple[Mutant, ast.Module]]:
    """Every mutant of a module's source, with its syntax tree, in the order of the source."""
    tree, lines = ast.parse(source), source.splitlines()
    alike = Counter()
    for path, function in _places(tree):
        node = _at(tree, path)
        for changed in _changes(node):
            other = copy.deepcopy(tree)
            parent, (field, index) = _at(other, path[:-1]), path[-1]
            if index is None:
                setattr(parent, field, changed)
            else:
                getattr(parent, field)[index] = changed
            ast.copy_location(changed, node)
            whole = isinstance(node, ast.Constant)  # a number is shown with what it stands in
            texts = (_text(_at(tree, path[:-1])), _text(parent)) if whole else (_text(node), _text(changed))
            mutant = Mutant(function, node.lineno, lines[node.lineno - 1].strip(), *texts)
            first = mutant.key
            yield replace(mutant, nth=alike[first]), ast.fix_missing_locations(other)
            alike[first] += 1


def _text(node: ast.AST) -> str:
    """A node as source; of a statement its first line."""
    return ast.unparse(node).splitlines()[0]


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    for field in ("op", "ops"):
        operators = getattr(node, field, None)
        operator = operators[0] if isinstance(operators, list) and len(operators) == 1 else operators
        if type(operator) in SWAPPED:
            changed, other = copy.deepcopy(node), SWAPPED[type(operator)]()
            setattr(changed, field, [other] if isinstance(operators, list) else other)
            yield changed
    if isinstance(node, ast.UnaryOp):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        changed = copy.deepcopy(node)
        changed.test = ast.UnaryOp(ast.Not(), changed.test)
        yield changed
    elif isinstance(node, ast.Compare) and len(node.ops) == 2:  # a <= x < b
        for i, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[i] = SWAPPED[type(operator)]()
            yield changed
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
        yield copy.deepcopy(node.func.value)


Place = tuple[tuple[str, int | None], ...]


def _places(node: ast.AST, path: Place = (), function: str = MODULE) -> Iterator[tuple[Place, str]]:
    """Where a change may be made: the path to each node, and the function that it lies in."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.Subscript) and isinstance(child.value, ast.Name) and child.value.id == "Literal":
                continue
            inside = function
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = child.name if function == MODULE else f"{function}.{child.name}"
            here = (*path, (field, index))
            if isinstance(child, ast.expr | ast.stmt):
                yield here, inside
            yield from _places(child, here, inside)


def _at(tree: ast.AST, path: Place) -> ast.AST:
    for field, index in path:
        value = getattr(tree, field)
        tree = value if index is None else value[index]
    return tree


class _Changed(SourceFileLoader, MetaPathFinder):
    """Imports one module from another syntax tree than its file's."""

    def __init__(self, module: str, file: Path, tree: ast.Module) -> None:
        super().__init__(module, str(file))
        self.tree = tree

    def find_spec(self, fullname, path=None, target=None):
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname):
        return compile(self.tree, self.path, "exec")


def tests_of(file: Path, module: str, tests: list[Path], tree: ast.Module, seconds: float) -> tuple[bool, float]:
    """Run tests in a fork in which the module is another one. Returns (all passed, processor seconds).

    seconds: of processor time, after which the fork is ended.
    """
    import pytest

    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
        sys.meta_path.insert(0, _Changed(module, file, tree))
        options = ["-x", "-q", "--assert=plain", "-m", "not slow and not gpu"]  # nobody reads what an assertion says
        options += [word for plugin in ("cacheprovider", "xdist", "anyio") for word in ("-p", f"no:{plugin}")]
        code = 9
        try:
            code = pytest.main([*options, "--hypothesis-seed=0", *map(str, tests)])
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    return status == 0, used.ru_utime + used.ru_stime


def mutate(file: Path, module: str, tests: list[Path], keys: Collection[str]) -> Iterator[tuple[Mutant, bool]]:
    """Try the mutants of a module that have these keys; yields each with whether a test notices it."""
    source = file.read_text()
    passed, seconds = tests_of(file, module, tests, ast.parse(source), 3600)
    if not passed:
        raise SystemExit(f"{file}: its tests fail without a change")
    for mutant, tree in mutants(source):
        if mutant.key in keys:
            yield mutant, not tests_of(file, module, tests, tree, PATIENCE * seconds + AT_LEAST)[0]


@dataclass
class Row:
    """What is known of a room's mutants: how many there are, keys of those that were killed, those that survived."""

    mutants: int
    killed: set[str]
    survivors: dict[str, Mutant]

    @classmethod
    def of(cls, everything: list[Mutant], stored: dict) -> Row:
        """What of a stored row holds for the mutants that there are now. stored: {} before the first."""
        lived = {Mutant(**mutant).key for mutant in stored.get("survivors", [])}
        killed = {mutant.key for mutant in everything} & set(stored.get("killed", []))
        return cls(len(everything), killed, {m.key: m for m in everything if m.key in lived})

    def add(self, mutant: Mutant, noticed: bool) -> None:
        """One more result, or a later one of the same mutant."""
        self.survivors.pop(mutant.key, None)
        self.killed.discard(mutant.key)
        if noticed:
            self.killed.add(mutant.key)
        else:
            self.survivors[mutant.key] = mutant

    def as_json(self) -> dict:
        lived = sorted(self.survivors.values(), key=lambda mutant: mutant.line)
        return {"mutants": self.mutants, "killed": sorted(self.killed), "survivors": [asdict(m) for m in lived]}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--room", choices=[*ROOMS], action="append")
    options.add_argument("--survivors", action="store_true", help="those that survived, again")
    asked = options.parse_args()
    load_libraries()
    from reidkit.files import write_text

    for name in asked.room or ROOMS:
        file, tests = ROOMS[name]
        everything = [mutant for mutant, _ in mutants((REPO / file).read_text())]
        row = Row.of(everything, next((r for r in stored_rows() if r["room"] == name), {}))
        untried = {mutant.key for mutant in everything} - row.killed - row.survivors.keys()
        keys = set(row.survivors) if asked.survivors else untried
        print(f"{name}: {len(keys)} of {len(everything)} mutants of {file}", flush=True)
        store(name, row)
        module = file.removesuffix(".py").replace("/", ".")
        for mutant, noticed in mutate(REPO / file, module, [REPO / t for t in tests], keys) if keys else ():
            row.add(mutant, noticed)
            store(name, row)
            if not noticed:
                print(f"    line {mutant.line}, {mutant.function}: {mutant.before}  ->  {mutant.after}", flush=True)
        before, _, rest = PAGE.read_text().partition(BEGIN)
        write_text(PAGE, f"{before}{BEGIN}\n{table(stored_rows())}{END}{rest.partition(END)[2]}")


def store(name: str, row: Row) -> None:
    """Write a room's row into mutants.json, beside those of the others, which other processes may write meanwhile."""
    from reidkit.files import write_json
    from reidkit.locks import locked
    from reidkit.provenance import provenance

    file, tests = ROOMS[name]
    with locked(STORED.with_name(f".{STORED.name}.lock"), "another process writes its result; waiting for it"):
        rows = [r for r in stored_rows() if r["room"] != name]
        rows.append({"room": name, "file": file, "tests": tests, **row.as_json()})
        rows.sort(key=lambda r: [*ROOMS].index(r["room"]))
        write_json(STORED, {"provenance": provenance("cpu"), "rows": rows})


def stored_rows() -> list[dict]:
    """The rows of mutants.json, [] before the first."""
    return json.loads(STORED.read_text())["rows"] if STORED.is_file() else []


def table(rows: list[dict]) -> str:
    """The counts as Markdown."""
    lines = ["| module | mutants | tried | killed | survived |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        killed, lived = len(row["killed"]), len(row["survivors"])
        counts = (row["mutants"], killed + lived, killed, lived)
        lines.append(f"| `{row['file']}` | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def load_libraries() -> None:
    """What every fork shares; nothing of the kit itself."""
    import accelerate  # noqa: F401
    import hypothesis
    import pandas  # noqa: F401
    import pytest
    import safetensors.torch  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    torch.set_num_threads(1)
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # nobody reads the smallest example
    hypothesis.settings.register_profile("mutants", phases=phases, database=None)
    hypothesis.settings.load_profile("mutants")
    pytest.main(["--version"])  # loads its plugins
    gc.freeze()  # pytest collects garbage in every fork: none of it is here


if __name__ == "__main__":
    main()
