"""Serve MLflow's pages and print the addresses of the views: `python -m bikefit.ui`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from bikefit.errors import run_command

HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    If ``MLFLOW_TRACKING_URI`` is a server, only the addresses of the views are printed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.ui", description="Show all runs in MLflow."
    )
    parser.add_argument("--port", type=int, default=5000, help=f"port on {HOST}")
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


if __name__ == "__main__":
    sys.exit(main())
