"""Stacks on the machines of others: Dask, Ray, or Slurm through submitit.

An engine takes stacks and gives handles that say when they are done. A stack that is lost with
its machine is done again elsewhere, and Ctrl-C drops what has not come back: no file need be shared
but the tables. Where the folder of checkpoints is shared, what is lost goes on at its checkpoint.
Epochs come through that folder or through a queue of Dask or Ray.
"""

from __future__ import annotations

import logging
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from bikefit.config import ConfigError
from bikefit.sweeps.halving import Results, cut, fit, halves
from bikefit.sweeps.processes import Board
from bikefit.training.epochs import Folders, Part
from bikefit.training.members import Failure, Member, MemberResult

log = logging.getLogger(__name__)

POLL, LONGEST = 0.1, 10.0  # s between two looks at what is done: longer for many stacks
PATIENCE = 10.0  # s for an address to answer
WATCH = 60  # s, at most, between two questions to Slurm's controller
ARRAY = 1000  # tasks in a job array that Slurm takes unless somebody has changed it
LOGS = Path("multirun/submitit")  # where Slurm's tasks leave what they print, a folder a sweep
Stacks = Sequence[Sequence[Member]]
Order = tuple[list[Member], Folders | None]  # of `_work`, without its queue


class Handle(Protocol):
    """A stack on its way."""

    def done(self) -> bool:
        """Say whether it has come back or is lost."""

    def result(self) -> Results:
        """Return its members' results, or raise what lost it."""


@dataclass(frozen=True)
class Engine:
    """Where stacks are trained.

    Args:
        slots: how many stacks are trained at once; None where a queue decides.
        submit: starts to train stacks.
        cancel: forgets what has been submitted.
        drain: takes the epochs that have come from machines that share no folder.
    """

    slots: int | None
    submit: Callable[[Sequence[Order]], Sequence[Handle]]
    cancel: Callable[[], Any]
    drain: Callable[[], Sequence[Part]] = tuple


def connect(
    backend: str, address: str | None = None, options: Mapping[str, Any] | None = None,
    processes: int | None = None,
) -> AbstractContextManager[Engine | None]:  # fmt: skip
    """Reach an engine; what was submitted and has not come back is cancelled at the end.

    Args:
        backend: ``dask``, ``ray`` or ``submitit``; ``loky`` is no engine but this machine: None.
        address: of Dask's scheduler (``tcp://host:8786``); of a Ray cluster, None for the one
            that this machine belongs to; of submitit its executor, None for ``slurm``.
        options: for Dask's client, Ray's tasks, or Slurm (``slurm_partition``, ``timeout_min``).
        processes: most stacks at once, None for what the engine has.

    Raises:
        ConfigError: there is no such backend, or its package is not installed.
    """
    if backend == "loky":
        return nullcontext()
    if backend not in BACKENDS:
        known = ", ".join(("loky", *BACKENDS))
        raise ConfigError(f"hydra.launcher.backend={backend}: must be one of {known}")
    package, engine = BACKENDS[backend]
    try:
        import_module(package)
    except ImportError:
        raise ConfigError(
            f"hydra.launcher.backend={backend}: {package} is not installed here; "
            "`pip install -c constraints.txt -e '.[cluster]'` brings it"
        ) from None
    given = {key: value for key, value in (options or {}).items() if value is not None}
    return engine(address, given, processes)


@contextmanager
def _dask(address: str | None, options: dict[str, Any], processes: int | None) -> Iterator[Engine]:
    from distributed import Client, Queue

    if address is None:
        raise ConfigError(
            "hydra.launcher.address is missing: Dask needs that of its scheduler, as `dask "
            "scheduler` prints it, like tcp://host:8786"
        )
    try:
        client = Client(address, set_as_default=False, **options)
    except OSError as error:
        raise ConfigError(f"hydra.launcher.address={address}: {error}") from None
    with client:
        threads = client.nthreads()
        # Lightning and torch's settings belong to a whole process.
        if any(count > 1 for count in threads.values()):
            raise ConfigError(
                f"{address} has workers with several threads: start them with `dask worker "
                "--nthreads 1 --nworkers …`, one process for each stack"
            )
        futures: list[Any] = []
        queue: Any = Queue(f"bikefit-{uuid4().hex}", client=client)

        def submit(orders: Sequence[Order]) -> list[Any]:
            found = [client.submit(_work, *order, queue, pure=False) for order in orders]
            futures.extend(found)
            return found

        try:
            slots = processes or max(1, len(threads))
            yield Engine(
                slots, submit, lambda: client.cancel(futures), lambda: queue.get(batch=True)
            )
        finally:
            client.cancel(futures)
            queue.close()


@contextmanager
def _ray(address: str | None, options: dict[str, Any], processes: int | None) -> Iterator[Engine]:
    import ray
    from ray.util.queue import Queue

    address = address or "auto"  # the one that this machine belongs to
    _answers(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"hydra.launcher.address={address}: {error}") from None
    needs = {"num_cpus": 1, "max_retries": 3} | options
    task = ray.remote(**needs)(_work)
    references: list[Any] = []
    queue: Any = Queue()

    def submit(orders: Sequence[Order]) -> list[Any]:
        found = [task.remote(*order, queue) for order in orders]
        references.extend(found)
        return [reference.future() for reference in found]

    def cancel() -> None:
        for reference in references:
            ray.cancel(reference, force=True)

    try:
        slots = processes or _ray_slots(ray.cluster_resources(), needs)
        yield Engine(slots, submit, cancel, lambda: queue.get_nowait_batch(queue.qsize()))
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try it for many minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"hydra.launcher.address={address}: {error}; Ray needs that of its head node, as "
            "`ray start --head` prints it, like host:6379"
        ) from None


def _ray_slots(has: Mapping[str, float], needs: Mapping[str, Any]) -> int:
    """Count the stacks that a cluster's cores and GPUs can take at once."""
    each = {"CPU": needs["num_cpus"], "GPU": needs.get("num_gpus", 0)}
    fitting = [int(has.get(kind, 0) // count) for kind, count in each.items() if count]
    slots = min(fitting, default=1)
    if slots == 0:
        wanted = " and ".join(f"{count:g} {kind}" for kind, count in each.items() if count)
        raise ConfigError(f"no stack fits into the Ray cluster: each needs {wanted}, it has {has}")
    return slots


@contextmanager
def _submitit(
    address: str | None, options: dict[str, Any], processes: int | None
) -> Iterator[Engine]:
    from submitit import AutoExecutor
    from submitit.slurm.slurm import SlurmJob

    SlurmJob.watcher = _controller_watcher()
    LOGS.mkdir(parents=True, exist_ok=True)
    # Numbers of jobs come again, and a result left by an earlier one would be taken for its own.
    folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d_%H-%M-%S_"), dir=LOGS))
    try:
        executor = AutoExecutor(folder, cluster=address or "slurm")
        # What is lost is sent again from here; by Slurm, too, it would train twice.
        requeue = {"slurm_additional_parameters": {"no_requeue": True}}
        most = {"slurm_array_parallelism": processes} if processes else {}
        executor.update_parameters(**{"name": "bikefit"} | requeue | most | options)
    except (RuntimeError, ValueError, NameError) as error:
        folder.rmdir()
        raise ConfigError(f"hydra.launcher.backend=submitit: {error}") from None
    jobs: list[Any] = []

    def submit(orders: Sequence[Order]) -> list[Any]:
        arrays = [orders[start : start + ARRAY] for start in range(0, len(orders), ARRAY)]
        found = [  # one stack a task
            job for array in arrays for job in executor.map_array(_work, *zip(*array, strict=True))
        ]
        jobs.extend(found)
        return found

    def cancel() -> None:
        for job in jobs:
            if not job.done():
                job.cancel(check=False)

    try:
        yield Engine(processes, submit, cancel)
    finally:
        cancel()
        for file in folder.glob("*.pkl"):  # stacks and results; what was printed stays
            file.unlink(missing_ok=True)


def _controller_watcher() -> Any:
    """Make what tells submitit how Slurm's jobs are: it asks the controller.

    submitit would ask ``sacct``. Without the service that keeps accounts, which small clusters
    do not have, that fails, and a task that was killed would be waited for without end.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Controller(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            if not self._registered - self._finished:
                return None
            return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            states = dict(line.split("|") for line in text.split())
            # Some minutes after its end the controller forgets a job.
            return {job: {"State": states.get(job, "GONE")} for job in self._registered}

    return Controller(delay_s=WATCH)


BACKENDS = {
    "dask": ("distributed", _dask),
    "ray": ("ray", _ray),
    "submitit": ("submitit", _submitit),
}


@dataclass(frozen=True, eq=False)
class _Part:
    """Members of a stack that were sent together.

    Args:
        stack: number of the stack.
        members: their positions in it.
        handle: says when they are done.
        folders: what they have in common with the command.
        lost: whether they were lost with a machine before.
    """

    stack: int
    members: Sequence[int]
    handle: Handle
    folders: Folders | None
    lost: bool


def run(
    stacks: Stacks, engine: Engine, board: Board, folders: Folders | None = None
) -> Iterator[tuple[int, Results]]:
    """Train stacks on an engine, and give each with its members' results as it is done.

    A stack that is lost with its machine, and that the engine itself does not do again, is sent
    once more in two halves, and so on: a machine that dies costs little, and a member that kills
    its machine is found. A member that is lost when alone, for the second time, has failed.
    Halves go on at the stack's last checkpoint where machines share the folder of checkpoints.
    """
    found: list[dict[int, MemberResult | Failure]] = [{} for _ in stacks]
    pending = _send([(i, range(len(stack)), folders, False) for i, stack in enumerate(stacks)],
                    stacks, engine)  # fmt: skip
    while pending and not board.stopping():
        done = [part for part in pending if part.handle.done()]
        pending = [part for part in pending if part not in done]
        for part in done:
            results = _outcome(part)
            if results is None:
                pending += _send(_again(part, stacks[part.stack]), stacks, engine)
                continue
            stack, results_of = stacks[part.stack], found[part.stack]
            results_of |= zip(part.members, results, strict=True)
            board.add(part.stack, sum(stack[m].settings.training.epochs for m in part.members))
            if len(results_of) == len(stack):
                yield part.stack, [results_of[m] for m in range(len(stack))]
        if not done:
            time.sleep(min(LONGEST, POLL * max(1, len(pending) / 20)))
    if pending:
        engine.cancel()
    stopped = Failure("stopped before it came back from the cluster", killed=True)
    for index in dict.fromkeys(part.stack for part in pending):
        yield index, [found[index].get(m, stopped) for m in range(len(stacks[index]))]


Cut = tuple[int, Sequence[int], Folders | None, bool]  # what a part is without its handle


def _again(lost: _Part, stack: Sequence[Member]) -> list[Cut]:
    """Cut in halves what was lost; a member alone stays as it is."""
    if len(lost.members) == 1:
        return [(lost.stack, lost.members, lost.folders, True)]
    parts = cut([stack[m] for m in lost.members], lost.folders)
    return [
        (lost.stack, members, below, True)
        for members, (_, below) in zip(halves(lost.members), parts, strict=True)
    ]


def _send(parts: Sequence[Cut], stacks: Stacks, engine: Engine) -> list[_Part]:
    """Submit parts of stacks: number of the stack, positions in it, folder, whether lost before."""
    if not parts:
        return []
    orders = [_order([stacks[i][m] for m in members], folders) for i, members, folders, _ in parts]
    return [
        _Part(i, members, handle, folders, lost)
        for (i, members, folders, lost), handle in zip(parts, engine.submit(orders), strict=True)
    ]


def _outcome(part: _Part) -> Results | None:
    """Return what came back, None if that is to be tried again.

    `_work` never raises, so an error is one of its machine.
    """
    try:
        return part.handle.result()
    except Exception as error:
        said = " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
        if part.lost and len(part.members) == 1:
            return [Failure(f"lost with its machine again, with nothing beside it: {said}")]
        log.warning(f"{len(part.members)} members were lost with their machine; again: {said}")
        return None


def _order(stack: Sequence[Member], folders: Folders | None = None) -> Order:
    """Members that find their table wherever they are trained, and folders."""
    data = stack[0].settings.data  # all members of a stack read one table
    placed = data.model_copy(update={"root": str(Path(data.root).absolute())})
    members = [
        replace(member, settings=member.settings.model_copy(update={"data": placed}))
        for member in stack
    ]
    return members, folders


def _work(members: Sequence[Member], folders: Folders | None, queue: Any = None) -> Results:
    """Train a stack on the machine that this runs on."""
    return fit(members, folders=folders, put=queue.put if queue is not None else None)
