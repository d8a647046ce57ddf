"""Find the files of a registered model without importing MLflow, which takes more than 1 s.

A JSON file beside MLflow's database holds the folder of the model that was last looked up. It is
used only if the database has not changed since.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

from bikefit.data.files import write_json
from bikefit.tracking.addresses import DEFAULT, database_file


def find_folder(uri: str) -> Path | None:
    """Return the stored folder of a registered model; None if only MLflow can tell the folder."""
    database = _database()
    if database is None or "mlflow" in sys.modules:  # a caller may have set another store
        return None
    try:
        file = _folders_file(database)
        stored = [database, database.with_name(f"{database.name}-wal")]
        if file.stat().st_mtime_ns <= max(f.stat().st_mtime_ns for f in stored if f.exists()):
            return None
        folder = json.loads(file.read_text(encoding="utf-8")).get(uri)
    except FileNotFoundError:
        return None
    return database.parent / folder if folder else None


def store_folder(uri: str, folder: Path) -> None:
    """Store the folder of a registered model in a file beside the database, if there is one."""
    database = _database()
    if database is None:
        return
    with closing(sqlite3.connect(database)) as connection:
        # Otherwise the database changes at the end of this process, and the file is outdated.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with suppress(OSError):  # the file only saves time
        write_json(_folders_file(database), {uri: os.path.relpath(folder, database.parent)})


def _database() -> Path | None:
    database = database_file(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT)
    return database if database and database.is_file() else None


def _folders_file(database: Path) -> Path:
    return database.with_name(f"{database.name}.models.json")
