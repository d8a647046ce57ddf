"""The SQLite file beneath MLflow: readers beside a writer, and a folder that can be moved.

MLflow writes the absolute path of every run's artifacts into its database, so a project that is
moved or copied loses them, or shows those of the original. MLflow itself takes a relative path
as one from the current folder, which for a plain ``mlflow ui`` is the project's root.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS = "mlruns"
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
WAIT = 60  # s for others that write


def write_ahead(database: Path) -> None:
    """Let readers read while a run is written (SQLite's WAL; stays with the file)."""
    with closing(sqlite3.connect(database, timeout=WAIT)) as connection:
        connection.execute("PRAGMA journal_mode=wal")


def relative_locations(database: Path) -> int:
    """Write artifact locations below ``mlruns`` beside the database relative to its folder.

    A location in another folder is taken for the place from which this one was moved or copied,
    unless it exists there and not here. Returns how many locations were changed.
    """
    folder = database.parent.resolve()
    with closing(sqlite3.connect(database, timeout=WAIT)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        changes = [
            (table, column, relative, old)
            for table, column in LOCATIONS
            if table in tables
            for (old,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
            if old and (relative := _relative(old, folder))
        ]
        for table, column, relative, old in changes:
            change = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
            connection.execute(change, (relative, old))
    return len(changes)


def model_files(uri: str, database: Path) -> Path | None:
    """Return where the files of a registered model lie, asked of the database alone.

    Args:
        uri: of a version by number or alias, like ``models:/bikefit@champion``.
        database: with its artifacts on this machine.

    Returns:
        The folder that MLflow calls the model's artifacts; None where only MLflow can tell.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, number = (name, "", "") if alias else name.partition("/")
    named = (
        "SELECT storage_location FROM model_versions LEFT JOIN registered_model_aliases AS a "
        "USING (name, version) WHERE name = ? AND (a.alias = ? OR version = ?)"
    )
    try:
        with closing(sqlite3.connect(database, timeout=WAIT)) as connection:
            found = connection.execute(named, (name, alias, number)).fetchone()
    except sqlite3.Error:  # tables of another version of MLflow
        return None
    if not found or not found[0]:
        return None
    folder = database.parent / str(found[0])  # an absolute location stays as it is
    return folder if folder.is_dir() else None


def _relative(location: str, folder: Path) -> str | None:
    """Return a local absolute location as one relative to the folder; None to leave it."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    old = Path(unquote(parts.path) if parts.scheme else location)
    if not old.is_absolute() or ARTIFACTS not in old.parts:
        return None
    place = len(old.parts) - 1 - old.parts[::-1].index(ARTIFACTS)
    relative = Path(*old.parts[place:])
    elsewhere = Path(*old.parts[:place]) != folder
    if elsewhere and old.exists() and not (folder / relative).exists():
        return None
    return relative.as_posix()
