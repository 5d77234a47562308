"""How fast Sidewalk renders, as JSON: `python benchmarks/bench_sidewalk.py [images]`; also `reidkit bench sidewalk`."""

import json
import sys

from reidkit.data.sidewalk.bench import run

if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:2])), indent=2))
