"""Plain loader beside the image cache, as JSON: `python benchmarks/bench_cache.py`."""

import json

from reidkit.data.bench import run

if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
