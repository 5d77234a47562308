"""The trainings of a suite as Slurm array tasks, submitted with submitit: one task a run.

IDEs are an array of their own; the rows that start from them depend on it, and should an IDE still be missing when a
row's task runs, that task trains it, one of several under the run's lock. A task that is preempted or runs out of time
asks Slurm to be queued again and goes on from its last epoch. What is in the queue is written to
`runs/slurm/jobs.json`, so that a second call submits only what is neither finished nor queued.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from reidkit.errors import ReIDKitError
from reidkit.files import read_json, write_json
from reidkit.training.plan import Job, SuitePlan
from reidkit.training.suites import SuiteReport, _train_process, log_file

POLL_SECONDS = 15
REQUEUES = 100  # times that a task may run out of time and go on
# Slurm signals a whole task; the training ignores it, and dies when its task has asked to be queued again.
SHIELDED = ("sh", "-c", 'trap "" TERM USR2; exec "$@"', "sh")


@dataclass(frozen=True)
class Resources:
    """What a task gets. partition, mem (GB): None for the cluster's default. hours: until it is queued again.
    max_parallel: tasks of an array that run at a time."""

    partition: str | None = None
    gpus: int = 1
    cpus: int = 8
    mem: float | None = None
    hours: float = 24.0
    max_parallel: int = 8

    def __str__(self) -> str:
        words = [f"{self.gpus} GPUs", f"{self.cpus} CPUs"]
        words += [f"{self.mem:g} GB"] if self.mem is not None else []
        words += [f"{self.hours:g} h", f"at most {self.max_parallel} at a time"]
        return ", ".join([*words, *([f"partition {self.partition}"] if self.partition else [])])

    def parameters(self) -> dict[str, Any]:
        """As submitit's Slurm executor takes them."""
        asked = {"partition": self.partition, "gpus_per_node": self.gpus or None}
        asked |= {"mem": None if self.mem is None else f"{round(1024 * self.mem)}M"}
        fixed = {"job_name": "reidkit", "nodes": 1, "ntasks_per_node": 1, "cpus_per_task": self.cpus}
        fixed |= {"additional_parameters": {"requeue": True}}
        fixed |= {"time": max(1, round(60 * self.hours)), "array_parallelism": self.max_parallel}
        return {**fixed, **{key: value for key, value in asked.items() if value is not None}}


def check_slurm() -> None:
    """ReIDKitError where submitit is not installed or this machine cannot submit to a Slurm that answers."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ReIDKitError("--on slurm needs submitit: pip install 'reidkit[slurm]'") from None
    if lacking := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]:
        raise ReIDKitError(
            f"--on slurm: no {', '.join(lacking)} here; call it where jobs are submitted (a login node), or leave it "
            "away to train on this machine"
        )
    queue()


def launcher(gpus: int) -> tuple[str, ...]:
    """What stands before "train" on a task's command line; with several GPUs `accelerate launch`, a process each."""
    python = (sys.executable, "-m")
    if gpus < 2:
        return (*SHIELDED, *python, "reidkit.cli")
    several = ("--multi_gpu", "--num_processes", str(gpus), "--num_machines", "1", "--mixed_precision", "no")
    return (*SHIELDED, *python, "accelerate.commands.launch", *several, "--dynamo_backend", "no", "-m", "reidkit.cli")


class Task:
    """What a task of the array does: the trainings one after another, each under its lock, skipped if finished."""

    def __init__(self, trainings: Iterable[tuple[Path, tuple[str, ...]]], gpus: int) -> None:
        self.trainings, self.gpus = list(trainings), gpus

    def __call__(self) -> None:
        for path, arguments in self.trainings:
            if error := _train_process(path, list(arguments), launcher(self.gpus)):
                raise RuntimeError(f"{path.name}: {error}")

    def checkpoint(self) -> Any:
        """Called by submitit when the task is preempted or its time is up: the same again, from the last epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def queue() -> dict[str, str]:
    """{task ("12_3", or "12" outside of an array): state, with its reason where it waits} of this user in the queue.

    ReIDKitError where Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--array", "--user", str(os.getuid()), "--format", "%i %T %r"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReIDKitError(f"Slurm does not answer: squeue says {done.stderr.strip()!r}; try again when it does")
    lines = (line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    return {task: " ".join(state) for task, *state in lines}


def submit(plan: SuitePlan, runs: Path, resources: Resources) -> dict[Path, str]:
    """Submit what is neither finished nor in the queue. -> {run folder: its task}, queued ones included.

    ReIDKitError where Slurm refuses (an unknown partition, more than a node has), with its words.
    """
    book, waiting = runs / "slurm" / "jobs.json", queue()
    written: dict[str, str] = read_json(book, missing="", error=ReIDKitError) if book.is_file() else {}
    jobs = plan.unfinished()
    tasks = {job.path: written[job.path.name] for job in jobs if written.get(job.path.name) in waiting}
    by_path = {job.path: job for job in jobs}

    def send(group: list[Job], after: Iterable[str] = ()) -> None:
        found = _sbatch([_task(job, by_path, resources) for job in group], runs, resources, sorted(set(after)))
        tasks.update(zip((job.path for job in group), found))
        written.update({job.path.name: task for job, task in zip(group, found)})
        write_json(book, written)

    new = [job for job in jobs if job.path not in tasks]
    ide = [job for job in new if job in plan.ide]
    if ide:
        send(ide)
    rows = [job for job in new if job not in ide]
    later = [job for job in rows if job.starts_from in tasks]
    if later:
        send(later, (tasks[job.starts_from].split("_")[0] for job in later if job.starts_from is not None))
    if now := [job for job in rows if job not in later]:
        send(now)
    return tasks


def _task(job: Job, by_path: Mapping[Path, Job], resources: Resources) -> Task:
    ide = by_path.get(job.starts_from) if job.starts_from is not None else None
    return Task([(j.path, j.arguments) for j in (ide, job) if j is not None], resources.gpus)


def _sbatch(tasks: list[Task], runs: Path, resources: Resources, after: list[str]) -> list[str]:
    """Submit tasks as one array that starts when the jobs `after` have ended, well or not. -> their ids."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    parameters = resources.parameters()
    if after:
        parameters["dependency"] = "afterany:" + ":".join(after)
    executor = submitit.SlurmExecutor(folder=runs / "slurm", max_num_timeout=REQUEUES)
    executor.update_parameters(**parameters)
    try:
        with executor.batch():
            sent = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        said = " ".join(str(error).split())
        raise ReIDKitError(
            f"Slurm refuses the tasks: {said}; change --partition, --gpus, --cpus, --mem or --hours"
        ) from error
    return [job.job_id for job in sent]


def wait(
    plan: SuitePlan, tasks: Mapping[Path, str], runs: Path, *, progress: bool = True, poll: float = POLL_SECONDS
) -> SuiteReport:
    """Wait until every task has left the queue; then what became of the plan, with the ends of the logs of failures.

    A task that has left without a result is looked at once more after `poll` seconds: shared disks show files late.
    """
    left, missed, jobs = dict(tasks), set(), {job.path: job for job in plan.jobs()}
    with tqdm(total=len(tasks), unit="run", disable=not progress) as bar:
        while left:
            waiting = queue()
            for path, task in list(left.items()):
                if task in waiting:
                    continue
                if jobs[path].finished or path in missed:
                    del left[path]
                    bar.update()
                missed.add(path)
            states = [waiting.get(task, "ended").split()[0].lower() for task in left.values()]
            bar.set_postfix({state: states.count(state) for state in sorted(set(states))})
            if left:
                time.sleep(poll)
    report = SuiteReport(failed=dict(plan.refused))
    for job in jobs.values():
        if not job.finished:
            report.failed[job.path] = why_failed(job.path, tasks.get(job.path), runs)
        elif job in plan.rows:
            report.finished.append(job.path)
    return report


def why_failed(path: Path, task: str | None, runs: Path) -> str:
    """The ends of a training's own log and of Slurm's (`slurmstepd: error: ... oom_kill`), which are named."""
    logs = [log_file(path), *logs_of(task, runs)]
    said = []
    for log in logs:
        if log.is_file() and (lines := log.read_text(errors="replace").strip().splitlines()):
            said.append(f"{log}: {' | '.join(lines[-3:])}")
    return "; ".join(said) or f"Slurm's task {task} ended without a result or a log; `sacct -j {task}` may say why"


def logs_of(task: str | None, runs: Path) -> list[Path]:
    """Slurm's logs of a task: errors, then output."""
    return [] if task is None else [runs / "slurm" / f"{task}_0_log.{kind}" for kind in ("err", "out")]
