"""`reidkit reproduce --on slurm` on a real Slurm of one node; and what of it can be checked without one."""

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import one_node_slurm
import pytest
from market_runs import call
from needs import need

from reidkit.errors import ReIDKitError
from reidkit.reproduce import slurm
from reidkit.reproduce.slurm import Resources, Task, launcher
from reidkit.training.plan import plan_suite
from reidkit.training.suites import Entry

# In every Python of a task: naive-mtl fails, and the task of mpn is told that it is preempted as it is about to write
# its second checkpoint; its training then waits to be killed. A task that was queued again is left alone.
PLANNED = """
import os, signal, subprocess, sys
def watch(event, arguments):
    if event == "os.rename" and os.path.basename(os.fspath(arguments[1])) == "last.ckpt":
        watch.seen += 1
        if watch.seen == 2:
            task = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
            subprocess.run(["scancel", "--signal=USR2", task])
            signal.pause()
watch.seen = 0
words = sys.orig_argv[sys.orig_argv.index("train"):][1:2] if "train" in sys.orig_argv else []
if "PLANNED" in os.environ and words == ["naive-mtl"]:
    sys.exit("planned failure")
if "PLANNED" in os.environ and words == ["mpn"] and "SLURM_RESTART_COUNT" not in os.environ:
    sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def cluster():
    need("submitit")
    if why := one_node_slurm.why_not():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, one_node_slurm.one_node(Path(folder)) as environment:
        (Path(folder) / "sitecustomize.py").write_text(PLANNED)
        yield {**environment, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}


def reproduce(root, environment, cwd, *more):
    words = (
        "reproduce mpn-table1 --size tiny --preset smoke --seeds 1 --only naive-mtl,mpn --on slurm --gpus 0 --cpus 1"
    )
    command = [sys.executable, "-m", "reidkit.cli", *words.split(), "--root", str(root), "--no-progress", *more]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.slurm
def test_tasks_are_requeued_failures_listed_and_only_what_is_missing_submitted(
    cluster, sidewalk_tiny, data_root, tmp_path
):
    first = reproduce(data_root, {**cluster, "PLANNED": "1"}, tmp_path)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "as Slurm array tasks (0 GPUs, 1 CPUs" in first.stdout and "1 run finished, 1 failed" in first.stdout
    runs = tmp_path / "runs"
    mpn, naive, ide = (f"{name}-sidewalk-tiny-smoke-s0" for name in ("mpn", "naive-mtl", "ide"))
    result = json.loads((runs / mpn / "result.json").read_text())
    assert result["provenance"]["resumed_after_epoch"] == 1  # queued again, and gone on from its last epoch
    tasks = json.loads((runs / "slurm" / "jobs.json").read_text())
    assert set(tasks) == {mpn, naive, ide} and tasks[mpn].split("_")[0] == tasks[naive].split("_")[0]
    assert (
        f"dependency=afterany:{tasks[ide]}"
        in (runs / "slurm" / f"{tasks[mpn].split('_')[0]}_submission.sh").read_text()
    )
    assert "planned failure" in first.stderr and f"{tasks[naive]}_0_log.err" in first.stderr
    page = (runs / "mpn-table1-sidewalk-tiny-smoke.html").read_text()
    assert "What failed" in page and "planned failure" in page and f"{tasks[mpn]}_0_log.out" in page

    second = reproduce(data_root, cluster, tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    again = json.loads((runs / "slurm" / "jobs.json").read_text())
    assert again[naive] != tasks[naive] and {**again, naive: tasks[naive]} == tasks
    assert "2 runs finished, 0 failed" in second.stdout


@pytest.mark.slow
@pytest.mark.slurm
def test_what_slurm_refuses_is_one_line(cluster, sidewalk_tiny, data_root, tmp_path):
    refused = reproduce(data_root, cluster, tmp_path, "--partition", "no-such-partition")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "Slurm refuses the tasks" in refused.stderr and "invalid partition" in refused.stderr
    assert not list((tmp_path / "runs").glob("*/recipe.json"))


# without a Slurm


def test_one_process_or_one_a_gpu():
    assert launcher(1)[-3:] == (sys.executable, "-m", "reidkit.cli") == launcher(0)[-3:]
    several = " ".join(launcher(4))
    assert re.search(r"-m accelerate\.commands\.launch --multi_gpu --num_processes 4 .* -m reidkit\.cli$", several)


def test_several_processes_are_a_command_line_that_accelerate_takes():
    from accelerate.commands.launch import launch_command_parser

    words = [*launcher(2), "train", "mpn", "--seed", "1"]
    parsed = launch_command_parser().parse_args(words[words.index("accelerate.commands.launch") + 1 :])
    assert parsed.num_processes == 2 and parsed.multi_gpu and parsed.module
    assert [parsed.training_script, *parsed.training_script_args] == ["reidkit.cli", "train", "mpn", "--seed", "1"]


def test_a_training_does_not_hear_the_signals_of_its_task():
    """The task asks to be queued again; the training must not die first and look as if it had failed."""
    code = "import os, signal; [os.kill(os.getpid(), s) for s in (signal.SIGTERM, signal.SIGUSR2)]; print('alive')"
    done = subprocess.run([*slurm.SHIELDED, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "alive\n"


def test_resources_as_submitit_takes_them():
    executor = need("submitit").SlurmExecutor
    given = Resources("gpu", gpus=2, cpus=16, mem=1.5, hours=0.5, max_parallel=3).parameters()
    assert given["mem"] == "1536M" and given["time"] == 30 and given["gpus_per_node"] == 2
    assert set(given) <= executor._valid_parameters()
    plain = Resources(gpus=0).parameters()
    assert not {"mem", "partition", "gpus_per_node"} & set(plain)


def test_a_task_travels_and_asks_for_itself_again(tmp_path):
    need("submitit")
    task = pickle.loads(pickle.dumps(Task([(tmp_path / "a", ("ide", "--seed", "0"))], 2)))
    assert task.trainings == [(tmp_path / "a", ("ide", "--seed", "0"))] and task.gpus == 2
    assert task.checkpoint().function is task


@pytest.fixture
def plan(sidewalk_tiny, tmp_path):
    rows = (Entry("baseline"), Entry("mt-only"))
    return plan_suite(rows, sidewalk_tiny, ["--device", "cpu"], tmp_path, seeds=[0, 1], preset="smoke")


@pytest.fixture
def sent(monkeypatch):
    """Slurm's side: what was submitted, as (names of the tasks' trainings, dependency), and what is in the queue."""
    state = {"arrays": [], "queue": {}}

    def sbatch(tasks, runs, resources, after):
        number = 10 + len(state["arrays"])
        state["arrays"].append(([[path.name for path, _ in task.trainings] for task in tasks], after))
        return [f"{number}_{i}" for i in range(len(tasks))]

    monkeypatch.setattr(slurm, "_sbatch", sbatch)
    monkeypatch.setattr(slurm, "queue", lambda: state["queue"])
    return state


def test_ides_are_an_array_that_the_rows_depend_on(plan, tmp_path, sent):
    tasks = slurm.submit(plan, tmp_path, Resources())
    ides, rows = sent["arrays"]
    assert ides == ([[job.path.name] for job in plan.ide], [])
    assert rows == ([[job.starts_from.name, job.path.name] for job in plan.rows], ["10"])
    assert set(tasks) == {job.path for job in plan.jobs()}


def test_what_is_in_the_queue_is_not_submitted_again(plan, tmp_path, sent):
    tasks = slurm.submit(plan, tmp_path, Resources())
    sent["queue"] = {task: "RUNNING None" for task in tasks.values()}
    assert slurm.submit(plan, tmp_path, Resources()) == tasks and len(sent["arrays"]) == 2
    gone = plan.rows[1].path
    del sent["queue"][tasks[gone]]  # it failed
    again = slurm.submit(plan, tmp_path, Resources())
    (names, after) = sent["arrays"][2]
    assert [name[-1] for name in names] == [gone.name] and after == ["10"]
    assert again == {**tasks, gone: "12_0"}


def test_a_task_without_a_result_is_a_failure_with_its_logs(plan, tmp_path, sent):
    tasks = slurm.submit(plan, tmp_path, Resources())
    (tmp_path / "slurm").mkdir(exist_ok=True)
    (tmp_path / "slurm" / f"{tasks[plan.rows[0].path]}_0_log.err").write_text("a\nslurmstepd: error: oom_kill event\n")
    report = slurm.wait(plan, tasks, tmp_path, progress=False, poll=0)
    assert not report.finished and set(report.failed) == {job.path for job in plan.jobs()}
    assert "oom_kill" in report.failed[plan.rows[0].path] and "_log.err" in report.failed[plan.rows[0].path]
    assert "sacct" in report.failed[plan.rows[1].path]


def test_no_slurm_here_is_said_before_anything_is_done(data_root, tmp_path, monkeypatch):
    need("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    answer = call("reproduce", "mpn-table1", "--size", "tiny", "--root", data_root, "--on", "slurm")
    assert answer.exit_code and "no sbatch, srun, squeue here" in str(answer.exception)
    monkeypatch.setitem(sys.modules, "submitit", None)
    answer = call("reproduce", "mpn-table1", "--size", "tiny", "--root", data_root, "--on", "slurm")
    assert "reidkit[slurm]" in str(answer.exception) and not list(tmp_path.iterdir())


def test_a_slurm_that_does_not_answer(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ReIDKitError, match="Unable to contact slurm controller"):
        slurm.queue()
    squeue.write_text("#!/bin/sh\necho '12_3 PENDING Dependency'; echo '15 RUNNING None'\n")
    assert slurm.queue() == {"12_3": "PENDING Dependency", "15": "RUNNING None"}


def test_options_of_slurm_without_slurm_are_refused(data_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("reproduce", "mpn-table1", "--size", "tiny", "--root", data_root)
    answer = call(*words, "--partition", "gpu", "--max-parallel", 3)
    assert (
        answer.exit_code
        and "--partition, --max-parallel" in str(answer.exception)
        and "--on slurm" in str(answer.exception)
    )
    answer = call(*words, "--on", "slrum")
    assert answer.exit_code and "slurm" in str(answer.exception)
    assert "--jobs" in str(call(*words, "--on", "slurm", "--jobs", 2).exception)
