"""K attention maps beside K plain passes of the grad-cam package: `python benchmarks/bench_attention.py mpn cgpn`."""

import json
import sys

from reidkit.attention_bench import run

if __name__ == "__main__":
    for name in sys.argv[1:] or ["mpn"]:
        print(json.dumps(run(name), indent=2))
