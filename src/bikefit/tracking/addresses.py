"""Addresses of stores: what is wrong with one. Importing this module does not import MLflow."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT = "sqlite:///mlflow.db"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
DRIVERS = {
    "psycopg2": "pip install -c constraints.txt -e '.[server]'",
    "psycopg": "pip install 'psycopg[binary]'",
    "MySQLdb": "pip install pymysql` and write `mysql+pymysql://…",
}
"""Commands that install a driver with another name, by the module that is missing."""

MISTAKES = {
    r"postgres:(.*)": "has an unknown scheme; write postgresql:{}",
    r"([\w./-]+\.(?:db|sqlite3?))": "has no scheme; write sqlite:///{}",
    r"((?:localhost|[\w.-]+:\d+|[\w-]+(?:\.[\w-]+){2,})(?:/.*)?)": "has no scheme; write http://{}",
    r"file:.*|[^:]*|[./].*|[A-Za-z]:[\\/].*": (
        "is a folder, in which MLflow no longer stores runs; set MLFLOW_TRACKING_URI="
        "sqlite:///mlflow.db (`mlflow migrate-filestore` copies the runs of a folder)"
    ),
    r"([^:]*):.*": (
        "has the unknown scheme {}; write sqlite:///mlflow.db, http://host:5000 or "
        "postgresql://user:password@host/database"
    ),
}
"""What is wrong with an address, by the first pattern that it has, and what to write."""


def database_file(address: str) -> Path | None:
    """Return the file of an SQLite database; None for another store."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(address.removeprefix("sqlite:///").partition("?")[0])


def mistake(address: str, other_schemes: Collection[str] = ()) -> str:
    """Return what is wrong with the address of a store and what to write; "" if it can be used.

    Plugins of MLflow allow ``other_schemes``.
    """
    if address != address.strip("\"' \r\n\t"):
        return "has spaces or quotes at its ends; remove them"
    scheme = address.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return _mistake_of_server(address)
    if scheme.partition("+")[0] in DATABASES:
        return _mistake_of_database(address, scheme)
    if scheme in other_schemes and scheme != "file":
        return ""
    matches = ((re.fullmatch(pattern, address), text) for pattern, text in MISTAKES.items())
    return next(text.format(*match.groups()) for match, text in matches if match)


def _mistake_of_server(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"cannot be read ({error}); write http://host:5000"
    if not host:
        rest = address.partition(":")[2].strip("/")
        return f"has no host; write {parts.scheme or 'http'}://{rest or 'host:5000'}"
    if parts.query or parts.fragment:
        return f"is the address of a page; write {parts.scheme}://{parts.netloc}{parts.path}"
    return ""


def _mistake_of_database(address: str, scheme: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    if scheme.startswith("sqlite"):
        return _mistake_of_file(address)
    try:
        url = make_url(address)
        if "@" in (url.host or ""):
            return "has two @; write %40 for an @ in the password"
        url.get_dialect().import_dbapi()
    except ImportError as error:
        command = DRIVERS.get(error.name or "", f"pip install {error.name}")
        return f"needs the package {error.name}, which is not installed: `{command}`"
    except (SQLAlchemyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return f"cannot be read ({reason}); write {scheme}://user:password@host:port/database"
    return ""


def _mistake_of_file(address: str) -> str:
    file = database_file(address)
    if file is None:
        name = re.sub(r"^[^:]*:/*", "", address)
        return f"has no file after three slashes; write sqlite:///{name or 'mlflow.db'}"
    if file.name in ("", ":memory:"):
        return "is lost when the command ends; write sqlite:///mlflow.db"
    if str(file).startswith("file:"):
        return f"contains file:; write sqlite:///{str(file).removeprefix('file:')}"
    if file.is_dir():
        return f"is a folder; write sqlite:///{file / 'mlflow.db'}"
    if file.is_file():
        with file.open("rb") as opened:
            if opened.read(15) not in (b"", b"SQLite format 3"):
                return "is no SQLite database; write the address of another file"
    return ""
