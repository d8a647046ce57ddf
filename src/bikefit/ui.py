"""Serve MLflow's pages and print the addresses of the views: `python -m bikefit.ui`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from urllib.request import urlopen

from bikefit.errors import run_command

HOST = "127.0.0.1"
PATIENCE = 120.0  # s to wait for MLflow, which takes half a minute with a new database


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    If ``MLFLOW_TRACKING_URI`` is a server, only the addresses of the views are printed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.ui", description="Show all runs in MLflow."
    )
    parser.add_argument("--port", type=int, default=5000, help=f"port on {HOST}")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    from bikefit.tracking import connection, views

    server = connection.server()
    pages = server or f"http://{HOST}:{options.port}"
    links = views.latest_links(pages)
    if not links:
        print("no runs yet: run `python -m bikefit.train -m …` first; MLflow's pages are on")
        links = {"MLflow": pages}
    for name, link in links.items():
        print(f"{name}: {link}", flush=True)
    if not options.no_browser and _has_screen():
        first = next(iter(links.values()))
        threading.Thread(target=_open, args=(pages, first), daemon=server is None).start()
    return 0 if server else _serve(options.port)


def _serve(port: int) -> int:
    """Serve MLflow's pages of the store that training uses until Ctrl-C."""
    command = ["mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    # MLflow's processes for jobs are not needed.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if store := os.environ.get("MLFLOW_TRACKING_URI"):
        environment["MLFLOW_BACKEND_STORE_URI"] = store  # no argument: it may contain a password
    try:
        return subprocess.call([sys.executable, "-m", *command], env=environment)
    except KeyboardInterrupt:
        return 0


def _has_screen() -> bool:
    """Return whether the machine has a screen, so that no browser opens in the terminal."""
    return sys.platform != "linux" or any(os.environ.get(k) for k in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open(pages: str, address: str) -> None:
    """Open ``address`` in a browser as soon as MLflow answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(f"{pages}/health", timeout=5):
                webbrowser.open(address)
                return
        except OSError:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
