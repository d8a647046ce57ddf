"""Faults of what is downloaded and of what stands in the raw table."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import pandas as pd

from bikefit.data import clean
from bikefit.data.clean import read_raw
from bikefit.data.download import download
from bikefit.errors import DataError
from copies import copy_parts
from faults import fault
from faults.hosts import TABLE, params, pinned, sdist, serving
from faults.places import environment, files_of, project, python

BAD_HOSTS = {
    "cut": "IncompleteRead",
    "short": "not a zip file",
    "wrong": "wrong bytes: sha256",
    "page": "not a zip file",
    "error": "500 Server Error",
    "silent": "Read timed out",
    "climbing": "no member hour.csv",
}


@fault("download cut off, wrong bytes or size, host silent, climbing path", times=40)
def bad_host(folder: Path, draw: random.Random) -> int:
    """No source gives the right bytes: the old file stays, and the error tells of each source."""
    kind = draw.choice(sorted(BAD_HOSTS))
    target = folder / "hour.csv"
    target.write_bytes(b"old and good")
    with serving() as host, patch.dict(os.environ, PIP_NO_INDEX="1"):
        try:
            download(params(url=f"{host}/{kind}", timeout=0.3), target)
        except DataError as error:
            said = str(error)
    assert BAD_HOSTS[kind] in said, said
    assert "source distribution bundle 1.0: pip" in said, said  # the next one was tried
    assert "write its path to download.file" in said, said
    return int(files_of(folder) != {"hour.csv": b"old and good"})


@fault("bad download, then the next source", times=8)
def next_source(folder: Path, draw: random.Random) -> int:
    """The official archive fails, and pip brings the table from an index of its own."""
    index, target = folder / "index", folder / "raw/hour.csv"
    index.mkdir()
    target.parent.mkdir()
    target.write_bytes(b"old")
    kind = draw.choice(sorted(BAD_HOSTS))
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    with serving() as host, patch.dict(os.environ, own):
        chosen = params(url=f"{host}/{kind}", timeout=0.3, sdist=pinned(sdist(index)))
        assert download(chosen, target) == "from source distribution bundle 1.0"
    return int(files_of(target.parent) != {"hour.csv": TABLE})


Damage = Callable[[pd.DataFrame, random.Random], tuple[pd.DataFrame, str]]


def _value(column: str, value: object, allowed: str) -> Damage:
    """Put a value into some row; the error must name line, column and value."""

    def damage(raw: pd.DataFrame, draw: random.Random) -> tuple[pd.DataFrame, str]:
        row = draw.randrange(len(raw))
        raw = raw.astype(object)
        raw.loc[row, column] = value
        return raw, f"line {row + 2}, {column} = {str(value)!r}: {allowed}"

    return damage


def _missing(raw: pd.DataFrame, draw: random.Random) -> tuple[pd.DataFrame, str]:
    name = draw.choice(list(clean.RAW))
    return raw.drop(columns=name), f"missing columns {name}"


def _twice(raw: pd.DataFrame, draw: random.Random) -> tuple[pd.DataFrame, str]:
    row = draw.randrange(len(raw))
    said = f"line {len(raw) + 2}, hr = '{raw.loc[row, 'hr']}': this hour of this day is"
    return pd.concat([raw, raw.iloc[[row]]]), said


DAMAGES: dict[str, Damage] = {
    "missing column": _missing,
    "duplicate hour": _twice,
    "no rows": lambda raw, draw: (raw.iloc[:0], "no rows below the header"),
    "text in a number": _value("temp", "warm", "must be a number from 0 to 1"),
    "empty number": _value("cnt", "", "must be a whole number from 0 to"),
    "not finite": _value("hum", "inf", "must be a number from 0 to 1"),
    "impossible hour": _value("hr", 24, "must be a whole number from 0 to 23"),
    "hour below zero": _value("hr", -1, "must be a whole number from 0 to 23"),
    "impossible date": _value("dteday", "2011-02-30", "must be a date like 2011-01-31"),
    "out of range": _value("windspeed", 1.5, "must be a number from 0 to 1"),
    "sum that is none": _value("cnt", 100_000, "must be casual + registered"),
}


@fault("raw table damaged (columns, text, hours, empty)", times=60)
def damaged_table(folder: Path, draw: random.Random) -> int:
    """The error names what is wrong, and what earlier stages wrote stays as it was."""
    project(folder)
    raw = folder / "data/raw/hour.csv"
    name = draw.choice([*sorted(DAMAGES), "empty file"])
    if name == "empty file":
        raw.write_bytes(b"")
        expected = "data/raw/hour.csv cannot be read as a CSV table: No columns"
    else:
        table, expected = DAMAGES[name](pd.read_csv(raw), draw)
        table.to_csv(raw, index=False)
    before = files_of(folder)
    with chdir(folder):
        try:
            clean.main()
        except DataError as error:
            said = str(error)
    assert expected in said, f"{name}: {said}"
    return int(files_of(folder) != before)


FORMS: dict[str, Callable[[bytes], bytes]] = {  # in the order in which they can be combined
    "quotes": lambda text: b"\n".join(
        b",".join(b'"%s"' % value for value in line.split(b",")) for line in text.splitlines()
    ),
    "blank lines": lambda text: text.replace(b"\n", b"\n\n"),
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "old Mac line ends": lambda text: text.replace(b"\n", b"\r"),
    "blanks": lambda text: text.replace(b",", b" , "),
    "no last line end": lambda text: text.rstrip(b"\r\n"),
    "byte-order mark": lambda text: b"\xef\xbb\xbf" + text,  # the very first bytes
}


@fault("raw table in another form (BOM, CRLF, blanks, quotes)", times=30)
def another_form(folder: Path, draw: random.Random) -> int:
    """What is only form is read as if it were not there."""
    project(folder)
    raw = folder / "data/raw/hour.csv"
    plain = read_raw(raw).reset_index(drop=True)
    text = raw.read_bytes()
    chosen = draw.sample(sorted(FORMS), draw.choice([1, 1, 2]))
    if {"blanks", "quotes"} <= set(chosen):
        chosen.remove("blanks")  # a quote after a blank is a part of the value
    for name in sorted(chosen, key=list(FORMS).index):
        text = FORMS[name](text)
    raw.write_bytes(text)
    return int(not read_raw(raw).reset_index(drop=True).equals(plain))


@fault("two `dvc repro` at once", times=4)
def two_repros(folder: Path, draw: random.Random) -> int:
    """One goes through; the other waits, finds all done, or is told of the lock."""
    project(folder)
    whole = files_of(folder / "data")
    for stale in ("data/clean", "data/features"):
        for file in (folder / stale).rglob("*.*"):
            file.unlink()
    _dvc_project(folder)
    command = [sys.executable, "-m", "dvc", "repro", "featurize"]
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=_with_tools(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in processes]
    ends = [process.returncode for process in processes]
    assert 0 in ends, said
    for end, text in zip(ends, said, strict=True):
        assert end == 0 or "lock" in text or "busy" in text, text
        assert "Traceback" not in text, text
    status = python(folder, "-m", "dvc", "status", "--with-deps", "featurize")
    assert "up to date" in status.stdout, status.stdout + status.stderr
    left = files_of(folder / "data")
    return len({name for name, content in whole.items() if left.get(name) != content})


def _dvc_project(folder: Path) -> None:
    """Add the pipeline and its code to a project's data, outside git."""
    copy_parts(folder, "src", "conf", ".dvc", "dvc.yaml", ".dvcignore")
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")


def _with_tools() -> dict[str, str]:
    """Stages call `python`, which must be this one."""
    given = environment()
    return given | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"}
