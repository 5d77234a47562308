"""Ranking at Market-1501's size beside the bare matrix product: `python benchmarks/bench_evaluate.py`."""

import json

from reidkit.evaluation.bench import bench_evaluate


def run() -> dict:
    """CPU seconds, ratio and extra memory with one and two threads."""
    return bench_evaluate()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
