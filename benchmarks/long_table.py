"""What a table 100 times as long costs: `python benchmarks/long_table.py [--write]`.

Makes up raw tables of 1, 10 and 100 times the real one's 724 days, with its kinds of faults, and
runs the data stages on them; then trains stacks on the longest. Each in a process of its own,
whose processor time and peak memory are noted, as the kernel counts them: other work on the
machine does not lengthen the first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
DAYS = 724  # of 24 hours: as many rows as the real table has
TIMES = (1, 10, 100)
MEMBERS = (1, 8, 32)
STAGES = ("clean", "look", "featurize")
FIT = """
import sys
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
import bikefit.train
from bikefit.config import parse
from bikefit.training.fit import fit_stack
from bikefit.training.folds import read_pool
from bikefit.training.members import Member
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    found = [compose("train", ["network.hidden=[8]", "training.epochs=1",
             "training.batch_size=4096", f"regularization.l2={1e-6 * m}"])
             for m in range(int(sys.argv[2]))]
members = [Member(parse(OmegaConf.to_container(one, resolve=True))) for one in found]
fit_stack(members, read_pool(members[0].settings.data.path))
"""


def make(folder: Path, times: int) -> int:
    """Write params and a raw table `times` as long as the real one; return its rows."""
    sys.path.insert(0, str(ROOT / "tests"))
    from synthetic import raw_hours

    raw = raw_hours(days=DAYS * times, start="1850-01-01")
    draw = np.random.default_rng(0)
    raw.loc[draw.choice(len(raw), 22 * times, replace=False), "hum"] = 0.0  # dead sensor
    for begin in 24 * draw.choice(DAYS * times, times, replace=False):  # stuck for a day
        raw.loc[begin : begin + 23, "atemp"] = 0.25
    raw = raw.drop(draw.choice(len(raw), 165 * times, replace=False))  # absent hours
    (folder / "data/raw").mkdir(parents=True)
    raw.to_csv(folder / "data/raw/hour.csv", index=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["featurize"]["tables"] = {"full": params["featurize"]["tables"]["full"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return len(raw)


def measure(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """Run Python in a folder; return its processor seconds and peak memory in MiB.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments[:2]} failed in {folder}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def stages(folder: Path) -> list[str]:
    """Run the data stages in a folder; seconds and MiB of each, as cells of a table."""
    costs = [measure(folder, ["-m", f"bikefit.data.{stage}"]) for stage in STAGES]
    return [f"{seconds:.1f} s, {memory:,.0f} MiB" for seconds, memory in costs]


def document(folder: Path) -> str:
    """Measure all, and write it as two tables."""
    lines = []
    for times in TIMES:
        place = folder / str(times)
        rows = make(place, times)
        lines.append([f"{rows:,}", *stages(place)])
        print(lines[-1], flush=True)
    data = pd.DataFrame(lines, columns=["rows", *STAGES])
    fits = []
    for members in MEMBERS:
        given = ["-c", FIT, str(ROOT / "conf"), str(members)]
        seconds, memory = measure(folder / str(TIMES[-1]), given)
        fits.append([str(members), f"{seconds:.1f} s", f"{memory:,.0f} MiB"])
        print(fits[-1], flush=True)
    training = pd.DataFrame(fits, columns=["members of a stack", "one epoch, with start", "peak"])
    right = ["right"] * 4
    return "\n\n".join([
        data.to_markdown(index=False, colalign=right),
        training.to_markdown(index=False, colalign=right[:3]),
        f"Seconds of processor time, start-up included; Python {sys.version.split()[0]}.",
    ])  # fmt: skip


def main() -> None:
    """Measure, print, and renew the section in `docs/cluster.md` if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew docs/cluster.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bikefit-long-") as name:
        text = document(Path(name))
    print(text)
    if options.write:
        from bikefit.data.files import renew

        renew(ROOT / "docs/cluster.md", "long table", text)


if __name__ == "__main__":
    main()
