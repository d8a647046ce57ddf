"""MLflow's server as `deploy/server` starts it: PostgreSQL, artifacts through the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port

ROOT = Path(__file__).parents[1]


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the address of a server in a folder of its own."""
    port = str(free_port())
    # PostgreSQL's own user must reach the folder, which pytest's would not allow.
    folder = tempfile.mkdtemp()
    Path(folder).chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        [str(ROOT / "deploy/server"), f"{folder}/server", "127.0.0.1", port],
        env=os.environ | {"PATH": path, "MLFLOW_WORKERS": "2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        shutil.rmtree(folder)


def get(address: str) -> tuple[int, bytes]:
    """What a page answers."""
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.status, answer.read()


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        try:
            if get(f"{address}/health")[0] == 200:
                return
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
    raise AssertionError("the server did not answer")
