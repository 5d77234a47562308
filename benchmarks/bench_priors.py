"""Prints how many images a second a core the prior pipeline handles: `python benchmarks/bench_priors.py`."""

from reidkit.priors.bench import run

if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:32s} {value:10.0f}")
