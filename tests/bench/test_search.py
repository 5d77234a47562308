"""The benchmark of searches, at a size that takes a moment: what it adds up, and what it refuses."""

import pytest
from needs import need

from reidkit.bench import run_bench
from reidkit.bench.search import _extended
from reidkit.errors import ReIDKitError, UnknownNameError


def test_bytes_grow_with_the_rows_and_recall_is_a_share(tmp_path):
    need("faiss")
    settings = {"sizes": "300,600", "dim": "32", "nearest_size": "400", "top": "5", "folder": str(tmp_path)}
    found = run_bench("search", settings)
    assert found["provenance"]["command"] and [row["rows"] for row in found["growth"]] == [300, 600]
    a, b = (row["disk_bytes"] for row in found["growth"])
    assert 300 * 2 * 32 < b - a < 300 * (2 * 32 + 80), "half precision, and a name, a state and a bound a row"
    assert found["million"]["rows"] == 1_000_000 and found["million"]["disk_bytes"] > 64_000_000
    assert {row["kind"] for row in found["nearest"]} == {"ivf", "hnsw"}
    assert all(0 < row["recall@5"] <= 1 and row["sample"] == 50 for row in found["nearest"])
    assert list(tmp_path.iterdir()) == [], "what was written for the time being is gone"


def test_a_million_lies_on_the_line_through_the_last_two():
    row = lambda rows, size: {"rows": rows, "disk_bytes": size, "extra_mb": None, "cpu_s_query": 0.5}  # noqa: E731
    found = _extended([row(1, 999), row(100_000, 700), row(200_000, 1300)])
    assert found["disk_bytes"] == 6100 and found["cpu_s_query"] == 0.5 and "extra_mb" not in found
    assert found["extrapolated_from"] == [100_000, 200_000] and _extended([row(1, 1)]) == {}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ReIDKitError, match=r"the benchmark writes .* GB .* free"):
        run_bench("search", {"sizes": "100000000000", "kinds": "ivf"})
    with pytest.raises(UnknownNameError, match="unknown index 'flat'"):
        run_bench("search", {"kinds": "flat"})
