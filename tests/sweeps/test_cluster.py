"""Stacks on an engine: their results, what is lost on the way, and clusters of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra import compose, initialize_config_dir

import clusters
import commands
from bikefit.config import ConfigError
from bikefit.data.files import write_json
from bikefit.data.table import read_table
from bikefit.sweeps import jobs
from bikefit.sweeps.cluster import BACKENDS, Engine, Order, _order, _ray_slots, _work, connect, run
from bikefit.sweeps.jobs import Job, MemberError
from bikefit.sweeps.live import Live
from bikefit.sweeps.processes import Board
from bikefit.tracking import reading
from bikefit.training import callbacks, fit
from bikefit.training.checkpoints import Place, places
from bikefit.training.epochs import Folders
from bikefit.training.members import Failure, Member
from conftest import ROOT, make_settings, train_stack

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]
PRESETS = sorted((ROOT / "conf/hydra/launcher").glob("*.yaml"))
TESTS = str(ROOT / "tests")


def member(*overrides: str) -> Member:
    return Member(make_settings(*QUICK, *overrides))


@dataclass
class Call:
    """A stack that is trained when it is asked for, or lost."""

    train: Callable[[], Any] | None
    ready: bool = True

    def done(self) -> bool:
        return self.ready

    def result(self) -> Any:
        if self.train is None:
            raise RuntimeError("long story\nnode 7 is gone")
        return self.train()


class Here:
    """An engine in this process that loses the stacks it is told to, counted as submitted."""

    def __init__(self, lost: Sequence[int] = (), hanging: Sequence[int] = ()) -> None:
        self.lost, self.hanging = lost, hanging
        self.sizes: list[int] = []
        self.cancelled = False
        self.engine = Engine(2, self.submit, self.cancel)

    def submit(self, orders: Sequence[Order]) -> list[Call]:
        calls = []
        for order in orders:
            number = len(self.sizes)
            self.sizes.append(len(order[0]))
            train = None if number in self.lost else lambda order=order: _work(*order)
            calls.append(Call(train, ready=number not in self.hanging))
        return calls

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def board() -> Iterator[Board]:
    found = Board(2)
    yield found
    found.close()


def test_stacks_come_back_with_their_results(workplace: Path, board: Board) -> None:
    stacks = [[member("seed=0"), member("seed=1")], [member("optimizer=sgd", "optimizer.lr=1e12")]]
    found = dict(run(stacks, Here().engine, board))
    assert [len(found[i]) for i in (0, 1)] == [2, 1]
    assert [r.selected for r in found[0]] == [2, 2]
    assert "loss became" in found[1][0].failure.reason
    assert board.epochs() == 6


@pytest.mark.slow
def test_a_lost_stack_is_done_again_in_halves(
    workplace: Path, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    stacks = [[member(f"seed={seed}") for seed in range(5)], [member("seed=9")]]
    engine = Here(lost=[0, 3, 4])  # the first stack, its second half, the first member of that
    found = dict(run(stacks, engine.engine, board))
    assert engine.sizes == [5, 1, 2, 3, 1, 2]
    assert [getattr(result, "selected", None) for result in found[0]] == [2, 2, None, 2, 2]
    assert isinstance(found[0][2], Failure)
    assert "again, with nothing beside it: long story node 7 is gone" in found[0][2].reason
    assert "5 members were lost with their machine; again: long story node 7" in caplog.text
    alone = [member(f"seed={seed}") for seed in range(5)]
    for one, other in zip(found[0], alone, strict=True):
        if not isinstance(one, Failure):
            assert one.metrics["val/loss"] == pytest.approx(
                _work(*_order([other]))[0].metrics["val/loss"], rel=1e-4
            )
    assert found[1][0].selected == 2
    assert board.epochs() == 12


class DeadNodeError(BaseException):
    """What a stack meets whose machine dies: no handler of ours sees it."""


@pytest.mark.slow
def test_a_lost_stack_goes_on_at_its_checkpoint_where_the_folder_is_shared(
    workplace: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.EVERY, "0")
    stack = [replace(member(f"seed={seed}", "training.epochs=5"), fingerprint=f"f-{seed}")
             for seed in range(4)]  # fmt: skip
    undisturbed = train_stack(stack)
    place = Place(workplace / "checkpoints", [m.fingerprint for m in stack])
    place.open()
    told, real = [], fit.Progress.on_validation_end

    def dies(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        told.append((module.stack.size, trainer.current_epoch + 1))
        if told[-1] == (4, 3):
            raise DeadNodeError

    monkeypatch.setattr(fit.Progress, "on_validation_end", dies)

    def work(order: Any) -> Any:
        try:
            return _work(*order)
        except DeadNodeError as error:
            raise RuntimeError("node 7 is gone") from error

    def submit(orders: Sequence[Order]) -> list[Call]:
        return [Call(lambda order=order: work(order)) for order in orders]

    engine = Engine(2, submit, lambda: None)
    with Live(workplace / "checkpoints") as live:
        folders = Folders(workplace / "checkpoints", live.folder)
        ((_, results),) = run([stack], engine, board, folders)
        end = time.monotonic() + 20
        while live.epochs() < 20 and time.monotonic() < end:
            time.sleep(0.05)
        assert live.epochs() == 20  # of four members, each once
    assert told == [(4, 1), (4, 2), (4, 3), (2, 4), (2, 5), (2, 4), (2, 5)]
    for one, other in zip(results, undisturbed, strict=True):
        assert one.metrics["val/loss"] == pytest.approx(other.metrics["val/loss"], rel=1e-4)
    place.remove()  # and those of the halves with it
    assert places(workplace / "checkpoints") == []


def test_a_machine_that_does_not_share_the_folder_writes_none(
    workplace: Path, board: Board
) -> None:
    elsewhere = Folders(workplace / "not here", workplace / "not here/epochs")
    ((_, results),) = run([[member()]], Here().engine, board, elsewhere)
    assert results[0].selected == 2
    assert not (workplace / "not here").exists()


def test_a_member_alone_is_tried_twice(workplace: Path, board: Board) -> None:
    engine = Here(lost=[0])
    assert dict(run([[member()]], engine.engine, board))[0][0].selected == 2
    assert engine.sizes == [1, 1]


def test_what_has_not_come_back_is_dropped_when_asked_to_stop(
    workplace: Path, board: Board
) -> None:
    stacks = [[member("seed=0")], [member("seed=1")]]
    engine = Here(hanging=[1])
    found = {}
    for index, results in run(stacks, engine.engine, board):
        found[index] = results
        board.stop()
    assert found[0][0].selected == 2
    assert found[1][0] == Failure("stopped before it came back from the cluster", killed=True)
    assert engine.cancelled


def test_a_machine_with_another_table_says_so(workplace: Path) -> None:
    version = read_table(make_settings().data.path).data_version
    order, _ = _order([replace(member(), version="0123456789abcdef")])
    (failure,) = _work(order, None)
    assert re.search(
        rf"machine {socket.gethostname()}: .*data/features/full has data version {version}, not "
        "0123456789abcdef: run `dvc pull`",
        failure.reason,
    )


def test_a_worker_reads_a_table_that_was_made_anew(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    before = _work(*_order([member()]))[0]
    file = tmp_path / "data/features/full/table.json"
    content = json.loads(file.read_text())
    train = tmp_path / "data/features/full/train.parquet"
    rows = content["rows"]
    rows["train"], rows["validation"] = rows["validation"], rows["train"]
    train.rename(train.with_name("x"))
    train.with_name("validation.parquet").rename(train)
    train.with_name("x").rename(train.with_name("validation.parquet"))
    write_json(file, content | {"data_version": "anew"})
    after = _work(*_order([member()]))[0]
    assert (after.train_rows, after.val_rows) == (before.val_rows, before.train_rows)


@pytest.mark.parametrize(
    ("backend", "address", "said"),
    [
        ("spark", None, "must be one of loky, dask, ray, submitit"),
        ("dask", None, "hydra.launcher.address is missing"),
        ("ray", "127.0.0.1:9", r"address=127.0.0.1:9: .*refused; Ray needs that of its head node"),
        ("ray", "ray://127.0.0.1:9", "127.0.0.1:9: .*refused"),
        ("ray", "somewhere", "address=somewhere: .*; Ray needs that of its head node"),
    ],
)
def test_what_cannot_be_reached_is_said(backend: str, address: str | None, said: str) -> None:
    if backend != "spark":
        pytest.importorskip(BACKENDS[backend][0])
    with pytest.raises(ConfigError, match=said), connect(backend, address):
        pass


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"ray is not installed here; `pip install .*cluster"):
        connect("ray")


def test_slurm_that_is_not_there_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ConfigError, match="backend=submitit"), connect("submitit", "slurm"):
        pass
    assert list(Path("multirun/submitit").iterdir()) == []


@pytest.mark.parametrize(
    ("needs", "slots"),
    [
        ({"num_cpus": 1}, 12),
        ({"num_cpus": 1, "num_gpus": 0}, 12),
        ({"num_cpus": 2, "num_gpus": 1}, 4),
        ({"num_cpus": 5, "num_gpus": 0.5}, 2),
    ],
)
def test_rays_cores_and_gpus_say_how_many_stacks_train_at_once(
    needs: dict[str, float], slots: int
) -> None:
    assert _ray_slots({"CPU": 12.0, "GPU": 4.0, "memory": 1e9}, needs) == slots


def test_a_ray_cluster_without_a_gpu_is_refused() -> None:
    said = "no stack fits into the Ray cluster: each needs 1 CPU and 1 GPU, it has .*'CPU': 2.0"
    with pytest.raises(ConfigError, match=said):
        _ray_slots({"CPU": 2.0}, {"num_cpus": 1, "num_gpus": 1})


@pytest.mark.parametrize("file", PRESETS, ids=lambda p: p.stem)
def test_a_preset_composes(file: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found = compose("train", [f"hydra/launcher={file.stem}"], return_hydra_config=True)
    launcher = found.hydra.launcher
    assert launcher._target_.endswith(".StackLauncher")
    assert launcher.backend == {"slurm": "submitit"}.get(file.stem, file.stem)
    assert file.read_text().startswith(f"# python -m bikefit.train -m hydra/launcher={file.stem}")


# ---- clusters of this machine, one worker killed in the middle ----

LAYERS = """[
  {{name: hidden.linear, _target_: torch.nn.Linear, out_features: 4}},
  {{name: hidden.relu, _target_: torch.nn.ReLU}},
  {{name: deadly, _target_: deadly.Once, spared: {spared}, marker: "{marker}", node: {node}}},
  {{name: output.linear, _target_: torch.nn.Linear, out_features: 1}}]"""


def deadly_jobs(marker: Path, node: bool, *overrides: str) -> list[Job]:
    """Two runs, the first of which to come to its 20th step kills its worker; one diverges."""
    layers = " ".join(
        LAYERS.format(spared=os.getpid(), marker=marker, node=str(node).lower()).split()
    )
    given = ["network=custom", f"network.layers={layers}", "network.allow=[deadly]",
             "training.epochs=6", "training.batch_size=64", *overrides]  # fmt: skip
    found = [Job(make_settings(*given, f"seed={seed}"), f"seed={seed}") for seed in (0, 1)]
    wild = make_settings(*given, "optimizer=sgd", "optimizer.lr=1e12")
    return [*found, Job(wild, "wild")]


class Counted(Live):
    """Is kept, so that a test can ask how many epochs came through files or queues."""

    made: ClassVar[list[Counted]] = []

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.made.append(self)


@pytest.mark.slow(seconds=35)
@pytest.mark.filterwarnings("default")  # of the engines' own code
@pytest.mark.parametrize("backend", ["dask", "ray", "submitit"])
def test_a_worker_that_dies_costs_no_run(
    backend: str, workplace: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(BACKENDS[backend][0], reason="the extra `cluster` is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), TESTS]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    if backend == "submitit":  # waits for the result of who died, should the disk be slow
        monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)
    marker, node = workplace / "died", backend == "ray"
    Counted.made.clear()
    with (
        clusters.CLUSTERS[backend]() as (address, options),
        connect(backend, address, options, 2) as engine,
        monkeypatch.context() as patch,
    ):
        assert engine is not None
        if backend != "submitit":  # whose machines tell epochs through the folder that they share
            _epochs_come_from_machines_that_share_no_folder(engine, board)
        patch.setattr(jobs, "Live", Counted)
        there = jobs.train(deadly_jobs(marker, node), None, stack_size=2, engine=engine)
    assert marker.exists(), "no worker died"
    # told apart from the results: that is how the bar moves and curves grow
    assert Counted.made[0].epochs() > 0
    here_jobs = deadly_jobs(marker, node, "rerun=true")
    here = jobs.train(here_jobs, None, processes=1, stack_size=2)
    assert there[:2] == pytest.approx(here[:2], rel=1e-5)
    assert isinstance(there[2], MemberError)
    assert str(there[2]) == str(here[2])


def _epochs_come_from_machines_that_share_no_folder(engine: Engine, board: Board) -> None:
    elsewhere = Folders(Path.cwd() / "nowhere", Path.cwd() / "nowhere/epochs")
    stack = [
        replace(member("training.epochs=400", f"seed={s}"), fingerprint=f"{s}") for s in (0, 1)
    ]
    with Live(Path("checkpoints"), engine.drain) as live:
        ((_, results),) = run([stack], engine, board, elsewhere)
        assert [len(result.metrics["val/loss"]) for result in results] == [400, 400]
        assert 0 < live.epochs() <= 800
        assert not Path("nowhere").exists()


@pytest.mark.slow(seconds=15)
def test_the_command_runs_a_sweep_on_another_engine(workplace: Path) -> None:
    pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
    done = commands.run(
        "-m", "bikefit.train", "-m", *QUICK, "seed=0,1", "hydra/launcher=slurm",
        "hydra.launcher.address=local", "hydra.launcher.options.mem_gb=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = reading.read_runs(reading.latest_sweep())
    assert runs["status"].tolist() == ["FINISHED", "FINISHED"]
