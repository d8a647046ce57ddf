"""Show all runs in MLflow, opened on the comparison: `python -m bikefit.ui`."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

HOST = "127.0.0.1"
PATIENCE = 120.0  # s until MLflow must answer: it takes half a minute with a new database


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where the views are, serve MLflow's pages until Ctrl-C, return the exit status.

    A tracking server (``MLFLOW_TRACKING_URI=http…``) serves its pages itself: they are opened only.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.ui", description="Show all runs in MLflow."
    )
    parser.add_argument("--port", type=int, default=5000, help=f"of {HOST}")
    parser.add_argument("--no-browser", action="store_true", help="print the addresses alone")
    options = parser.parse_args(arguments)
    from bikefit.tracking import connection, views
    from bikefit.tracking.connection import TrackingError

    server = connection.server()
    pages = server or f"http://{HOST}:{options.port}"
    if server is None and _is_taken(options.port):
        print(f"error: something answers on {pages} already, `make ui` perhaps; "
              "`python -m bikefit.ui --port …` takes another port", file=sys.stderr)  # fmt: skip
        return 1
    try:
        first = _print_views(views.latest_links(pages), pages)
    except TrackingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seen = not options.no_browser and _has_screen()
    if server is not None:
        return int(seen and not webbrowser.open(first))
    if seen:
        threading.Thread(target=_show, args=(pages, first), daemon=True).start()
    return _serve(options.port)


def _is_taken(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex((HOST, port)) == 0


def _print_views(views: dict[str, str], pages: str) -> str:
    """Print the address of each view and return that of the first."""
    if not views:
        print("no runs yet: run `python -m bikefit.train -m …` first; the pages are on")
    for name, link in (views or {"MLflow": pages}).items():
        print(f"{name}: {link}", flush=True)
    return next(iter(views.values()), pages)


def _serve(port: int) -> int:
    """Serve MLflow's pages of the store that training uses until Ctrl-C."""
    command = ["mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    # without its processes for jobs, of which there are none here
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if store := os.environ.get("MLFLOW_TRACKING_URI"):
        environment["MLFLOW_BACKEND_STORE_URI"] = store  # no argument: it may hold a password
    try:
        return subprocess.run(
            [sys.executable, "-m", *command], check=False, env=environment
        ).returncode
    except KeyboardInterrupt:
        return 0


def _has_screen() -> bool:
    """Say whether a browser of this machine can be seen; a terminal's own would disturb."""
    return sys.platform != "linux" or any(os.environ.get(k) for k in ("DISPLAY", "WAYLAND_DISPLAY"))


def _show(pages: str, address: str) -> None:
    """Open a page once MLflow answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(f"{pages}/health", timeout=5):
                webbrowser.open(address)
                return
        except (URLError, OSError):
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
