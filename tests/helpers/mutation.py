"""`make mutants`: change one operator or number of the code at a time, and see whether its own tests notice.

    python tests/helpers/mutation.py [--mutants 40] [--seed 0] [--room losses ...] [--survivors]

Writes results/benchmarks/mutants.json and the counts in docs/mutants.md, where every survivor is explained. What is
changed: comparisons, arithmetic, `and`/`or`, `not`, signs, numbers, True and False, conditions, and calls without
arguments (`x.detach()` becomes `x`). What is not: annotations, docstrings, texts, and what a `raise` says.

Each mutant is a fork of a process that has the large libraries loaded, in which the module is imported changed and
its tests run until the first one fails. A mutant that needs many times the processor time of the tests is killed, too.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
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
    """One change: in which function, on which line of the file, how that line reads, and what became what."""

    function: str
    line: int
    source: str
    before: str
    after: str


def mutants(source: str) -> Iterator[tuple[Mutant, ast.Module]]:
    """Every mutant of a module's source, with its syntax tree, in the order of the source."""
    tree, lines = ast.parse(source), source.splitlines()
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
            yield (
                Mutant(function, node.lineno, lines[node.lineno - 1].strip(), *texts),
                ast.fix_missing_locations(other),
            )


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
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not gpu"]
        code = 9
        try:
            code = pytest.main([*options, "--hypothesis-seed=0", *map(str, tests)])
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    return status == 0, used.ru_utime + used.ru_stime


def mutate(file: Path, module: str, tests: list[Path], choose: Callable[[list[Mutant]], Iterable[Mutant]]) -> dict:
    """Try the mutants of a module that `choose` picks of all."""
    source = file.read_text()
    passed, seconds = tests_of(file, module, tests, ast.parse(source), 3600)
    if not passed:
        raise SystemExit(f"{file}: its tests fail without a change")
    everything = list(mutants(source))
    print(f"    {len(everything)} mutants; its tests take {seconds:.1f} s", flush=True)
    chosen = set(choose([mutant for mutant, _ in everything]))
    survivors = []
    for mutant, tree in everything:
        if mutant in chosen and tests_of(file, module, tests, tree, PATIENCE * seconds + AT_LEAST)[0]:
            survivors.append(mutant)
            print(f"    line {mutant.line}, {mutant.function}: {mutant.before}  ->  {mutant.after}", flush=True)
    return {"mutants": len(everything), "tried": len(chosen), "survivors": survivors}


def sample(count: int, seed: int) -> Callable[[list[Mutant]], list[Mutant]]:
    """Chooses `count` of all; all where there are fewer."""
    return lambda everything: random.Random(seed).sample(everything, min(count, len(everything)))


def among(others: list[Mutant]) -> Callable[[list[Mutant]], list[Mutant]]:
    """Chooses those that are one of the others, wherever its line is by now."""
    return lambda everything: [m for m in everything if m in [replace(other, line=m.line) for other in others]]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--mutants", type=int, default=40, help="of each module")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--room", choices=[*ROOMS], action="append")
    options.add_argument("--survivors", action="store_true", help="only those that survived last time")
    asked = options.parse_args()
    load_libraries()
    from reidkit.files import write_json, write_text
    from reidkit.provenance import provenance

    for name in asked.room or ROOMS:
        file, tests = ROOMS[name]
        print(f"{name}: {file}", flush=True)
        last = next((row for row in stored_rows() if row["room"] == name), None) if asked.survivors else None
        choose = among([Mutant(**m) for m in last["survivors"]]) if last else sample(asked.mutants, asked.seed)
        with tempfile.TemporaryDirectory() as home:
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = home
            module = file.removesuffix(".py").replace("/", ".")
            found = mutate(REPO / file, module, [REPO / t for t in tests], choose)
        found |= {"tried": last["tried"] if last else found["tried"]}  # what was killed before stays counted
        row = {"room": name, "file": file, "tests": tests, "seed": asked.seed, **found}
        row |= {"killed": row["tried"] - len(found["survivors"]), "survivors": [asdict(m) for m in found["survivors"]]}
        others = [r for r in stored_rows() if r["room"] != name]  # read again: another process may mutate another room
        rows = sorted([*others, row], key=lambda r: [*ROOMS].index(r["room"]))
        write_json(STORED, {"provenance": provenance("cpu"), "rows": rows})
        before, _, rest = PAGE.read_text().partition(BEGIN)
        write_text(PAGE, f"{before}{BEGIN}\n{table(rows)}{END}{rest.partition(END)[2]}")


def stored_rows() -> list[dict]:
    """The rows of mutants.json, [] before the first."""
    return json.loads(STORED.read_text())["rows"] if STORED.is_file() else []


def table(rows: list[dict]) -> str:
    """The counts as Markdown."""
    lines = ["| module | mutants | tried | killed | survived |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        counts = (row["mutants"], row["tried"], row["killed"], len(row["survivors"]))
        lines.append(f"| `{row['file']}` | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def load_libraries() -> None:
    """What every fork shares; nothing of the kit itself."""
    import accelerate  # noqa: F401
    import hypothesis  # noqa: F401
    import pandas  # noqa: F401
    import pytest
    import safetensors.torch  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    torch.set_num_threads(1)
    pytest.main(["--version"])  # loads its plugins


if __name__ == "__main__":
    main()
