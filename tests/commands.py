"""Commands forked from a process that has loaded their libraries.

Started anew, a command spends most of its time on imports, which most tests that start one do not
ask about. From its first line on it does the same. But what is read at the start (a
variable of Python, the seed of hashes) is that of the process it is forked from, one for all: tests
of the start, or of a copy of the code, start Python anew, and so does `make faults`, which sets
`forking` to False.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import json
import multiprocessing.util
import os
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np

LOADED = (
    "alembic.command", "bikefit.comparison.conclude", "bikefit.comparison.report",
    "bikefit.nn.kernels", "bikefit.sweeps.cluster", "bikefit.sweeps.command",
    "bikefit.training.fit", "hydra", "mlflow.server",
    "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.ensemble",
)  # fmt: skip
NUMBER = struct.Struct("q")
forking = sys.platform == "linux"


class Command:
    """A command under way, with what tests use of a `Popen`.

    Args:
        answer: says its process id and, when it has ended, its status.
    """

    def __init__(self, answer: int) -> None:
        self._answer = answer
        self.returncode: int | None = None
        self.pid = self._read()

    def _read(self) -> int:
        (number,) = NUMBER.unpack(os.read(self._answer, NUMBER.size))
        return int(number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status."""
        if self.returncode is None:
            if not select.select([self._answer], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = self._read()
            os.close(self._answer)
        return self.returncode

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def kill(self) -> None:
        """Kill it, and nothing that it has started."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def start(
    arguments: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None,
    stdout: IO[Any] | int = subprocess.DEVNULL, stderr: IO[Any] | int = subprocess.STDOUT,
) -> Command | subprocess.Popen[bytes]:  # fmt: skip
    """Start `python` with arguments that begin with `-m` or `-c`, in a session of its own."""
    if not forking:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
            stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    words = [sys.executable, *arguments]
    sys.audit("subprocess.Popen", sys.executable, words, cwd, env)  # as if it were started anew
    asked = {
        "arguments": [*map(str, arguments)], "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ if env is None else env),
    }  # fmt: skip
    with Path(os.devnull).open("r+b") as null:
        out = null if stdout == subprocess.DEVNULL else stdout
        streams = [null, out, out if stderr == subprocess.STDOUT else stderr]
        ours, theirs = os.pipe()
        numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
        socket.send_fds(_loaded(), [json.dumps(asked).encode()], [*numbers, theirs])
        os.close(theirs)
    return Command(ours)


def run(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python` with arguments that begin with `-m` or `-c`, and keep what it says."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        status = start(arguments, cwd, env, out, err).wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(arguments), status, out.read(), err.read())


@cache
def _loaded() -> socket.socket:
    """Connect to the process that commands are forked from, one for all processes of pytest."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
    address = f"{gettempdir()}/commands-{run}"
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for _ in range(100):
        if asking.connect_ex(address) == 0:
            atexit.register(asking.close)
            return asking
        _load(address)
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at {address}: remove it")


def _load(address: str) -> None:
    """Start that process, unless another has just done so; it ends when nobody can ask any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        try:
            listening.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return
            raise
        listening.listen()
        listening.set_inheritable(True)
        # the last word is what a command looks for among its children, which have our words
        words = [sys.executable, __file__, str(listening.fileno()), "multiprocessing.forkserver"]
        os.posix_spawn(sys.executable, words, os.environ | {"OMP_NUM_THREADS": "1"}, setsid=True)


def _serve(door: socket.socket) -> dict[str, Any]:
    """Fork a process for each command; what is returned, in that process, is its command."""
    asking = [door.accept()[0]]
    answers: dict[int, int] = {}
    while asking:
        ready, _, _ = select.select([door, *asking], [], [], 0.01 if answers else None)
        for one in ready:
            if one is door:
                asking.append(door.accept()[0])
                continue
            said, files, _, _ = socket.recv_fds(one, 2**20, 4)
            if not said:
                asking.remove(one)
                one.close()
            elif _forked(files, answers):
                return dict(json.loads(said))
        _tell_ends(answers)
    Path(door.getsockname()).unlink()
    sys.exit()  # nobody can ask any more


def _forked(files: Sequence[int], answers: dict[int, int]) -> bool:
    """Fork a process with these streams, and note who waits for its end; True in that process."""
    *streams, answer = files
    pid = os.fork()
    if not pid:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        _keep(())
        return True
    for file in streams:
        os.close(file)
    answers[pid] = answer
    os.write(answer, NUMBER.pack(pid))
    return False


def _tell_ends(answers: dict[int, int]) -> None:
    """Tell who waits for commands that have ended."""
    for pid in list(answers):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(BrokenPipeError):
                os.write(answers[pid], NUMBER.pack(os.waitstatus_to_exitcode(status)))
            os.close(answers.pop(pid))


def _keep(files: Sequence[int]) -> None:
    """Close all files but the standard streams and these."""
    low = 3
    for file in [*sorted(files), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(low, file)
        low = file + 1


def _fork_server(path: str, arguments: Sequence[str], files: Sequence[int]) -> int:
    """Fork the server of worker processes, too; whatever else is started is started anew."""
    if "multiprocessing.forkserver" not in arguments[-1]:
        return _spawn(path, arguments, files)
    pid = os.fork()
    if not pid:
        try:
            _keep(files)
            sys.modules["__main__"] = types.ModuleType("__main__")  # workers load the command's
            exec(arguments[-1], {})  # noqa: S102
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(0)
    return pid


_spawn = multiprocessing.util.spawnv_passfds


def _become(arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
    """Do in this process what `python` would do with these arguments."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    given = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [cwd, *given, *(path for path in sys.path[1:] if path not in given)]
    importlib.invalidate_caches()
    random.seed()
    np.random.seed()
    multiprocessing.util.spawnv_passfds = _fork_server
    flag, what, *rest = arguments
    sys.argv = [what, *rest]
    if flag == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(what, main.__dict__)  # noqa: S102


if __name__ == "__main__":
    gc.disable()
    for module in LOADED:
        importlib.import_module(module)
    sys.modules["bikefit.nn.kernels"].prepare()
    gc.freeze()
    gc.enable()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    status: object = 1
    try:
        _become(**asked)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:  # what Python does at its end, but for a second of taking apart what was loaded
        if isinstance(status, str):
            print(status, file=sys.stderr)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)
