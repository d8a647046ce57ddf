"""A PostgreSQL server on the loopback address."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_port

PASSWORD = "hush"


@contextmanager
def serving() -> Iterator[str]:
    """Yield the address of a database of the user `bikefit`."""
    pytest.importorskip("psycopg2", reason="the extra `server` is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    owner = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]

    def run(name: str, *arguments: str) -> None:
        command = [*owner, str(programs[-1] / name), *arguments]
        subprocess.run(command, cwd="/", check=True, capture_output=name == "initdb")

    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name) / "database", free_port()
        password = Path(name) / "password"
        password.write_text(PASSWORD)
        folder.mkdir()
        for path in (Path(name), folder, password) if owner else ():
            shutil.chown(path, "postgres")
        options = ["--username", "bikefit", "--auth", "scram-sha-256", "--no-sync"]
        run("initdb", "--pgdata", str(folder), *options, "--pwfile", str(password))
        settings = f"-c port={port} -c unix_socket_directories='' -c fsync=off"
        start = ["--wait", "--silent", "--log", str(folder / "log"), "--options", settings]
        run("pg_ctl", "start", "--pgdata", str(folder), *start)
        try:
            yield f"postgresql://bikefit:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--silent", "--mode", "immediate", "--pgdata", str(folder))
