"""Engines: where stacks are trained, each an executor of :mod:`concurrent.futures`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any

from bikefit.config import ConfigError
from bikefit.sweeps import forkserver
from bikefit.training.worker import initialize_worker

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Engine:
    """An executor, and the number of stacks that it trains at the same time."""

    executor: Executor
    slots: int


class WorkerProcesses(ThreadPoolExecutor):
    """An executor with one worker process per slot.

    Each slot has a thread and a process. If the process is killed, its call raises
    BrokenProcessPool, and the next call in the slot starts another process.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        forkserver.start()
        self.pools = [_single_process(slot) for slot in range(slots)]
        self.free: SimpleQueue[int] = SimpleQueue()
        for slot in range(slots):
            self.free.put(slot)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a worker process."""
        return super().submit(self._call, fn, *args, **kwargs)

    def _call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        slot = self.free.get()
        try:
            return self.pools[slot].submit(fn, *args, **kwargs).result()
        except BrokenProcessPool:
            self.pools[slot].shutdown()
            self.pools[slot] = _single_process(slot)
            raise
        finally:
            self.free.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for running calls and end the processes."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for pool in self.pools:
            pool.shutdown(wait)


def _single_process(slot: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("forkserver"), initialize_worker, (slot,))


@contextmanager
def local_engine(slots: int) -> Iterator[Engine]:
    """Yield an engine of this machine."""
    with WorkerProcesses(slots) as executor:
        yield Engine(executor, slots)


def connect(
    backend: str,
    address: str | None = None,
    options: Options | None = None,
    processes: int | None = None,
) -> AbstractContextManager[Engine]:
    """Return a context manager that yields the engine of a cluster or of this machine.

    The arguments are the keys of ``hydra.launcher``; this machine needs the number of processes. A
    wrong key, a missing package or an address that does not answer raise a ConfigError.
    """
    if backend == "local":
        assert processes is not None
        return local_engine(processes)
    if backend not in BACKENDS:
        allowed = ", ".join(("local", *BACKENDS))
        raise ConfigError(f"hydra.launcher.backend={backend}: must be one of {allowed}")
    package, engine = BACKENDS[backend]
    try:
        import_module(package)
    except ImportError:
        raise ConfigError(
            f"hydra.launcher.backend={backend}: {package} is not installed here; "
            "run `pip install -c constraints.txt -e '.[cluster]'`"
        ) from None
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    return engine(address, chosen, processes)


@contextmanager
def _dask(address: Any, options: Options, processes: int | None) -> Iterator[Engine]:
    from distributed import Client

    if address is None:
        raise ConfigError(
            "hydra.launcher.address is missing: give the address that `dask scheduler` prints, "
            "such as tcp://host:8786"
        )
    try:
        client = Client(address, set_as_default=False, **options)
    except OSError as error:
        raise ConfigError(f"hydra.launcher.address={address}: {error}") from None
    with client:
        threads = client.nthreads()
        if any(count > 1 for count in threads.values()):  # torch's settings are per process
            raise ConfigError(
                f"{address} has workers with several threads: start them with `dask worker "
                "--nthreads 1 --nworkers …`, one process per stack"
            )
        executor = client.get_executor(pure=False)
        yield Engine(executor, processes or max(1, len(threads)))
        executor.shutdown(wait=False)


@contextmanager
def _slurm(address: str | None, options: Options, processes: int | None) -> Iterator[Engine]:
    from dask_jobqueue import SLURMCluster

    if processes is None:
        raise ConfigError("hydra.launcher.processes is missing: the number of Slurm jobs")
    with SLURMCluster(**{"cores": 1, "processes": 1} | dict(options)) as cluster:
        cluster.adapt(minimum_jobs=processes, maximum_jobs=processes)  # replaces lost jobs
        with _dask(cluster, {}, processes) as engine:
            yield engine


# Package and context manager by the name of the backend.
BACKENDS = {
    "dask": ("distributed", _dask),
    "slurm": ("dask_jobqueue", _slurm),
}
