"""Engines: worker processes of this machine, and clusters of two nodes on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_dir

import clusters
import commands
import slurm
from bikefit.config import ConfigError
from bikefit.data.table import read_table
from bikefit.sweeps.engines import BACKENDS, connect, local_engine
from bikefit.sweeps.jobs import Job, JobError
from bikefit.sweeps.run import train_jobs
from bikefit.training.members import STOPPED, Member, MemberResult
from bikefit.training.worker import StackError, run_stack
from conftest import ROOT, make_settings
from inline import INLINE

PRESETS = sorted((ROOT / "conf/hydra/launcher").glob("*.yaml"))
TESTS = str(ROOT / "tests")


# Returns slot and number of a worker process after 0.5 s, so that each process gets a call.
PROCESS = (
    "(__import__('time').sleep(0.5), __import__('bikefit.training.devices').training.devices.slot, "
    "__import__('os').getpid())[1:]"
)


@pytest.mark.process
def test_a_killed_worker_costs_its_call_and_is_replaced_in_its_slot() -> None:
    with local_engine(2) as engine:
        calls = [engine.executor.submit(eval, PROCESS) for _ in range(2)]
        before = dict(call.result() for call in calls)
        assert before.keys() == {0, 1}
        lost = engine.executor.submit(signal.raise_signal, signal.SIGKILL)
        assert isinstance(lost.exception(), BrokenProcessPool)
        calls = [engine.executor.submit(eval, PROCESS) for _ in range(2)]
        after = dict(call.result() for call in calls)
    assert after.keys() == {0, 1}
    assert len(set(before.items()) & set(after.items())) == 1
    assert not any(psutil.pid_exists(process) for process in after.values())


SCRIPT = """
import os, time
from bikefit.sweeps.engines import local_engine
with local_engine(2) as engine:
    calls = [engine.executor.submit(os.getpid) for _ in range(2)]
    print(*(call.result() for call in calls), flush=True)
    engine.executor.submit(time.sleep, 60).result()
"""


@pytest.mark.slow(seconds=10)
def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with command, command.stdout as output:  # type: ignore[union-attr]
        assert output.readline()
        started = psutil.Process(command.pid).children(recursive=True)
        assert len(started) >= 2  # the fork server and a worker
        command.kill()
        _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.process
@pytest.mark.parametrize("words", [["script.py"], ["-"], ["-c", SCRIPT]])
def test_workers_do_not_run_the_script_again(tmp_path: Path, words: list[str]) -> None:
    """The script has no guard `if __name__ == "__main__"`; standard input has no file."""
    script = SCRIPT.replace("time.sleep, 60", "time.sleep, 0")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    words = [word.replace("time.sleep, 60", "time.sleep, 0") for word in words]
    done = commands.run(*words, cwd=tmp_path, text=script)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2


def test_a_machine_with_another_table_is_an_error(workplace: Path) -> None:
    settings = make_settings()
    version = read_table(settings.data.path).data_version
    member = Member(settings, version="0123456789abcdef")
    message = (
        f"machine {socket.gethostname()}: .*data/features/full has data version {version}, not "
        "0123456789abcdef; run `dvc pull`"
    )
    with pytest.raises(StackError, match=message):
        run_stack([member], settings.data.path, workplace / "none", workplace / "stop")


def test_the_stop_file_stops_a_stack_and_no_folder_is_made(workplace: Path) -> None:
    settings = make_settings("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")
    stop = workplace / "stop"
    (result,) = run_stack([Member(settings)], settings.data.path, workplace / "none", stop)
    assert not result.failure
    assert len(result.timestamps) == 2
    stop.touch()
    (stopped,) = run_stack([Member(settings)], settings.data.path, workplace / "none", stop)
    assert stopped == MemberResult(failure=STOPPED, killed=True)
    assert not (workplace / "none").exists()


@pytest.mark.parametrize(
    ("backend", "address", "message"),
    [
        ("spark", None, "must be one of local, dask, slurm"),
        ("dask", None, "hydra.launcher.address is missing"),
        ("slurm", None, "hydra.launcher.processes is missing"),
    ],
)
def test_wrong_launcher_keys_are_errors(backend: str, address: str | None, message: str) -> None:
    if backend in BACKENDS:
        pytest.importorskip(BACKENDS[backend][0])
    with pytest.raises(ConfigError, match=message), connect(backend, address):
        pass


def test_a_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"distributed is not installed here; run `pip .*cluster"):
        connect("dask")


@pytest.mark.parametrize("file", PRESETS, ids=lambda p: p.stem)
def test_a_preset_composes(file: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [f"hydra/launcher={file.stem}"], return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith(".StackLauncher")
    assert config.hydra.launcher.backend == file.stem
    assert file.read_text().startswith(f"# python -m bikefit.train -m hydra/launcher={file.stem}")


LAYERS = """[
  {{name: hidden.linear, _target_: torch.nn.Linear, out_features: 4}},
  {{name: hidden.relu, _target_: torch.nn.ReLU}},
  {{name: deadly, _target_: deadly.Once, spared: {spared}, marker: "{marker}"}},
  {{name: output.linear, _target_: torch.nn.Linear, out_features: 1}}]"""


def deadly_jobs(marker: Path, *overrides: str) -> list[Job]:
    """Return two jobs that kill their worker once, at the 20th step, and a job that diverges."""
    layers = " ".join(LAYERS.format(spared=os.getpid(), marker=marker).split())
    settings = [
        "network=custom",
        f"network.layers={layers}",
        "network.allow=[deadly]",
        "training.epochs=6",
        "training.batch_size=64",
        *overrides,
    ]
    jobs = [Job(make_settings(*settings, f"seed={seed}"), f"seed={seed}") for seed in (0, 1)]
    return [*jobs, Job(make_settings(*settings, "optimizer=sgd", "optimizer.lr=1e12"), "wild")]


@pytest.mark.slow(seconds=35)
@pytest.mark.filterwarnings("default")  # in the engines' code
@pytest.mark.parametrize("backend", clusters.CLUSTERS)
def test_results_are_equal_after_the_loss_of_a_worker(
    backend: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(BACKENDS[backend][0], reason="the extra `cluster` is not installed")
    if backend == "slurm" and not slurm.installed():
        pytest.skip("Slurm is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), TESTS]))
    marker = workplace / "died"
    with (
        clusters.CLUSTERS[backend]() as (address, options),
        connect(backend, address, options, 2) as engine,
    ):
        there = train_jobs(deadly_jobs(marker), None, stack_size=2, engine=engine)
    assert marker.exists(), "no worker died"
    here = train_jobs(deadly_jobs(marker, "rerun=true"), None, stack_size=2, engine=INLINE)
    assert there[:2] == pytest.approx(here[:2], rel=1e-5)
    assert isinstance(there[2], JobError)
    assert str(there[2]) == str(here[2])
