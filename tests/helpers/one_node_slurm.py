"""A Slurm of one node, this machine, in a temporary folder: munged, slurmctld and slurmd, stopped at the end.

Needs root and Debian's packages slurm-wlm and munge. `why_not` says what is missing; `one_node(folder)` starts it and
yields the environment for commands that talk to it.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=one Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """What this machine lacks for a Slurm of its own; "" if nothing."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a Slurm of one node needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"no {', '.join(lacking)} here (Debian: apt-get install slurm-wlm munge)" if lacking else ""


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start the three daemons with everything they write in `folder` (a short path: it holds a socket).

    They stay in the foreground as children, so that no other daemon is ever touched.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(2), cpus=os.cpu_count()))
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": _path()}
    places = {f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")}
    commands = (
        ["munged", "--force", "--foreground", f"--socket={folder}/munge.socket", *sorted(places)],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    )
    started: list[subprocess.Popen] = []
    with open(folder / "daemons.log", "w") as log:
        try:
            for command in commands:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            _wait_until_idle(environment, folder)
            yield environment
        finally:
            subprocess.run(["scancel", "--user", "root"], env=environment, capture_output=True)
            for daemon in reversed(started):
                daemon.terminate()
            for daemon in started:
                daemon.wait()


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    """Until the node takes jobs: a job that does nothing is waited for, first until the controller answers."""
    for _ in range(600):
        if subprocess.run(["scontrol", "ping"], env=environment, capture_output=True).returncode == 0:
            break
    done = subprocess.run(
        ["sbatch", "--wait", "--output=/dev/null", "--wrap=true"], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        logs = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))
        raise AssertionError(f"the Slurm of one node does not run a job: {done.stderr}\n{logs}")
