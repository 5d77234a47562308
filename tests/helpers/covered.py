"""`make coverage`: the branches that the core rooms' own quick tests take, a line a room; fails below 90 % of one.

python tests/helpers/covered.py build/coverage.json
"""

import json
import sys
from fnmatch import fnmatch
from pathlib import Path

LEAST = 0.9
ROOMS = {
    "losses": ("reidkit/losses.py", "reidkit/loss_config.py"),
    "models": ("reidkit/models/*.py",),
    "priors": ("reidkit/priors/*.py",),
    "evaluation": ("reidkit/evaluation/*.py",),
    "sampler": ("reidkit/data/sampler.py",),
    "loop": tuple(f"reidkit/training/{name}.py" for name in ("loop", "steps", "gradients", "watch", "memory")),
}


def covered(report: dict) -> list[tuple[str, int, int, dict[str, list]]]:
    """(room, branches taken, branches, {file: the missing ones as [line, line it goes to]}) from coverage's JSON."""
    rows = []
    for room, patterns in ROOMS.items():
        files = {name: f for name, f in report["files"].items() if any(fnmatch(name, p) for p in patterns)}
        if not files:
            raise SystemExit(f"{room}: no file of it was measured; run the tests from the repository's root")
        taken, total = (sum(f["summary"][key] for f in files.values()) for key in ("covered_branches", "num_branches"))
        rows.append((room, taken, total, {n: m for n, f in files.items() if (m := f["missing_branches"])}))
    return rows


def main() -> int:
    rows = covered(json.loads(Path(sys.argv[1]).read_text()))
    for room, taken, total, missing in rows:
        print(f"{room:12s} {taken:4d} of {total:4d} branches ({taken / total:.1%})")
        for name, lines in missing.items():
            print(f"    {name}: {', '.join(f'{a}->{b}' if b > 0 else f'{a}->end' for a, b in lines)}")
    low = [room for room, taken, total, _ in rows if taken < LEAST * total]
    if low:
        print(f"below {LEAST:.0%}: {', '.join(low)}")
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main())
