"""The launcher passes the contract tests of hydra-core, whose tasks return no settings."""

from __future__ import annotations

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.version import _UNSPECIFIED_, VersionBase

from hydra_plugins.stack_launcher.stack_launcher import StackLauncher


@pytest.fixture(autouse=True)
def no_version_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the version base, which other tests set for the whole process."""
    monkeypatch.setattr(VersionBase.instance(), "version_base", _UNSPECIFIED_)


def test_hydra_finds_the_launcher() -> None:
    assert StackLauncher.__name__ in [p.__name__ for p in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("stack", [])])
class TestStackLauncher(LauncherTestSuite):
    """Contract tests of Hydra."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=stack"])]
)
class TestStackLauncherIntegration(IntegrationTestSuite):
    """Contract tests of Hydra in separate processes."""


# The shipped tests run under the oldest version base, which warns.
pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:.*Future Hydra versions.*:UserWarning"),
]
