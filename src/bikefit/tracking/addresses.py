"""Addresses of stores: what is wrong with one. Importing this module does not import MLflow."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

DEFAULT = "sqlite:///mlflow.db"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
DRIVERS = {
    "psycopg2": "pip install -c constraints.txt -e '.[server]'",
    "psycopg": "pip install 'psycopg[binary]'",
    "MySQLdb": "pip install pymysql` and write `mysql+pymysql://…",
}
"""Commands that install a driver with another name, by the module that is missing."""

MISTAKES = {
    r"[\s'\"].*|.*[\s'\"]": "has spaces or quotes at its ends; remove them",
    r"https?(?::/*)?": "has no host; write http://host:5000",
    r"(https?):/?([^/].*)": "has no host; write {}://{}",
    r"(https?://[^?#]*)[?#].*": "is the address of a page; write {}",
    r"sqlite:/{0,3}(?::memory:)?": "is lost when the command ends; write sqlite:///mlflow.db",
    r"sqlite(?:\+\w+:///|:///file:|[+\w]*:/{0,2}(?!/))([^?]*).*": (
        "has no file after three slashes; write sqlite:///{}"
    ),
    r"postgres:(.*)": "has an unknown scheme; write postgresql:{}",
    r"([\w./-]+\.(?:db|sqlite3?))": "has no scheme; write sqlite:///{}",
    r"((?:localhost|[\w.-]+:\d+|[\w-]+(?:\.[\w-]+){2,})(?:/.*)?)": "has no scheme; write http://{}",
    r"file:.*|[^:]*|[./].*|[A-Za-z]:[\\/].*": (
        "is a folder, in which MLflow no longer stores runs; set MLFLOW_TRACKING_URI="
        "sqlite:///mlflow.db (`mlflow migrate-filestore` copies the runs of a folder)"
    ),
    rf"(?!(?:https?|{'|'.join(DATABASES)})\b)([^:]*):.*": (
        "has the unknown scheme {}; write sqlite:///mlflow.db, http://host:5000 or "
        "postgresql://user:password@host/database"
    ),
}
"""What is wrong with an address, by the first pattern that it matches, and what to write."""


def database_file(address: str) -> Path | None:
    """Return the file of an SQLite database; None for another store."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(address.removeprefix("sqlite:///").partition("?")[0])


def mistake(address: str, other_schemes: Collection[str] = ()) -> str:
    """Return what is wrong with the address of a store and what to write; "" if it can be used.

    Plugins of MLflow allow ``other_schemes``.
    """
    scheme = address.partition(":")[0].lower()
    if scheme in {*other_schemes} - {"file", "http", "https", *DATABASES}:
        return ""
    for pattern, text in MISTAKES.items():
        if match := re.fullmatch(pattern, address, re.IGNORECASE | re.DOTALL):
            return text.format(*match.groups())
    file = database_file(address)
    return _mistake_of_url(address, scheme) if file is None else _mistake_of_file(file)


def _mistake_of_url(address: str, scheme: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(address)
        if "@" in (url.host or ""):
            return "has two @; write %40 for an @ in the password"
        if not scheme.startswith("http"):
            url.get_dialect().import_dbapi()
    except ImportError as error:
        command = DRIVERS.get(error.name or "", f"pip install {error.name}")
        return f"needs the package {error.name}, which is not installed: `{command}`"
    except (SQLAlchemyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return f"cannot be read ({reason}); write {scheme}://user:password@host:port"
    return ""


def _mistake_of_file(file: Path) -> str:
    if file.is_dir():
        return f"is a folder; write sqlite:///{file / 'mlflow.db'}"
    if file.is_file():
        with file.open("rb") as opened:
            if opened.read(15) not in (b"", b"SQLite format 3"):
                return "is no SQLite database; write the address of another file"
    return ""
