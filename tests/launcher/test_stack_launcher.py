"""The launcher keeps the contract that hydra-core ships as tests, and hands jobs over together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.version import _UNSPECIFIED_, VersionBase

from hydra_plugins.stack_launcher.stack_launcher import StackLauncher


@pytest.fixture(autouse=True)
def no_version_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests compose configs and so choose a version base for the whole process."""
    monkeypatch.setattr(VersionBase.instance(), "version_base", _UNSPECIFIED_)


def test_hydra_finds_the_launcher() -> None:
    assert StackLauncher.__name__ in [p.__name__ for p in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stack", [])])
class TestStackLauncher(LauncherTestSuite):
    """What Hydra expects of any launcher."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stack"])]
)
class TestStackLauncherIntegration(IntegrationTestSuite):
    """What Hydra expects of any launcher, in processes of their own."""


# The shipped tests run under the oldest version base, which warns.
pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:.*Future Hydra versions.*:UserWarning"),
]


APP = """
import json
import hydra

def task(config):
    raise AssertionError("jobs must not run one by one")

def together(configs, **options):
    print(json.dumps({"users": [c.user for c in configs], **options}))
    return [RuntimeError("no such user") if c.user == "omry" else c.user for c in configs]

task.together = together
hydra.main(version_base="1.3", config_path=".", config_name="app")(task)()
"""
CONFIG = """
defaults: [_self_, override hydra/launcher: stack]
user: nobody
hydra: {sweep: {dir: sweeps, subdir: "${hydra.job.num}"}, launcher: {stack_size: 3}}
"""


def run_app(folder: Path, users: str) -> subprocess.CompletedProcess[str]:
    """Sweep over users in a program of its own that trains jobs together."""
    (folder / "app.py").write_text(APP)
    (folder / "app.yaml").write_text(CONFIG)
    command = [sys.executable, "app.py", "-m", f"user={users}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_jobs_run_together_and_keep_order(tmp_path: Path) -> None:
    done = run_app(tmp_path, "b,c,a")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "users": ["b", "c", "a"],
        "labels": ["user=b", "user=c", "user=a"],
        "command": ["user=b,c,a"],
        "processes": None,
        "stack_size": 3,
        "backend": "loky",
        "address": None,
        "options": {},
    }
    for number, user in enumerate("bca"):
        written = (tmp_path / f"sweeps/{number}/.hydra/overrides.yaml").read_text()
        assert written == f"- user={user}\n"


def test_a_failed_job_fails_the_command_after_all_have_run(tmp_path: Path) -> None:
    done = run_app(tmp_path, "b,omry,a")
    assert json.loads(done.stdout)["users"] == ["b", "omry", "a"]
    assert done.returncode == 1
    assert "Error executing job with overrides: ['user=omry']" in done.stderr
    assert "no such user" in done.stderr
