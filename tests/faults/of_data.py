"""A disk that is full while a stage of the data pipeline writes."""

from __future__ import annotations

import random
from pathlib import Path

from faults import fault
from faults.projects import files_of, fill, project, python, random_size, small_disk


@fault("disk full while a table is written", times=12)
def full_for_a_table(folder: Path, draw: random.Random) -> int:
    """The stage ends with an error, and every file has its old content."""
    stage = draw.choice(["bikes.clean", "look", "featurize"])
    with small_disk(folder, 4096) as disk:
        project(disk)
        (disk / "reports").mkdir(exist_ok=True)
        before = files_of(disk)
        filler = fill(disk, leave=random_size(draw, 1, 12_000))
        done = python(disk, "-m", f"bikefit.data.{stage}")
        filler.unlink()
        after = files_of(disk)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "No space left on device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    changed = {name for name, content in before.items() if after.get(name) != content}
    return len(changed) + len(after.keys() - before.keys() - {"reports/data_quality.json"})
