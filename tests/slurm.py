"""A Slurm cluster of two nodes on this machine, from Debian's packages slurm-wlm and munge."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from getpass import getuser
from pathlib import Path

from ports import free_ports

NODES = ("n1", "n2")
CONFIG = """
ClusterName=bikefit
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2048
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2048
PartitionName=main Nodes=n1,n2 Default=YES
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


def installed() -> bool:
    """Say whether Slurm is there; its daemons' folder is in no user's path but root's."""
    return all(shutil.which(name, path=_path()) for name in PROGRAMS)


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@contextmanager
def slurm() -> Iterator[Path]:
    """Start it, without accounting, and give its configuration file (SLURM_CONF)."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as running:
        folder = Path(name)
        folder.chmod(0o755)  # munged wants it so
        for part in ("state", *NODES):
            (folder / part).mkdir()
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o600)
        config = folder / "slurm.conf"
        config.write_text(
            CONFIG.format(
                host=socket.gethostname(), user=getuser(), folder=folder, ports=free_ports(3)
            )
        )
        munge = [
            "munged",
            "--foreground",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/seed",
            f"--log-file={folder}/munged.log",
        ]
        environment = os.environ | {"PATH": _path(), "SLURM_CONF": str(config)}
        running.enter_context(daemon(munge, environment))
        wait_until((folder / "munge.socket").exists)
        running.enter_context(daemon(["slurmctld", "-D"], environment))
        for node in NODES:
            running.enter_context(daemon(["slurmd", "-D", "-N", node], environment))
        wait_until(lambda: idle(environment) == 2)
        try:
            yield config
        finally:  # what ends a task would wait for the daemons for ever
            subprocess.run(["scancel", "--me"], env=environment, check=True)
            wait_until(lambda: idle(environment) == 2)


@contextmanager
def daemon(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run a program in the background."""
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def idle(environment: dict[str, str]) -> int:
    """Count the nodes that wait for work."""
    asked = ["sinfo", "--noheader", "--Node", "--states=idle"]
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    return len(found.stdout.splitlines())


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not so after {seconds} s"
        time.sleep(0.1)
