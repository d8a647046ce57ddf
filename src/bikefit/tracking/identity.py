"""Write the identity of the store to `data/store.json`, on which the stage `sweep` depends.

If the store was deleted or is another one, `dvc repro` trains the sweep again.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from bikefit.data.files import write_json
from bikefit.errors import hide_secrets, run_command
from bikefit.tracking.addresses import DEFAULT, database_file

FILE = Path("data/store.json")


def identity() -> str:
    """Return the time at which the database was created (ms since 1970), or a server's address."""
    address = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    database = database_file(address)
    if database is None:
        return hide_secrets(address).rstrip("/")
    try:
        return _creation_time(database)
    except (sqlite3.Error, TypeError):  # it does not exist, or has no tables
        from bikefit.tracking.connection import client  # slow to import

        client()
        return _creation_time(database)


def _creation_time(database: Path) -> str:
    first = "SELECT creation_time FROM experiments ORDER BY experiment_id LIMIT 1"
    read_only = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(read_only, timeout=60, uri=True)) as opened:
        return str(opened.execute(first).fetchone()[0])


def main() -> int:
    """Write the file."""
    return run_command(lambda: write_json(FILE, {"store": identity()}))


if __name__ == "__main__":
    raise SystemExit(main())
