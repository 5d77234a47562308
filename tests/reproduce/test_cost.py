"""What a suite will cost: every second comes from a measurement, which is named."""

import json
import shutil

import pytest
import torch

from reidkit.errors import ReIDKitError
from reidkit.provenance import device_name
from reidkit.reproduce import cost
from reidkit.reproduce.cost import Need, check_room, disk_needs, duration, estimate
from reidkit.training import RunFolder
from reidkit.training.plan import plan_suite
from reidkit.training.suites import Entry

CPU = torch.device("cpu")


@pytest.fixture
def plan(sidewalk_tiny, tmp_path):
    rows = (Entry("baseline"), Entry("mpn"))
    return plan_suite(rows, sidewalk_tiny, ["--device", "cpu"], tmp_path, seeds=[0, 1], preset="smoke")


@pytest.fixture
def how(tmp_path):
    return {
        "preset": "smoke",
        "runs": tmp_path,
        "device": CPU,
        "jobs": 2,
        "threads": 1,
        "benchmarks": tmp_path / "none",
    }


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """No batch is timed here: 2 seconds a step, whatever the variant; the variants that were asked are kept."""
    asked = []

    def time_recipe(name, recipe, device, steps, **more):
        asked.append(name)
        return 2.0

    monkeypatch.setattr("reidkit.bench.train.time_recipe", time_recipe)
    return asked


def finish(job, dataset, seconds, **where):
    """A finished run of a job, of which only what the estimate reads is there."""
    run = RunFolder(job.path)
    run.path.mkdir(parents=True)
    run.weights.write_bytes(b"")
    where = {
        "device": device_name(CPU),
        "threads": 1,
        "cpu_s": seconds,
        "wall_s": 10 * seconds,
        "training_s": 7.0,
        **where,
    }
    about = {"dataset": dataset.name, "seed": job.seed, "metrics": {"mild": {"mAP": 0.5}}}
    about |= {"variant": job.variant, "recipe": job.recipe.as_dict(), "preset": "smoke"}
    result = {**about, "images": len(dataset.train)}
    run.result.write_text(json.dumps({**result, "provenance": where}))


def test_batches_are_measured_where_nothing_is_known(plan, sidewalk_tiny, how, measured):
    found = estimate(plan, sidewalk_tiny, **how)
    assert measured == ["ide", "baseline", "mpn"] and not found.whole
    # smoke: 2 epochs of 3 batches; two IDEs side by side, then four rows two by two
    assert found.seconds == 2 * 6 + 4 * 2 * 6 / 2
    assert found.sources == (f"2 batches measured now of ide, baseline, mpn on {device_name(CPU)}",)


def test_finished_runs_go_before_benchmarks_and_those_before_batches(plan, sidewalk_tiny, how, tmp_path, measured):
    finish(plan.rows[0], sidewalk_tiny, 100.0)  # baseline, seed 0
    (tmp_path / "bench").mkdir()
    bench = {"bench": "train", "preset": "smoke", "provenance": {"device": device_name(CPU)}}
    bench["variants"] = {name: {"seconds_a_step": 5.0} for name in ("baseline", "mpn")}
    (tmp_path / "bench" / "t.json").write_text(json.dumps(bench))
    (tmp_path / "bench" / "other.json").write_text("[1]")
    found = estimate(plan, sidewalk_tiny, **{**how, "benchmarks": tmp_path / "bench"})
    assert measured == ["ide"]
    rows = [100.0, 5.0 * 6, 5.0 * 6]  # baseline seed 1, mpn twice
    assert found.seconds == pytest.approx(2 * 6 + max(sum(rows) / 2, *rows))
    assert "1 finished run in" in found.sources[0] and "t.json" in found.sources[1] and "of ide" in found.sources[2]


def test_runs_of_other_devices_presets_and_images_do_not_count(plan, sidewalk_tiny, how, tmp_path, measured):
    finish(plan.rows[0], sidewalk_tiny, 100.0, device="cuda: NVIDIA H100")
    estimate(plan, sidewalk_tiny, **how)
    assert "baseline" in measured
    elsewhere = estimate(plan, sidewalk_tiny, **{**how, "device": None})  # Slurm: any device, and it is named
    assert elsewhere.seconds == 2 * 1000.0 / 2 + 3 * 1000.0 / 2
    assert "NVIDIA H100" in elsewhere.sources[0] and "mean of the others: ide, mpn" in elsewhere.sources[1]


def test_nothing_is_made_up_for_machines_that_are_not_known(plan, sidewalk_tiny, how, measured):
    found = estimate(plan, sidewalk_tiny, **{**how, "device": None})
    assert found.seconds is None and "nothing has been measured" in found.sources[0] and not measured


def test_a_resumed_run_counts_all_of_its_epochs():
    where = {
        "device": "cpu: x",
        "threads": 2,
        "cpu_s": 3.0,
        "wall_s": 2.0,
        "training_s": 50.0,
        "resumed_after_epoch": 4,
    }
    assert cost._seconds(where) == 100.0 and cost._seconds({**where, "device": "cuda: y"}) == 50.0
    assert cost._seconds({**where, "resumed_after_epoch": 0}) == 3.0


def test_epochs_that_are_done_do_not_count(plan, sidewalk_tiny, how):
    whole = estimate(plan, sidewalk_tiny, **how).seconds
    for job in plan.rows:
        RunFolder(job.path).path.mkdir(parents=True)
        RunFolder(job.path).checkpoint.write_bytes(b"")
        RunFolder(job.path).metrics.write_text("epoch,loss\n1,2.0\n")
    assert [job.epochs_done for job in plan.rows] == [1] * 4
    assert estimate(plan, sidewalk_tiny, **how).seconds == whole - 4 * 6 / 2


def test_time_runs_out_while_measuring(plan, sidewalk_tiny, how, measured, monkeypatch):
    monkeypatch.setattr(cost, "MEASURING_SECONDS", -1)
    found = estimate(plan, sidewalk_tiny, **how)
    assert measured == ["ide"] and "mean of the others: baseline, mpn" in found.sources[1]


def test_disk_is_counted_from_the_networks_and_the_images(plan, sidewalk_tiny, tmp_path):
    from reidkit.models import create_model

    def weights(job):
        recipe = job.recipe
        net = create_model(job.variant, sidewalk_tiny.num_train_ids, backbone=recipe.backbone, **recipe.model)
        return 4 * sum(t.numel() for t in net.state_dict().values())

    (need,) = disk_needs(plan, sidewalk_tiny, tmp_path, jobs=1, cache=False)
    sizes = [weights(job) for job in plan.jobs()]
    assert need.size == 3 * sum(sizes) + 2 * max(sizes) and need.folder == tmp_path
    finish(plan.rows[0], sidewalk_tiny, 1.0)
    (less,) = disk_needs(plan, sidewalk_tiny, tmp_path, jobs=1, cache=False)
    assert need.size - less.size == 3 * weights(plan.rows[0])


def test_needs_of_one_disk_are_added(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9, 9, 5 * 10**9))
    needs = [Need("a", tmp_path / "x" / "y", 3 * 10**9, "do this"), Need("b", tmp_path, 2 * 10**9, "do that")]
    assert check_room(needs) == [(5.0, 5.0)]
    with pytest.raises(ReIDKitError, match=r"has 5\.00 GB, .* needs 5\.50 GB: 3\.00 GB for a .* do this or do that"):
        check_room([*needs, Need("c", tmp_path, 5 * 10**8, "do that")])


@pytest.mark.parametrize(
    "seconds, said",
    [(0.2, "1 s"), (59, "59 s"), (100, "2 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (200_000, "2 days 8 h")],
)
def test_durations_in_words(seconds, said):
    assert duration(seconds) == said
