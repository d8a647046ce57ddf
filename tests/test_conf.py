"""Every file under conf/ composes, is checked, and opens with what it is for."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from conftest import ROOT, make_settings

CONF = ROOT / "conf"
GROUPS = sorted(p for p in CONF.glob("*/*.yaml") if p.parent.name not in ("experiment", "hydra"))
EXPERIMENTS = sorted(CONF.glob("experiment/*.yaml"))


def test_there_are_files() -> None:
    assert len(GROUPS) >= 15
    assert EXPERIMENTS


@pytest.mark.parametrize("file", GROUPS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_group_file_composes_and_passes_the_checks(file: Path) -> None:
    settings = make_settings(f"{file.parent.name}={file.stem}")
    section = getattr(settings, file.parent.name)
    assert getattr(section, "name", file.stem) == file.stem


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: p.stem)
def test_an_experiment_composes_and_opens_with_its_command(file: Path) -> None:
    settings = make_settings(f"+experiment={file.stem}")
    assert settings.training.epochs >= 1
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1] == f"# python -m bikefit.train -m +experiment={file.stem}"


@pytest.mark.slow
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_job_of_an_experiment_passes_the_checks(file: Path) -> None:
    sweeper = yaml.safe_load(file.read_text())["hydra"]["sweeper"]
    for grid in sweeper.get("grids") or [sweeper["space"]]:
        for key, values in grid.items():
            for value in _choices(str(values)):
                others = [f"{k}={_choices(str(v))[0]}" for k, v in grid.items() if k != key]
                make_settings(f"+experiment={file.stem}", *others, f"{key}={value}")


def _choices(values: str) -> list[str]:
    """Split at commas outside brackets; of an interval give both ends."""
    if interval := re.search(r"interval\((.*?)\)", values):
        return interval[1].split(",")
    parts, depth = [""], 0
    for character in values:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def test_no_value_stands_in_both_params_and_conf() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train")
    assert not {*params} & {*config}
