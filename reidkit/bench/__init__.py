"""`reidkit bench`: one table of what can be measured. Each room measures itself; here the provenance is added."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from reidkit.errors import unknown_name

BENCHES = {
    "train": "reidkit.bench.train:run",
    "evaluate": "reidkit.bench.evaluate:bench_evaluate",
    "rerank": "reidkit.bench.evaluate:bench_rerank",
    "attention": "reidkit.bench.attention:run",
    "cache": "reidkit.bench.cache:run",
    "priors": "reidkit.bench.priors:run",
    "sidewalk": "reidkit.bench.sidewalk:run",
    "cgpn": "reidkit.bench.cgpn:run",
}


def run_bench(what: str) -> dict[str, Any]:
    """Run one benchmark with its defaults; the result says where it comes from."""
    from reidkit.provenance import provenance
    from reidkit.training.device import choose_device

    if what not in BENCHES:
        raise unknown_name("benchmark", what, BENCHES)
    module, _, function = BENCHES[what].partition(":")
    result = getattr(import_module(module), function)()
    return {"bench": what, "provenance": provenance(choose_device()), **result}
