"""Show all runs in MLflow, opened on the comparison: `python -m bikefit.ui`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

PATIENCE = 120.0  # s until MLflow must answer: it takes half a minute with a new database


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where the views are, serve MLflow's pages until Ctrl-C, return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.ui", description="Show all runs in MLflow."
    )
    parser.add_argument("--port", type=int, default=5000, help="of 127.0.0.1")
    parser.add_argument("--no-browser", action="store_true", help="print the addresses alone")
    options = parser.parse_args(arguments)
    pages = f"http://127.0.0.1:{options.port}"
    first = _print_views(pages)
    if not options.no_browser and _has_screen():
        threading.Thread(target=_show, args=(pages, first), daemon=True).start()
    command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(options.port)]
    # without its processes for jobs, of which there are none here
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    try:
        return subprocess.run(
            [sys.executable, "-m", *command], check=False, env=environment
        ).returncode
    except KeyboardInterrupt:
        return 0


def _print_views(pages: str) -> str:
    """Print the views of the latest sweep and return the address of the first."""
    from bikefit import tracking

    try:
        views = tracking.view_links(tracking.latest_sweep(), pages)
    except tracking.TrackingError as error:  # none yet: the plain pages say so too
        print(error)
        return pages
    for name, link in views.items():
        print(f"{name}: {link}", flush=True)
    return next(iter(views.values()))


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
