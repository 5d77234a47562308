"""`make fuzz`: damage every kind of file many times, and write the counts and the table in docs/reliability.md.

    python tests/helpers/fuzz.py [--mutants 300] [--seed 0]

Ends with code 1 where a reader failed in a way of its own; the example names the mutant.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from paths import REPO

STORED, PAGE = REPO / "results" / "benchmarks" / "fuzz.json", REPO / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: written by make fuzz -->", "<!-- end of counts -->"


def main() -> int:
    from fuzzing import fuzz
    from kept_files import kept_files

    from reidkit.data import load_dataset
    from reidkit.files import write_json, write_text
    from reidkit.provenance import provenance

    options = argparse.ArgumentParser()
    options.add_argument("--mutants", type=int, default=300)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    torch.set_num_threads(1)
    rows, data = [], REPO / "build" / "test-data"
    data.mkdir(parents=True, exist_ok=True)
    tiny = load_dataset("sidewalk", root=data, size="tiny")
    with tempfile.TemporaryDirectory(dir=data.parent) as home:
        for kind in kept_files(Path(home), tiny):
            mutants = max(3, asked.mutants // kind.cost)
            outcome = fuzz(kind, mutants, asked.seed)
            row = {"kind": kind.name, "mutants": mutants, "counts": dict(outcome.counts), "faults": outcome.faults}
            rows.append(row)
            print(f"{kind.name}: {row['counts']}", flush=True)
            for fault, example in outcome.faults.items():
                print(f"    {fault}: {example}", flush=True)
    write_json(STORED, {"provenance": provenance("cpu", seed=asked.seed), "rows": rows})
    before, _, rest = PAGE.read_text().partition(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{table(rows)}{END}{rest.partition(END)[2]}")
    return int(any(row["faults"] for row in rows))


def rows_of(stored: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of fuzz.json."""
    return stored["rows"]


def table(rows: list[dict[str, Any]]) -> str:
    """The counts as Markdown."""
    lines = ["| file | damaged | refused, in one line | read | other |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        refused, read = (row["counts"].get(key, 0) for key in ("refused", "read"))
        lines.append(f"| {row['kind']} | {row['mutants']} | {refused} | {read} | {row['mutants'] - refused - read} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
