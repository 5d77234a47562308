"""What only a GPU can show, in six minutes: the tests marked `gpu`, and the benchmarks of training and ranking.

    python data_scripts/gpu_check.py                                    # JSON into results/benchmarks/
    python data_scripts/gpu_check.py --rehearse --out build/gpu-check   # the same steps on a CPU, at their smallest

Steps go on until the time is over; what a step has written stays. The card is part of the files' names. The exit
status is that of the worst step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

KIT = Path(__file__).resolve().parents[1]
SMALL = {  # of each benchmark, for a rehearsal
    "train": {"preset": "smoke", "batches": "8", "steps": "1", "turns": "1", "loop_batches": "2", "device": "cpu"},
    "evaluate": {"num_query": "60", "num_gallery": "500", "dim": "64", "repeats": "1", "device": "cpu"},
}
STEPS = {  # file's name without card -> (benchmark, its settings), the most important first
    "train": ("train", {"names": "pcb,pyramid,baseline,mpn-no-ca,mpn", "modes": "eager", "loops": "mpn-no-ca,mpn"}),
    "evaluate": ("evaluate", {"num_query": "11659", "num_gallery": "82161", "device": "cuda"}),  # MSMT17's size
    "train-compiled": ("train", {"names": "mpn-no-ca", "modes": "compiled", "batches": "48", "loops": "mpn-no-ca"}),
}


def commands(out: Path, card: str, rehearse: bool) -> dict[str, list[str]]:
    """The steps' command lines by name."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(KIT / "tests")]
    lines = {"pytest -m gpu": pytest}
    for name, (bench, settings) in STEPS.items():
        settings = {"progress": "false"} | settings if bench == "train" else settings
        words = [f"{k}={v}" for k, v in (settings | (SMALL[bench] if rehearse else {})).items()]
        first, _, rest = name.partition("-")
        file = out / f"{'-'.join(filter(None, (first, card, rest)))}.json"
        sets = [part for word in words for part in ("--set", word)]
        lines[name] = [sys.executable, "-m", "reidkit.cli", "bench", bench, *sets, "--save", str(file)]
    return lines


def main() -> int:
    """Run the steps one after another within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=KIT / "results" / "benchmarks", help="folder of the JSON files")
    parser.add_argument("--limit", type=float, default=360, help="seconds for all steps together")
    parser.add_argument("--rehearse", action="store_true", help="smallest sizes, on a CPU")
    options = parser.parse_args()
    if not (options.rehearse or torch.cuda.is_available()):
        print("torch sees no CUDA GPU here; --rehearse runs the steps on a CPU", file=sys.stderr)
        return 2
    card = "cpu" if options.rehearse else torch.cuda.get_device_name().lower().replace(" ", "-")
    start, worst = time.monotonic(), 0
    for name, command in commands(options.out, card, options.rehearse).items():
        left = options.limit - (time.monotonic() - start)
        print(f"== {name} ({max(left, 0):.0f} s left)", flush=True)
        try:
            code = subprocess.run(command, cwd=KIT, timeout=max(left, 0.1)).returncode
        except subprocess.TimeoutExpired:
            print(f"== {name}: stopped, the {options.limit:.0f} s are over", flush=True)
            code = 124
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
