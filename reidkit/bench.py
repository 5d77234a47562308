"""`reidkit bench`: one table of what can be measured. Each room measures itself; here the provenance is added."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from reidkit.errors import unknown_name

BENCHES = {
    "train": "reidkit.training.bench:run",
    "evaluate": "reidkit.evaluation.bench:bench_evaluate",
    "rerank": "reidkit.evaluation.bench:bench_rerank",
    "attention": "reidkit.attention_bench:run",
    "cache": "reidkit.data.bench:run",
    "priors": "reidkit.priors.bench:run",
    "sidewalk": "reidkit.data.sidewalk.bench:run",
    "cgpn": "reidkit.training.bench_cgpn:run",
}


def run_bench(what: str) -> dict[str, Any]:
    """Run one benchmark with its defaults; the result says where it comes from."""
    from reidkit.training.device import choose_device
    from reidkit.training.runs import provenance

    if what not in BENCHES:
        raise unknown_name("benchmark", what, BENCHES)
    module, _, function = BENCHES[what].partition(":")
    result = getattr(import_module(module), function)()
    return {"bench": what, "provenance": provenance(choose_device()), **result}
