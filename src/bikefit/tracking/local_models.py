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

DEFAULT = "sqlite:///mlflow.db"


def find_folder(uri: str) -> Path | None:
    """Return the folder of a registered model's files; None if MLflow has to be asked."""
    database = _database()
    if database is None or "mlflow" in sys.modules:  # which may have set another store
        return None
    try:
        file = _file(database)
        stored = [database, database.with_name(f"{database.name}-wal")]
        if file.stat().st_mtime_ns <= max(f.stat().st_mtime_ns for f in stored if f.exists()):
            return None
        folder = json.loads(file.read_text(encoding="utf-8")).get(uri)
    except FileNotFoundError:
        return None
    return database.parent / folder if folder else None


def remember_folder(uri: str, folder: Path) -> None:
    """Write the folder of a registered model beside the database, if the store is a database."""
    database = _database()
    if database is None:
        return
    with closing(sqlite3.connect(database)) as connection:
        # Otherwise the database would change once more when this process ends.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with suppress(OSError):  # without the file, finding the model is only slower
        write_json(_file(database), {uri: os.path.relpath(folder, database.parent)})


def _database() -> Path | None:
    address = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT)
    database = Path(address.removeprefix("sqlite:///"))
    return database if address.startswith("sqlite:///") and database.is_file() else None


def _file(database: Path) -> Path:
    return database.with_name(f"{database.name}.models.json")
