"""Faults of the data pipeline: two at once, and a disk that fills up under a stage."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from copies import copy_parts
from faults import fault
from faults.projects import environment, files_of, fill, project, python, small_disk, some


@fault("disk full while a table is written", times=12)
def full_for_a_table(folder: Path, draw: random.Random) -> int:
    """The stage ends with a message, and every file is still the old one or is the new one."""
    stage = draw.choice(["clean", "look", "featurize"])
    with small_disk(folder, 4096) as disk:
        project(disk)
        (disk / "reports").mkdir(exist_ok=True)
        before = files_of(disk)
        filler = fill(disk, leave=some(draw, 1, 12_000))
        done = python(disk, "-m", f"bikefit.data.{stage}")
        filler.unlink()
        after = files_of(disk)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "No space left on device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    changed = {name for name, content in before.items() if after.get(name) != content}
    return len(changed) + len(after.keys() - before.keys() - {"reports/data_quality.json"})


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
