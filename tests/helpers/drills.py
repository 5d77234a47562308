"""Commands that are interrupted at a chosen moment, however fast or busy the machine is, and called again.

    python tests/helpers/drills.py      writes the table of drills in docs/reliability.md

The interrupted process stands still at its moment until the signal has been sent: nothing depends on time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from paths import REPO

LONG = 600  # seconds after which a process counts as left behind, on the busiest machine
PAGE = REPO / "docs" / "reliability.md"
BEGIN, END = "<!-- drills: written by tests/helpers/drills.py -->", "<!-- end of drills -->"

# Read by every process of a command when it starts (sitecustomize.py). One of them, the first that comes to the moment,
# says so in the file `there`, which then holds the path that it is about, and waits for the file `go`.
HOLD = """
import fnmatch, glob, json, multiprocessing, os, signal, sys, time
told = json.loads(os.environ["DRILL"])
where = {"os.rename": 1, "open": 0}[told["event"]]
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
def watch(event, arguments):
    if event != told["event"] or not isinstance(arguments[where], (str, os.PathLike)):
        return
    if not fnmatch.fnmatch(os.path.basename(os.fspath(arguments[where])), told["at"]):
        return
    if told["worker"] and multiprocessing.parent_process() is None:
        return
    if told["after"] and not glob.glob(told["after"]):
        return
    try:
        mark = os.open(told["there"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(mark, os.fsencode(arguments[where]))
    os.close(mark)
    while not os.path.exists(told["go"]):
        time.sleep(0.05)
sys.addaudithook(watch)
"""


class Moment(NamedTuple):
    """When a process stands still.

    event, at: "os.rename" to, or "open" of, a file of this name (a pattern). worker: only in processes that
    multiprocessing started. after: a pattern of paths; one must be there.
    """

    event: str
    at: str
    worker: bool = False
    after: str = ""


class Ended(NamedTuple):
    """How an interrupted command ended: its exit code as Python gives it, all that it said."""

    code: int
    said: str


def interrupted(words: list[str], sent: signal.Signals, moment: Moment, folder: Path) -> Ended:
    """Run `reidkit *words`, send it a signal at the moment, and wait until none of its processes is left.

    SIGINT goes to all processes, as Ctrl-C in a terminal does; others to the command alone. folder: for two marks.
    """
    folder.mkdir(parents=True)
    there, go = folder / "there", folder / "go"
    (folder / "sitecustomize.py").write_text(HOLD)
    told = {**moment._asdict(), "there": str(there), "go": str(go)}
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "reidkit.cli", *words],
        env={**os.environ, "PYTHONPATH": path, "DRILL": json.dumps(told), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        while not there.exists():
            assert process.poll() is None, f"it ended before the moment: {process.communicate()[0]}"
            time.sleep(0.05)
        (os.killpg if sent is signal.SIGINT else os.kill)(process.pid, sent)
        for _ in range(100):  # one that waits for the held process itself does not end before that goes on
            if process.poll() is None:
                time.sleep(0.05)
        go.touch()
        said = process.communicate(timeout=LONG)[0]
        for _ in range(LONG):
            if alive(process.pid):
                time.sleep(1)
        assert not (left := alive(process.pid)), f"processes {left} outlive their command"
        return Ended(process.returncode, said)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # of a drill that fails


def alive(session: int) -> list[int]:
    """Process numbers of a session that still run (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if int(number) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def left_over(*folders: Path) -> list[str]:
    """Names of temporary files, locks and unfinished work below the folders."""
    patterns = ("*.tmp", ".tmp-*", "*.lock", "*.part", "*.shared", "*.unpacking", "*.log")
    return [str(path) for folder in folders for pattern in patterns for path in folder.rglob(pattern)]


KEPT = "interrupted: what is finished is kept, and the same command goes on from there"
ANEW = "interrupted: no file is left half written, and the same command begins again"


def drilled(words: list[str], moments: dict[signal.Signals, Moment], folder: Path, line: str = KEPT) -> str:
    """Interrupt one command in several ways, one after the other, then let it work; returns what it says at last.

    Each time no process may be left, the exit code must be the signal's, and but for kill -9 one line must say what is
    kept, with no traceback. line: that one.
    """
    for sent, moment in moments.items():
        ended = interrupted(words, sent, moment, folder / f"marks-{sent.name}")
        assert ended.code == (-sent if sent is signal.SIGKILL else 128 + sent), (sent, ended)
        if sent is not signal.SIGKILL:
            said = ended.said.splitlines()
            assert said.count(line) == 1 and "Traceback" not in ended.said, ended.said
    whole = subprocess.run([sys.executable, "-m", "reidkit.cli", *words], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    return whole.stdout + whole.stderr


# ---- the table in docs/reliability.md -------------------------------------------------------------------------------


class Drill(NamedTuple):
    """One row: what is interrupted, when, in which ways, and the test that does it."""

    command: str
    moment: str
    how: str
    test: str


THREE, TWO = "Ctrl-C, `kill`, `kill -9`", "Ctrl-C, `kill`"
HERE, OF_TRAIN, OF_REPRODUCE = (
    f"tests/{name}.py" for name in ("house/test_drills", "training/test_alone", "reproduce/test_reproduce")
)
EVALUATE, BENCH = f"{HERE}::test_evaluate", f"{HERE}::test_bench"
DRILLS = (
    Drill(
        "train",
        "an epoch is trained, its checkpoint not written",
        TWO,
        f"{OF_TRAIN}::test_signals_end_a_training_with_one_line",
    ),
    Drill(
        "train",
        "the same",
        "`kill -9`",
        f"{OF_TRAIN}::test_the_second_training_of_a_folder_is_refused_and_a_dead_one_followed",
    ),
    Drill(
        "train --no-cache --workers 2",
        "processes of its own read images",
        THREE,
        f"{HERE}::test_train_with_processes_that_read",
    ),
    Drill("ablate", "a row trains", THREE, f"{HERE}::test_ablate"),
    Drill(
        "reproduce",
        "a row trains",
        TWO,
        f"{OF_REPRODUCE}::test_an_interrupted_command_goes_on_from_the_last_epoch",
    ),
    Drill(
        "reproduce",
        "the same",
        "`kill -9`",
        f"{OF_REPRODUCE}::test_a_training_ends_with_its_killed_command_and_the_next_command_goes_on",
    ),
    Drill("sidewalk render --workers 2", "two processes render", THREE, f"{HERE}::test_render"),
    Drill("priors build", "the table is made, not written", THREE, f"{HERE}::test_priors_build"),
    Drill("search", "the gallery is read, the list of broken pictures not written", THREE, f"{HERE}::test_search"),
    Drill("evaluate --no-cache --workers 2 --save FILE", "processes of its own read images", THREE, EVALUATE),
    Drill("evaluate --no-cache --workers 2 --save FILE", "the result is measured, not written", THREE, EVALUATE),
    Drill("export", "the file is checked, not written", THREE, f"{HERE}::test_export"),
    Drill("bench search", "a process of its own measures, files lie in a temporary folder", TWO, BENCH),
    Drill("bench search", "the same", "`kill -9`", BENCH),
    Drill("report --save FILE", "the table is made, not written", THREE, f"{HERE}::test_report"),
    Drill("compare --save FILE", "two runs are tested, the table not written", THREE, f"{HERE}::test_compare"),
    Drill("data check", "the images are decoded, the tables not written", THREE, f"{HERE}::test_data_check"),
)


def table() -> str:
    """The drills as Markdown."""
    lines = ["| command | interrupted when | by | test |", "|---|---|---|---|"]
    lines += [f"| `reidkit {d.command}` | {d.moment} | {d.how} | `{d.test}` |" for d in DRILLS]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
