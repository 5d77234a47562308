"""`reidkit bench NAME`: every benchmark reports what it promises, by one clock, and says once where it comes from."""

import json
import re
import sys

import pytest
import torch
from typer.testing import CliRunner

from reidkit.bench import BENCHES, clock, evaluate, loop, run_bench, sidewalk, train
from reidkit.bench.clock import Seconds
from reidkit.cli import app
from reidkit.data.sidewalk.plan import SIZES
from reidkit.errors import ReIDKitError

SMALL = {  # each benchmark in its shortest form, as `--set` takes it
    "train": {
        "names": "mpn,ide",
        "preset": "smoke",
        "steps": "1",
        "turns": "1",
        "loops": "mpn",
        "loop_batches": "2",
        "device": "cpu",
        "progress": "false",
    },
    "evaluate": {"num_query": "60", "num_gallery": "500", "dim": "64", "threads": "1", "repeats": "1"},
    "rerank": {"num_query": "60", "num_gallery": "500", "dim": "64", "progress": "false"},
    "attention": {"names": "mpn-no-ca,cgpn", "backbone": "small", "size": "96x32", "repeats": "1"},
    "cache": {"num_ids": "6", "images_per_id": "8", "size": "96x32", "rounds": "1"},
    "priors": {"n": "8", "seconds": "0.01"},
    "sidewalk": {"images": "10"},
    "cgpn": {"names": "cgpn-b1", "table_only": "true"},
}


@pytest.fixture(scope="module")
def report():
    """A function: the report of a benchmark in its shortest form, made once."""
    made = {}
    return lambda what: made.get(what) or made.setdefault(what, run_bench(what, SMALL[what]))


@pytest.mark.parametrize("what", SMALL)
def test_a_report_is_json_and_says_where_it_comes_from(report, what):
    stored = json.loads(json.dumps(report(what)))
    assert stored["bench"] == what and stored["provenance"]["torch"] == torch.__version__
    assert {"command", "commit", "device", "threads"} <= stored["provenance"].keys()
    assert stored["provenance"]["device"].startswith("cpu")
    assert list(stored)[:2] == ["bench", "provenance"] and json.dumps(stored).count('"commit"') == 1


def test_every_benchmark_is_tested():
    assert SMALL.keys() | {"panels", "search"} == BENCHES.keys()  # test_panels.py, test_search.py


def test_several_networks_on_the_command_line(tmp_path):
    """As README and docstrings say it: `reidkit bench attention --set names=mpn,cgpn --save FILE`."""
    small = [word for key in ("backbone", "size", "repeats") for word in ("--set", f"{key}={SMALL['attention'][key]}")]
    command = ["bench", "attention", "--set", "names=mpn,cgpn", *small, "--save", str(tmp_path / "new" / "a.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    saved = json.loads((tmp_path / "new" / "a.json").read_text())
    assert saved == json.loads(done.stdout) and [row["model"] for row in saved["rows"]] == ["mpn", "cgpn"]


def test_only_one_file_reads_the_clock_or_asks_for_provenance(repo):
    for path in sorted((repo / "reidkit" / "bench").glob("*.py")):
        text = path.read_text()
        clocks = re.findall(r"\b(?:perf_counter|process_time|thread_time|monotonic|VmHWM|cuda\.synchronize)\b", text)
        assert path.name == "clock.py" or clocks == [], f"{path.name}: measure with reidkit.bench.clock"
        assert path.name == "__init__.py" or "provenance" not in text, f"{path.name}: run_bench adds it"


def test_a_benchmark_of_the_cpu_says_so_on_a_machine_with_a_gpu(monkeypatch):
    for module in ("reidkit.training.device", train.__name__):  # both are loaded: none keeps the stand-in afterwards
        monkeypatch.setattr(f"{module}.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    assert run_bench("priors", SMALL["priors"])["provenance"]["device"].startswith("cpu")
    assert run_bench("train", SMALL["train"] | {"names": "", "loops": ""})["provenance"]["device"] == "cuda: a GPU"


def test_ranking_beside_the_product(report):
    found = report("evaluate")
    assert {"threads", "cpu_s_matmul", "cpu_s_eval", "ratio"} == set(found["runs"][0])
    assert (found["extra_mb"] is not None) == sys.platform.startswith("linux")
    assert found["shapes"] == {"query": 60, "gallery": 500, "dim": 64}


def test_reranking_beside_all_products(report):
    found = report("rerank")
    assert set(found["runs"][0]) == {"threads", "cpu_s_matmul", "cpu_s_rerank", "ratio"}
    assert found["mAP_after"] > found["mAP_before"] > 0 and found["full_matrix_mb"] == 1


def test_both_ways_to_attention_maps(report):
    rows = report("attention")["rows"]
    assert [(row["model"], row["parts"]) for row in rows] == [("mpn-no-ca", 6), ("cgpn", 12)]
    for row in rows:
        assert row["largest_difference"] < 1e-3
        assert {"ratio", "cpu_s_plain", "cpu_s_ours", "cpu_s_backbone"} <= set(row)


def test_every_way_to_load_images(report):
    found = report("cache")
    assert found["images"] == 48
    for way in ("files", "cache", "files+augment", "cache+augment", "headers"):
        wall, cpu = found[way]
        assert wall > 0 and cpu > 0


def test_priors_at_every_size(report):
    for size in ("128x64", "144x48", "384x128"):
        assert report("priors")[f"maps_to_priors_{size}"] > 0 and report("priors")[f"files_to_priors_{size}"] > 0


def test_every_stage_of_the_renderer_and_no_size_stays_behind():
    before = dict(SIZES)
    rates = sidewalk.measure_size(96, 32, 10)
    assert SIZES == before
    assert all(rates[stage] > 0 for stage in ("render", "with_files", "with_tools"))
    assert 1000 < rates["bytes_an_image"] < 20_000


def test_a_training_step_of_each_variant(report):
    found = report("train")
    assert found["preset"] == "smoke" and list(found["variants"]) == ["mpn", "ide"]
    for row in found["variants"].values():
        assert row["seconds_a_step"] >= 0 and row["images_a_second"] > 0 and row["batch"] == 8


def test_steps_beside_the_bare_backbone_and_a_loop_beside_its_step(report):
    found = report("train")
    assert [(row["network"], row["mode"], row["batch"]) for row in found["rows"]] == [
        (name, "eager", 8) for name in ("bare", "mpn", "ide")
    ]
    bare, mpn, ide = found["rows"]
    assert bare["times_bare"] == 1 and bare["losses_share"] is None
    assert mpn["losses_share"] > 0 and ide["losses_share"] > 0
    assert mpn["times_bare"] == pytest.approx(mpn["seconds_a_step"] / bare["seconds_a_step"], rel=0.01)
    (loop,) = found["loops"]
    assert loop["network"] == "mpn" and loop["batches"] == 2 and loop["images_a_second"] > 0
    assert loop["of_step"] == pytest.approx(loop["images_a_second"] / mpn["images_a_second"], rel=0.01)
    assert "CPU" in found["null"] and {row["busy"] for row in found["rows"]} == {None} == {loop["peak_mb"]}


def test_batches_modes_and_overrides_of_training():
    """Every mode with every batch, of another backbone and size; copies and part heads of all families."""
    settings = SMALL["train"] | {"names": "cgpn,mgn,pcb", "batches": "8,16", "loops": "", "size": "64x32"}
    found = run_bench("train", settings | {"backbone": "small-16"})
    assert [(row["network"], row["batch"]) for row in found["rows"]] == [
        (name, batch) for batch in (8, 16) for name in ("bare", "cgpn", "mgn", "pcb")
    ]
    assert found["loops"] == [] and found["variants"]["mgn"]["batch"] == 8


def test_a_compiled_step(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(type(net).__name__) or net)
    rows = run_bench("train", SMALL["train"] | {"names": "ide", "modes": "eager,compiled", "loops": ""})["rows"]
    assert [(row["network"], row["mode"]) for row in rows] == [
        (name, mode) for mode in ("eager", "compiled") for name in ("bare", "ide")
    ]
    assert len(compiled) == 2


def test_a_step_that_could_not_be_compiled_is_no_compiled_row(monkeypatch):
    def no_variant(step):
        def fail(*inputs):
            raise RuntimeError("no triton here")

        return step if type(step.__self__).__name__ == "BareStep" else fail

    monkeypatch.setattr(torch, "compile", no_variant)
    with pytest.warns(UserWarning, match="cannot be compiled here"):
        found = run_bench("train", SMALL["train"] | {"names": "mpn", "modes": "compiled"})
    assert [(row["network"], row["mode"]) for row in found["rows"]] == [("bare", "compiled"), ("mpn", "eager")]
    assert [(row["network"], row["mode"]) for row in found["loops"]] == [("mpn", "eager")]
    assert found["loops"][0]["of_step"] > 0


def test_the_loop_counts_from_a_warm_start(monkeypatch):
    """The first batches are trained on before the clock starts, the last one before it stops."""
    events = []
    monkeypatch.setattr(clock, "now", lambda device: events.append("clock") or Seconds(len(events), 2 * len(events)))
    watched = loop.Watched(["a", "b", "c", "d"], 2, clock.Timed())
    for batch in watched:
        events.append(batch)
    assert events == ["a", "b", "clock", "c", "d", "clock"] and len(watched) == 4
    assert watched.around.seconds == (3, 6)


def test_ranking_on_another_device_is_measured_there(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate, "choose_device", lambda name: asked.append(name) or torch.device("cpu"))
    run_bench("evaluate", SMALL["evaluate"])
    assert asked == ["cpu"]


@pytest.mark.parametrize(
    ("what", "settings", "message"),
    [
        ("train", SMALL["train"] | {"batches": "9"}, "batches=9: mpn takes 2 images"),
        ("train", SMALL["train"] | {"loops": "pcb"}, "loops=pcb.*name it in names"),
        ("train", SMALL["train"] | {"modes": "fast"}, "compiled, eager"),
        ("speed", {}, "benchmark 'speed'"),
        ("attention", {"name": "mpn"}, "names"),
        ("attention", {"names": "mpm"}, "mpn"),
        ("evaluate", {"dim": "many"}, "dim='many': expected a whole number"),
        ("evaluate", SMALL["evaluate"] | {"repeats": "0"}, "0 turns measure nothing"),
        ("panels", {"kinds": "KSwep"}, "KSweep"),
        ("panels", {"values": "0"}, "values=0"),
    ],
)
def test_wrong_options_are_named(monkeypatch, what, settings, message):
    monkeypatch.setattr(train, "time_steps", lambda *a: pytest.fail("a step was measured"))
    with pytest.raises(ReIDKitError, match=message):
        run_bench(what, settings)
