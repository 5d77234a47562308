"""`reidkit bench`: one table of what can be measured, and the one place where a measurement gets its provenance.

reidkit bench cgpn --set table_only=true --set names=cgpn,mgn     # options: the arguments of the function
reidkit bench attention --set names=mpn,cgpn --save FILE.json

Every function returns what it measured, by the one clock of `clock`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_type_hints

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
    "panels": "reidkit.bench.panels:run",
    "search": "reidkit.bench.search:run",
}


def run_bench(what: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run one benchmark; the result says where it comes from.

    settings: arguments of its function, typed or as text. Raises UnknownNameError for an unknown benchmark or argument.
    """
    from reidkit.provenance import provenance
    from reidkit.training.device import choose_device
    from reidkit.training.settings import read_value

    if what not in BENCHES:
        raise unknown_name("benchmark", what, BENCHES)
    module, _, name = BENCHES[what].partition(":")
    function = getattr(import_module(module), name)
    parameters = inspect.signature(function).parameters
    kinds = {k: t for k, t in get_type_hints(function).items() if k in parameters}
    arguments = {}
    for key, value in (settings or {}).items():
        if key not in kinds:
            raise unknown_name(f"option of reidkit bench {what}", key, kinds)
        arguments[key] = read_value(key, value, kinds[key])
    device = "cpu"
    if "device" in kinds:
        device = choose_device(arguments.get("device") or parameters["device"].default or "auto")
    where = provenance(device)
    return {"bench": what, "provenance": where, **function(**arguments)}
