"""The fork server of the worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import psutil, time
from pathlib import Path
from bikefit.sweeps import forkserver

def running():
    children = psutil.Process().children()
    return [c for c in children if any("forkserver" in word for word in c.cmdline())]

if __name__ == "__main__":
    forkserver.start()
    end = time.monotonic() + 30
    while not running() and time.monotonic() < end:  # at first it has no command line
        pass
    (one,) = running()
    for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
        if line.startswith("SigBlk"):
            print(int(line.split()[1], 16) >> (2 - 1) & 1)  # bit of SIGINT
    forkserver.kill()
    one.wait(10)
    print(len(running()))
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_ctrl_c_is_blocked_in_the_server_which_can_be_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "0"], done.stderr
