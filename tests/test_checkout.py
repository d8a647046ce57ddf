"""Checkouts: line ends, the folder that a command runs in, and the files for others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bikefit.errors import run_command
from bikefit.sweeps.fingerprints import _hash
from bikefit.train import conf_folder
from conftest import ROOT
from copies import copy_parts


def git(*words: str, cwd: Path) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def test_a_clone_with_windows_settings_has_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copy_parts(source, ".gitattributes", ".ci", "dvc.yaml", "reports", "src/bikefit/nn")
    git("init", "-q", ".", cwd=source)
    git("add", ".", cwd=source)
    git("commit", "-q", "-m", "all", cwd=source)
    git("clone", "-q", "-c", "core.autocrlf=true", "source", "clone", cwd=tmp_path)
    files = git("ls-files", cwd=source).splitlines()
    assert ".ci/run" in files
    for file in files:
        assert (tmp_path / "clone" / file).read_bytes() == (source / file).read_bytes(), file


def test_the_hash_of_code_ignores_line_ends(tmp_path: Path) -> None:
    hashes = set()
    for name, end in {"unix": "\n", "windows": "\r\n"}.items():
        file = tmp_path / name / "layers.py"
        file.parent.mkdir()
        file.write_text("a = 1\nb = 2\n", encoding="utf-8", newline=end)
        hashes.add(_hash([file]))
    assert len(hashes) == 1


def test_conf_is_that_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert conf_folder() == str(ROOT / "conf")
    shutil.copytree(ROOT / "conf", "conf")
    assert conf_folder() == str(tmp_path / "conf")


def test_code_of_another_checkout_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert run_command(lambda: 0) == 0
    assert not capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    copy_parts(tmp_path, "src/bikefit/errors.py")
    assert run_command(lambda: 0) == 0
    assert f"the code of {ROOT} runs, not that of this folder" in capsys.readouterr().err


def test_citation_and_types_are_there() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert [entry["doi"] for entry in citation["references"]] == [
        "10.1007/s13748-013-0040-3",
        "10.24432/C5W894",
    ]
    assert (ROOT / "src/bikefit/py.typed").exists()
