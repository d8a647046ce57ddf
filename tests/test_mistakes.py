"""What users get wrong: one line says what to change, before any training."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import bikefit.train
from bikefit import trained
from bikefit.errors import DataError
from bikefit.final import predict
from bikefit.final.choose import refit_settings
from bikefit.sweeps import forkserver
from bikefit.tracking import reading
from conftest import make_settings

Train = Callable[..., str]
NO_GC = SimpleNamespace(freeze=int, set_threshold=int)  # the tests go on after the command


@pytest.fixture
def refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """A function that runs `bikefit.train`, which must fail before any training; its message."""
    for name in ("start", "kill"):
        monkeypatch.setattr(forkserver, name, lambda: None)
    monkeypatch.setattr("bikefit.sweeps.command.train_jobs", lambda *_, **__: pytest.fail("trains"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(bikefit.train, "gc", NO_GC)

    def train(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *words])
        assert bikefit.train.main() == 1
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("error: ")
        return last

    return train


PLAIN, GRID, SEARCH = (), ("-m", "seed=0,1"), ("-m", "seed=0,1", "hydra/sweeper=search")
FOLDER = "hydra.run.dir, with -m hydra.sweep.dir, must be a folder that can be written"


@pytest.mark.parametrize("way", [PLAIN, GRID, SEARCH])
@pytest.mark.parametrize("folder", ["/proc/x", "mlflow.db", "/dev/full/x"])
def test_output_folder(way: tuple[str, ...], folder: str, refused: Train) -> None:
    key = "sweep" if way else "run"
    message = refused(*way, f"hydra.{key}.dir={folder}")
    assert folder in message
    assert message.endswith(FOLDER)


@pytest.mark.parametrize("way", [PLAIN, GRID, SEARCH])
def test_job_chdir(way: tuple[str, ...], refused: Train) -> None:
    assert "hydra.job.chdir = true" in refused(*way, "hydra.job.chdir=true")


@pytest.mark.parametrize("file", ["/proc/x/sweep.json", "mlruns.json/x", "data"])
def test_record_of_the_sweep(file: str, refused: Train, workplace: Path) -> None:
    (workplace / "mlruns.json").touch()
    assert f"{file} cannot be written" in refused(*GRID, f"tracking.record={file}")
    assert (workplace / "data/features").is_dir()


CONFIGS = {
    "on: weights": ("regularization", "unknown key True", "YAML reads on, off, yes and no"),
    "batch_norm: off": ("regularization", "batch_norm = False", "YAML reads on, off, yes and no"),
    "schedule: no": ("optimizer", "schedule = False", "YAML reads on, off, yes and no"),
    "lr: fast": ("optimizer", "optimizer.lr = 'fast'", "valid number"),
    "\tl2: 1": ("regularization", "cannot start any token", "mistake.yaml"),
    "name: \udcff": ("regularization", "a file of the config is not UTF-8", ""),
    "l2: ${nope}": ("regularization", "Interpolation key 'nope' not found", "regularization.l2"),
}


@pytest.mark.parametrize("line", CONFIGS)
def test_config_file(line: str, refused: Train, workplace: Path) -> None:
    section, *words = CONFIGS[line]
    file = workplace / "mine/experiment/mistake.yaml"
    file.parent.mkdir(parents=True)
    content = f"# @package _global_\n{section}:\n  {line}\n"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    message = refused("--config-dir", "mine", "+experiment=mistake")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["network.hidden=8"], "network.hidden = 8: must be a list, such as [64,64]"),
        (["training.batch_size=1", "regularization=batch_norm"], "at least 2 rows in a batch"),
        (["seed=0,1"], "add --multirun to your command line"),
        (["seed"], "missing EQUAL"),
        (["--run", "--multirun"], "Only one of --run, --multirun"),
        (["-m", "seed=range(0)"], "a key has no values, so there are no jobs"),
        (["-m", "seed=interval(0,1)"], "INTERVAL_SWEEP"),
        (["-m", "seed=0,1", "hydra/launcher=basic"], "hydra/launcher: with -m it must be stack"),
        (["-m", "seed=0,1", "hydra.launcher.processes=0"], "processes = 0: must be at least 1"),
        (["-m", "seed=0,1", "hydra.launcher.stack_size=0"], "stack_size = 0: must be at least 1"),
        (["-m", "seed=0,1", "hydra.sweeper.max_batch_size=0"], "max_batch_size = 0: must be"),
        ([*SEARCH, "hydra.sweeper.trials=0"], "hydra.sweeper.trials = 0: must be at least 1"),
    ],
)
def test_setting(words: list[str], message: str, refused: Train) -> None:
    assert message in refused(*words)


def test_option_between_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "seed=0,1", "-m", "loss=mse"])
    monkeypatch.setattr(bikefit.train, "gc", NO_GC)
    monkeypatch.setattr(forkserver, "kill", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        bikefit.train.main()
    assert "unrecognized arguments: loss=mse" in capsys.readouterr().err


def test_layers_with_batch_norm_need_two_rows(refused: Train) -> None:
    layers = "[{name: a.norm, _target_: bikefit.nn.layers.BatchNorm}]"
    words = ("training.batch_size=1", "network=custom", f"network.layers={layers}")
    assert "training.batch_size = 1" in refused(*words)


def test_layers_of_other_packages_are_trained_only(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("network=custom", "network.allow=[my_layers]")
    text = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True))
    monkeypatch.setattr(reading, "read_config", lambda run: text)
    with pytest.raises(DataError, match=r"layers from my_layers: network.allow holds for"):
        refit_settings("run", 5.0)
    monkeypatch.setattr(trained, "settings_and_table", lambda run: (settings, None))
    with pytest.raises(DataError, match=r"layers from my_layers: network.allow holds for"):
        trained.load("run")


ROWS = "at,temp,humidity,windspeed,weather\n2011-02-05T17:00,7,60,12,clear\n"


@pytest.mark.slow
def test_answers_that_are_given_in_again_are_replaced(refitted: Path) -> None:
    Path("rows.csv").write_text(ROWS, encoding="utf-8")
    assert predict.main(["--input", "rows.csv", "--output", "once.csv"]) == 0
    assert predict.main(["--input", "once.csv", "--output", "twice.csv"]) == 0
    assert Path("twice.csv").read_bytes() == Path("once.csv").read_bytes()


FILES = {
    "wrong row": (gzip.compress(ROWS.encode() + b"1,2,3,4,5,6\n"), "line 3 has 6 cells"),
    "cut": (gzip.compress(ROWS.encode())[:40], "rows.csv.gz cannot be read as a CSV table"),
    "empty": (b"", "it is empty"),
    "a name twice": (ROWS.replace("temp", "at").encode(), "the name at occurs twice"),
    "zero bytes": (b"at,temp\0", "it is no text"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_rows_to_predict(name: str, refitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = FILES[name]
    Path("rows.csv.gz").write_bytes(content)
    assert predict.main(["--input", "rows.csv.gz", "--output", "answers.csv"]) == 1
    assert message in capsys.readouterr().err
    assert not Path("answers.csv").exists()


@pytest.mark.slow
def test_a_table_without_rows_has_no_answers(refitted: Path) -> None:
    Path("rows.csv").write_text(ROWS.splitlines()[0] + "\n", encoding="utf-8")
    assert predict.main(["--input", "rows.csv", "--output", "answers.csv"]) == 0
    header = "at,temp,humidity,windspeed,weather,expected,low,high,error\n"
    assert Path("answers.csv").read_text(encoding="utf-8") == header
