"""Re-ranking at Market-1501's size beside the bare matrix products: `python benchmarks/bench_rerank.py`."""

import json

from reidkit.evaluation.bench import bench_rerank


def run() -> dict:
    """CPU seconds, ratio and extra memory with one thread (about three minutes)."""
    return bench_rerank()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
