"""CGPN's parameters, FLOPs and time with other settings than `reidkit bench cgpn`, as JSON on standard output.

    python benchmarks/bench_cgpn.py --table               parameters and FLOPs only (no computation, seconds)
    python benchmarks/bench_cgpn.py --switches plain channels-last bf16 compile --batch 64     on a GPU
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from reidkit.training.bench_cgpn import NAMES, SWITCHES, run
from reidkit.training.device import choose_device
from reidkit.training.runs import provenance


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", nargs=2, type=int, default=(384, 128), metavar=("H", "W"))
    parser.add_argument("--table", action="store_true", help="parameters and FLOPs only")
    parser.add_argument("--switches", nargs="+", choices=SWITCHES, help="default: all on a GPU, the first two on a CPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="default: 64 on a GPU, 4 on a CPU; at least 2")
    parser.add_argument("--steps", type=int, default=5)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    result = run(args.names, backbone=args.backbone, size=tuple(args.size), switches=args.switches, device=args.device,
                 batch=args.batch, steps=args.steps, table_only=args.table)
    report = {"bench": "cgpn", "provenance": provenance(choose_device(args.device)), **result}
    print(json.dumps(report, indent=2))
    return report


if __name__ == "__main__":
    main()
