"""The entry point against a real store, filled as a sweep fills it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.artifacts import list_artifacts

from bikefit.comparison.compare import main
from bikefit.comparison.losses import losses_by_fold_and_day
from bikefit.comparison.ranking import rank
from bikefit.comparison.result import _differ_from_tags, assign_run_verdict, compare
from bikefit.comparison.tables import fold_table, ranking_note
from bikefit.comparison.verdicts import verdicts, with_verdicts
from bikefit.tracking import reading, writing
from bikefit.tracking.connection import TrackingError
from stores import add, result, settings


def make_sweep(shift: float = 0.0) -> str:
    """Two configurations on two seeds, and a run that failed."""
    sweep = writing.start_sweep("full", "a sweep", ["seed=0,1"])
    for seed in (0, 1):
        add(sweep, settings(seed=seed), result(2.0, 6.0 + shift + seed))
        add(sweep, settings(dropout=0.3, seed=seed), result(3.0, 5.0 + shift + seed))
    add(sweep, settings(hidden=4), result(np.nan, np.nan, failure="loss is not finite"))
    writing.finish_sweep(sweep, "", {}, "FINISHED")
    return sweep


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path


@pytest.mark.slow
def test_the_latest_sweep_is_printed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sweep()
    latest = make_sweep(shift=1.0)
    assert main([]) == 0
    out = capsys.readouterr().out
    assert f"a sweep ({latest})" in out
    assert "dropout p=0.3 · mlp 8 has the lowest validation loss: 6.500 ± 0.707" in out
    assert "1 of 5 runs failed" in out
    assert not (store / "reports").exists()


@pytest.mark.slow
def test_reports_of_the_recorded_sweep(store: Path) -> None:
    sweep = make_sweep()
    make_sweep(shift=1.0)
    Path("sweep.json").write_text(json.dumps({"sweep": sweep, "runs": 5}))
    assert main(["--record", "sweep.json", "--reports", "reports"]) == 0
    table = pd.read_csv("reports/comparison.csv")
    assert table["status"].tolist() == ["FINISHED"] * 4 + ["FAILED"]
    assert table["val_loss"].tolist()[:4] == [6.0, 5.0, 7.0, 6.0]
    assert table["gap"].tolist()[:4] == [4.0, 2.0, 5.0, 3.0]
    assert table["failure"].tolist()[4] == "loss is not finite"
    names = {file.path for file in list_artifacts(run_id=sweep)}
    assert names == {"comparison.csv", "comparison.png", "curves.png", "report.html"}
    assert not list(Path("reports").rglob("*.tmp"))


@pytest.mark.slow
def test_metrics_hold_the_winner_and_the_best_of_each_kind(store: Path) -> None:
    make_sweep()
    assert main(["--reports", "reports"]) == 0
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert (metrics["runs"], metrics["failed"]) == (5, 1)
    assert metrics["winner"] == {
        "configuration": "dropout p=0.3 · mlp 8", "seeds": 2, "train_loss": 3.0, "val_loss": 5.5,
        "val_loss_std": pytest.approx(0.5**0.5), "val_loss_se": pytest.approx(0.5), "gap": 2.5,
        "val_rmse": 55.0, "val_deviance": 11.0,
    }  # fmt: skip
    assert metrics["best"] == {
        "dropout": {"configuration": "dropout p=0.3 · mlp 8", "val_loss": 5.5, "val_rmse": 55.0},
        "none": {"configuration": "none · mlp 8", "val_loss": 6.5, "val_rmse": 65.0},
    }


@pytest.mark.slow
def test_plots_have_losses_and_learning_curves(store: Path) -> None:
    make_sweep()
    assert main(["--reports", "reports"]) == 0
    losses = pd.read_csv("reports/plots/losses.csv")
    assert losses.to_dict("list") == {
        "configuration": ["dropout p=0.3 · mlp 8", "none · mlp 8"],
        "train": [3.0, 2.0],
        "validation": [5.5, 6.5],
    }
    curves = pd.read_csv("reports/plots/learning_curves.csv")
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["winner validation"].tolist() == [11.0, 8.25, 5.5]
    assert curves["unregularized train"].tolist() == [4.0, 3.0, 2.0]
    assert curves["most underfitting train"].tolist() == curves["winner train"].tolist()


@pytest.mark.slow
def test_reports_written_twice_are_the_same(store: Path) -> None:
    make_sweep()
    for folder in ("one", "two"):
        assert main(["--reports", folder]) == 0
    for file in (path for path in Path("one").rglob("*") if path.is_file()):
        assert file.read_bytes() == Path("two", file.relative_to("one")).read_bytes(), file


@pytest.mark.slow
def test_cross_validation_jobs_are_ranked_with_their_folds(store: Path) -> None:
    sweep = writing.start_sweep("full", "folds", [])
    one = settings(validation={"name": "kfold", "folds": 2})
    job = writing.start_job(one, sweep, "v1")
    outcomes = [result(2.0, 6.0), result(3.0, 8.0)]
    for fold, outcome in enumerate(outcomes):
        writing.finish_member(writing.start_fold(one, job, "v1", fold), outcome, one)
    writing.finish_folds(job, [writing.best_metrics(one) for one in outcomes])
    assert main(["--reports", "reports"]) == 0
    winner = json.loads(Path("reports/metrics.json").read_text())["winner"]
    assert (winner["val_loss"], winner["val_loss_se"]) == (7.0, pytest.approx(1.0))
    curves = pd.read_csv("reports/plots/learning_curves.csv")
    assert curves["winner validation"].tolist() == [14.0, 10.5, 7.0]


@pytest.mark.slow
def test_two_sweeps_are_compared(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_sweep(), make_sweep(shift=-3.0)
    assert main([first, second]) == 0
    out = capsys.readouterr().out
    assert out.count("has the lowest validation loss") == 2
    assert "The winner of the second sweep has the lower validation loss" in out


@pytest.mark.slow
def test_a_sweep_without_a_result_ends_with_its_reason(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = writing.start_sweep("full", "failing", [])
    add(sweep, settings(), result(np.nan, np.nan, failure="loss is not finite"))
    assert main([]) == 0
    assert "No run finished (of 1)." in capsys.readouterr().out
    assert main(["--reports", "reports"]) == 1
    assert f"sweep {sweep}: no run has a result; reasons: loss is not finite" in (
        capsys.readouterr().err
    )
    assert not Path("reports").exists()
    page = Path("page.md")
    page.write_text("<!-- comparison -->\n<!-- end of comparison -->\n")
    assert main(["--document", str(page)]) == 0
    assert "**No run finished (of 1).**" in page.read_text()
    assert compare(sweep)._repr_markdown_().startswith("**No run finished (of 1).**")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: no sweep in sqlite:///"),
        (["0" * 32], f"error: no run {'0' * 32} in sqlite:///"),
        (["--record", "absent.json"], "error: absent.json not found"),
        (["--record", "wrong.json"], "error: wrong.json: expected {\"sweep\": run id}, got '[]'"),
    ],
)
def test_what_cannot_be_read_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("wrong.json").write_text("[]")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "c"], "at most two sweeps"),
        (["a", "--record", "b"], "either --record or sweeps"),
        (["a", "b", "--reports", "c"], "--reports takes one sweep"),
    ],
)
def test_arguments_that_exclude_each_other(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.process
def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom bikefit.comparison.compare import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'mlflow', 'pandas', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_document_gets_the_table_between_its_markers(
    store: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- comparison -->\nold\n<!-- end of comparison -->\nafter\n")
    assert main([sweep, "--document", str(readme)]) == 0
    text = readme.read_text()
    runs = reading.read_runs(sweep)
    note = ranking_note(with_verdicts(rank(runs), runs))
    assert text == (f"before\n<!-- comparison -->\n\n{note}\n\n<!-- end of comparison -->\nafter\n")
    assert main([sweep, "--document", str(readme)]) == 0
    assert readme.read_text() == text
    assert main([sweep, "--document", str(readme), "--section", "lecture"]) == 1
    assert "has no lines '<!-- lecture -->'" in capsys.readouterr().err


def test_a_cross_validated_sweep_shows_its_folds(store: None) -> None:
    sweep = writing.start_sweep("full", "a sweep", [])
    validation = {"validation": {"name": "kfold", "folds": 2}}
    for seed, shift in ((0, 0.0), (1, 2.0)):
        one = settings(seed=seed, **validation)
        job = writing.start_job(one, sweep, "v1")
        outcomes = [result(1.0, 4.0 + shift), result(2.0, 6.0 + shift)]
        for fold, outcome in enumerate(outcomes):
            writing.finish_member(writing.start_fold(one, job, "v1", fold), outcome, one)
        writing.finish_folds(job, [writing.best_metrics(one) for one in outcomes])
    runs = losses_by_fold_and_day(reading.read_runs(sweep))
    assert runs["folds/best/val/loss"].tolist() == [(4.0, 6.0), (6.0, 8.0)]
    assert losses_by_fold_and_day(runs) is runs
    # held-out deviances are twice the losses: 8 and 12 for seed 0, 12 and 16 for seed 1
    assert fold_table(reading.read_runs(sweep)).splitlines() == [
        "| configuration | table | seeds | mean | fold 1 | fold 2 | on training rows |",
        "|:--|:--|--:|--:|--:|--:|--:|",
        "| none · mlp 8 | full | 2 | **12.00** ± 2.83 | 10.00 | 14.00 | 3.00 |",
    ]


@pytest.mark.slow
def test_a_sweep_without_folds_has_no_fold_table(store: None) -> None:
    with pytest.raises(TrackingError, match="no finished run with validation=kfold"):
        fold_table(reading.read_runs(make_sweep()))


def spread_sweep() -> str:
    """An underfitting, an overfitting and a well fitting configuration, and a run that failed."""
    sweep = writing.start_sweep("full", "a sweep", [])
    constant = {"constant/train/loss": 60.0, "constant/val/loss": 62.0}
    for dropout, train, val in ((0.9, 41.2, 42.0), (0.0, 1.1, 25.0), (0.3, 9.0, 17.9)):
        for seed in (0, 1):
            outcome = result(train, val + seed / 10)
            outcome.final, outcome.val_rows = constant, 3475
            add(sweep, settings(dropout=dropout, seed=seed), outcome)
    add(sweep, settings(hidden=4), result(np.nan, np.nan, failure="loss is not finite"))
    return sweep


@pytest.mark.slow
def test_verdicts_become_tags_of_runs_and_counts_of_the_sweep(store: Path) -> None:
    sweep = spread_sweep()
    assert main(["--reports", "reports"]) == 0
    runs = reading.read_runs(sweep)
    assert runs["tags.verdict"].tolist()[:6:2] == ["underfitting", "overfitting", "good fit"]
    assert runs["tags.verdict"].isna().tolist() == [False] * 6 + [True]
    assert runs["tags.verdict.reason"][0] == (
        "validation loss falls from 42.00 to 17.95 when the dropout p goes from 0.9 to 0.3"
    )
    assert runs["tags.verdict.next"][0].startswith("more flexible")
    assert runs["tags.verdict.reason"][6] == "loss is not finite"
    (parent,) = reading.read_run(sweep).to_dict("records")
    assert {k: v for k, v in parent.items() if k.startswith("verdicts/")} == {
        "verdicts/good_fit": 2.0, "verdicts/underfitting": 2.0, "verdicts/overfitting": 2.0,
        "verdicts/undecided": 0.0,
    }  # fmt: skip
    assert not _differ_from_tags(verdicts(runs), runs).any()
    assert parent["tags.verdicts"] == "2 good fit, 2 underfitting, 2 overfitting"
    table = pd.read_csv("reports/comparison.csv")
    assert table["verdict"].tolist()[:6:2] == ["underfitting", "overfitting", "good fit"]
    assert table["reason"][6] == "loss is not finite"
    assert json.loads(Path("reports/metrics.json").read_text())["verdicts"] == {
        "good fit": 1, "overfitting": 1, "undecided": 0, "underfitting": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_a_verdict_is_given_anew_with_other_thresholds(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = spread_sweep()
    assert main([]) == 0
    Path("conf").mkdir()
    Path("conf/verdicts.yaml").write_text("close: 0.5\nclear: 0.5")
    assert main([]) == 0
    assert reading.read_runs(sweep)["tags.verdict"].tolist()[2:4] == ["undecided"] * 2
    Path("conf/verdicts.yaml").write_text("close: near")
    assert main([]) == 1
    assert "conf/verdicts.yaml: close = 'near'" in capsys.readouterr().err


def test_a_run_alone_gets_a_verdict(store: Path) -> None:
    run = writing.start_job(settings(), None, "v1")
    writing.finish_member(run, result(9.0, 17.9), settings())
    said = assign_run_verdict(run)
    assert said.startswith("undecided: validation loss 17.90 has no other configuration beside it")
    assert reading.read_run(run)["tags.verdict"].tolist() == ["undecided"]
