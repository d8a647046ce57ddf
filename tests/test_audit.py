"""A vulnerability that is found is not hidden, and a service that is away is no fault."""

import json
import os
import sys
from pathlib import Path

import pytest

import commands
from conftest import ROOT

FOUND = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": "bad"}
SOUND = {"name": "good", "version": "1.0", "vulns": []}
FAULTY = {"name": "bad", "version": "1.0", "vulns": [FOUND]}
UNKNOWN = {"name": "own", "skip_reason": "not found"}

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND, UNKNOWN], 0, "1 packages asked of osv, 0 vulnerabilities"),
        ([SOUND, FAULTY], 1, "bad 1.0: PYSEC-1, mended in 2.0"),
        ([UNKNOWN], 0, "NOT DONE"),
        (None, 0, "NOT DONE"),
    ],
)
def test_audit(tmp_path: Path, packages: list[dict] | None, status: int, said: str) -> None:
    answer = "no network" if packages is None else json.dumps({"dependencies": packages})
    service = tmp_path / "pip-audit"
    service.write_text(f"#!{sys.executable}\nprint({answer!r})\n")
    service.chmod(0o755)
    done = commands.run(str(ROOT / ".ci/audit"), env=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == status, done.stderr
    assert said in done.stdout
