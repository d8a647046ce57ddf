"""Stacks on the machines of others: Dask, Ray, or Slurm through submitit.

An engine takes stacks and gives handles that say when they are done. A stack that is lost with
its machine is done again elsewhere. Progress counts whole stacks here, and Ctrl-C drops what has
not come back: no file is shared but the tables.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol

from bikefit.config import ConfigError
from bikefit.data.stage import DataError
from bikefit.data.table import read_table
from bikefit.processes import Board, Results, fit
from bikefit.training.folds import cut, read_pool
from bikefit.training.members import Failure, Member

log = logging.getLogger(__name__)

POLL = 0.1  # s between two looks at what is done
ARRAY = 1000  # tasks in a job array that Slurm takes unless somebody has changed it
LOGS = Path("multirun/submitit")  # where Slurm's tasks leave what they print
Stacks = Sequence[Sequence[Member]]


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
        slots: how many stacks are trained at once.
        submit: starts to train stacks.
        cancel: forgets what has been submitted.
    """

    slots: int
    submit: Callable[[Stacks], Sequence[Handle]]
    cancel: Callable[[], Any]


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
    from distributed import Client

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

        def submit(stacks: Stacks) -> list[Any]:
            found = [client.submit(_work, *order, pure=False) for order in map(_order, stacks)]
            futures.extend(found)
            return found

        try:
            yield Engine(processes or max(1, len(threads)), submit, lambda: client.cancel(futures))
        finally:
            client.cancel(futures)


@contextmanager
def _ray(address: str | None, options: dict[str, Any], processes: int | None) -> Iterator[Engine]:
    import ray

    try:
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"hydra.launcher.address={address}: {error}") from None
    task = ray.remote(**{"num_cpus": 1, "max_retries": 3} | options)(_work)
    references: list[Any] = []

    def submit(stacks: Stacks) -> list[Any]:
        found = [task.remote(*order) for order in map(_order, stacks)]
        references.extend(found)
        return [reference.future() for reference in found]

    def cancel() -> None:
        for reference in references:
            ray.cancel(reference, force=True)

    try:
        yield Engine(processes or int(ray.cluster_resources()["CPU"]), submit, cancel)
    finally:
        ray.shutdown()


@contextmanager
def _submitit(
    address: str | None, options: dict[str, Any], processes: int | None
) -> Iterator[Engine]:
    from submitit import AutoExecutor

    try:
        executor = AutoExecutor(LOGS, cluster=address or "slurm")
        most = {"slurm_array_parallelism": processes} if processes else {}
        executor.update_parameters(**{"name": "bikefit"} | most | options)
    except (RuntimeError, ValueError, NameError) as error:
        raise ConfigError(f"hydra.launcher.backend=submitit: {error}") from None
    jobs: list[Any] = []

    def submit(stacks: Stacks) -> list[Any]:
        orders = [_order(stack) for stack in stacks]
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
        yield Engine(processes or 1, submit, cancel)
    finally:
        cancel()


BACKENDS = {
    "dask": ("distributed", _dask),
    "ray": ("ray", _ray),
    "submitit": ("submitit", _submitit),
}


def run(stacks: Stacks, engine: Engine, board: Board) -> Iterator[tuple[int, Results]]:
    """Train stacks on an engine, and give each with its members' results as it is done.

    Dask, Ray and Slurm themselves do a stack again whose machine died. One that they give up is
    tried once more, each member alone; a member that is lost again has failed.
    """
    handles = engine.submit(stacks) if stacks else []
    pending = dict(enumerate(handles))
    while pending and not board.stopping():
        done = [index for index, handle in pending.items() if handle.done()]
        for index in done:
            yield index, _outcome(pending.pop(index), stacks[index], engine)
            board.add(index, sum(m.settings.training.epochs for m in stacks[index]))
        time.sleep(0 if done else POLL)
    if pending:
        engine.cancel()
    for index in pending:
        stopped = Failure("stopped before it came back from the cluster", killed=True)
        yield index, [stopped] * len(stacks[index])


def _outcome(
    handle: Handle, stack: Sequence[Member], engine: Engine, alone: bool = False
) -> Results:
    """What came back of a stack; `_work` never raises, so an error is one of its machine."""
    try:
        return handle.result()
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        if alone:
            return [Failure(f"lost with its machine again, with nothing beside it: {said[-1]}")]
        log.warning(
            f"a stack of {len(stack)} was lost with its machine and is tried again, "
            f"member by member: {said[-1]}"
        )
    singles = [[member] for member in stack]
    handles = engine.submit(singles)
    return [_outcome(h, s, engine, alone=True)[0] for h, s in zip(handles, singles, strict=True)]


def _order(stack: Sequence[Member]) -> tuple[list[Member], str]:
    """Members that find their table wherever they are trained, and the table's data version."""
    data = stack[0].settings.data  # all members of a stack read one table
    placed = data.model_copy(update={"root": str(Path(data.root).absolute())})
    members = [
        replace(member, settings=member.settings.model_copy(update={"data": placed}))
        for member in stack
    ]
    return members, read_table(data.path).data_version


def _work(members: Sequence[Member], version: str) -> Results:
    """Train a stack on the machine that this runs on, if that has the same table."""
    path = members[0].settings.data.path
    try:
        found = read_table(path).data_version
        if found != version:
            raise DataError(f"{path} has data version {found}, not {version}: run `dvc pull`")
    except DataError as error:
        return [Failure(f"machine {gethostname()}: {error}")] * len(members)
    if read_pool(path).table.data_version != version:  # a worker lives longer than a table
        read_pool.cache_clear()
        cut.cache_clear()
    return fit(members)
