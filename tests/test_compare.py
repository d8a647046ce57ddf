"""The entry point on a real store with runs of a made-up sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.artifacts import list_artifacts

from bikefit.comparison.compare import main
from bikefit.comparison.result import assign_run_verdict, compare
from bikefit.comparison.tables import fold_table
from bikefit.tracking import reading, writing
from stores import add, result, settings

Losses = Sequence[tuple[float, float, float]]


def make_sweep(losses: Losses = ((0.0, 2.0, 6.0), (0.3, 3.0, 5.0)), step: float = 1.0) -> str:
    """Add runs with two seeds for each dropout, train and validation loss, and one that failed."""
    sweep = writing.start_sweep("full", "a sweep", ["seed=0,1"])
    more = {"final": {"constant/train/loss": 60.0, "constant/val/loss": 62.0}, "val_rows": 3475}
    for dropout, train, val in losses:
        for seed in (0, 1):
            outcome = result(train, val + step * seed, **more)
            add(sweep, settings(dropout=dropout, seed=seed), outcome)
    add(sweep, settings(hidden=4), result(np.nan, np.nan, failure="loss is not finite"))
    writing.finish_sweep(sweep, "", {}, "FINISHED")
    return sweep


def make_spread_sweep() -> str:
    """Add an underfitting, an overfitting and a well fitting configuration, and a failed run."""
    return make_sweep(((0.9, 41.2, 42.0), (0.0, 1.1, 25.0), (0.3, 9.0, 17.9)), step=0.1)


def make_folds(*losses: tuple[float, float]) -> str:
    """Add a cross-validated run for each pair of validation losses of its folds."""
    sweep = writing.start_sweep("full", "folds", [])
    for seed, pair in enumerate(losses):
        one = settings(seed=seed, validation={"name": "kfold", "folds": 2})
        job = writing.start_job(one, sweep, "v1")
        outcomes = [result(fold + 1.0, val) for fold, val in enumerate(pair)]
        for fold, outcome in enumerate(outcomes):
            writing.finish_member(writing.start_job(one, job, "v1", fold=fold), outcome, one)
        writing.finish_folds(job, [writing.summarize(one) for one in outcomes])
    return sweep


@pytest.mark.slow
def test_the_latest_sweep_is_printed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sweep()
    latest = make_sweep(((0.0, 2.0, 7.0), (0.3, 3.0, 6.0)))
    assert main([]) == 0
    out = capsys.readouterr().out
    assert f"a sweep ({latest})" in out
    assert "dropout p=0.3 · mlp 8 has the lowest validation loss: 6.500 ± 0.707" in out
    assert "1 of 5 runs failed" in out
    assert not Path("reports").exists()


@pytest.mark.slow
def test_reports_of_the_recorded_sweep(workplace: Path) -> None:
    sweep = make_sweep()
    make_sweep(((0.0, 2.0, 7.0),))
    Path("sweep.json").write_text(json.dumps({"sweep": sweep, "runs": 5}))
    assert main(["--record", "sweep.json", "--reports", "reports"]) == 0
    table = pd.read_csv("reports/comparison.csv")
    assert table["status"].tolist() == ["FINISHED"] * 4 + ["FAILED"]
    assert table["val_loss"].tolist()[:4] == [6.0, 7.0, 5.0, 6.0]
    assert table["gap"].tolist()[:4] == [4.0, 5.0, 2.0, 3.0]
    assert table["failure"].tolist()[4] == "loss is not finite"
    names = {file.path for file in list_artifacts(run_id=sweep)}
    assert names == {"comparison.csv", "comparison.png", "curves.png", "report.html"}
    assert not list(Path("reports").rglob("*.tmp"))
    # the winner and the best of each kind
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert (metrics["runs"], metrics["failed"]) == (5, 1)
    best = {"configuration": "dropout p=0.3 · mlp 8", "val_loss": 5.5, "val_rmse": 55.0}
    none = {"configuration": "none · mlp 8", "val_loss": 6.5, "val_rmse": 65.0}
    errors = {"val_loss_std": pytest.approx(0.5**0.5), "val_loss_se": pytest.approx(0.5)}
    more = {"seeds": 2, "train_loss": 3.0, "gap": 2.5, "val_deviance": 11.0}
    assert metrics["winner"] == best | errors | more
    assert metrics["best"] == {"dropout": best, "none": none}
    # the same files when they are written again
    assert main([sweep, "--reports", "again"]) == 0
    for file in (path for path in Path("reports").rglob("*") if path.is_file()):
        assert file.read_bytes() == Path("again", file.relative_to("reports")).read_bytes(), file


@pytest.mark.slow
def test_cross_validated_runs_are_ranked_with_their_folds(workplace: Path) -> None:
    make_folds((6.0, 8.0))
    assert main(["--reports", "reports"]) == 0
    winner = json.loads(Path("reports/metrics.json").read_text())["winner"]
    assert (winner["val_loss"], winner["val_loss_se"]) == (7.0, pytest.approx(1.0))
    curves = compare().learning_curves
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["winner validation"].tolist() == [14.0, 10.5, 7.0]


@pytest.mark.slow
def test_a_cross_validated_sweep_has_a_table_of_its_folds(workplace: Path) -> None:
    runs = compare(make_folds((4.0, 6.0), (6.0, 8.0))).runs
    assert runs["fold_losses"].tolist() == [(4.0, 6.0), (6.0, 8.0)]
    # held-out deviances are twice the losses: 8 and 12 for seed 0, 12 and 16 for seed 1
    assert fold_table(runs).splitlines() == [
        "| configuration | table | seeds | mean | fold 1 | fold 2 | on training rows |",
        "|:--|:--|--:|--:|--:|--:|--:|",
        "| none · mlp 8 | full | 2 | **12.00** ± 2.83 | 10.00 | 14.00 | 3.00 |",
    ]
    assert fold_table(compare(make_sweep(((0.0, 2.0, 6.0),))).runs) == ""


@pytest.mark.slow
def test_a_sweep_without_a_result_ends_with_its_reason(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sweep(())
    assert main([]) == 0
    assert "No run finished (of 1)." in capsys.readouterr().out
    assert main(["--reports", "reports"]) == 1
    reason = "a sweep: no run has a result; reasons: loss is not finite"
    assert reason in capsys.readouterr().err
    assert not Path("reports").exists()
    page = Path("page.md")
    page.write_text("<!-- comparison -->\n<!-- end of comparison -->\n")
    assert main(["--document", str(page)]) == 0
    assert "**No run finished (of 1).**" in page.read_text()
    assert compare()._repr_markdown_().startswith("**No run finished (of 1).**")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: no sweep in sqlite:///"),
        (["0" * 32], f"error: no run {'0' * 32} in sqlite:///"),
        (["--record", "absent.json"], "error: no sweep in absent.json"),
        (["--record", "wrong.json"], "error: no sweep in wrong.json"),
    ],
)
def test_a_sweep_that_cannot_be_read_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("wrong.json").write_text("[]")
    assert main(arguments) == 1
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
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    readme = Path("README.md")
    readme.write_text("before\n<!-- comparison -->\nold\n<!-- end of comparison -->\nafter\n")
    note = compare(sweep).note()
    for _ in range(2):
        assert main([sweep, "--document", str(readme)]) == 0
        assert readme.read_text() == (
            f"before\n<!-- comparison -->\n\n{note}\n\n<!-- end of comparison -->\nafter\n"
        )
    assert main([sweep, "--document", str(readme), "--section", "lecture"]) == 1
    assert "has no lines '<!-- lecture -->'" in capsys.readouterr().err


@pytest.mark.slow
def test_verdicts_become_tags_of_runs_and_counts_of_the_sweep(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_spread_sweep()
    assert main(["--reports", "reports"]) == 0
    runs = reading.read_runs(sweep)
    assert runs["tags.verdict"].tolist()[:6:2] == ["underfitting", "overfitting", "good fit"]
    assert runs["tags.verdict"].isna().tolist() == [False] * 6 + [True]
    reason = "validation loss 42.05 is 24.10 (134.3%) above the best 17.95, and train loss 41.20 "
    assert runs["tags.verdict.reason"][0].startswith(reason)
    assert runs["tags.verdict.next"][0].startswith("make it more flexible")
    assert runs["tags.verdict.reason"][6] == "loss is not finite"
    written: list[pd.DataFrame] = []
    monkeypatch.setattr(writing, "tag_verdicts", written.append)
    compare(sweep)
    assert [len(table) for table in written] == [0]
    table = pd.read_csv("reports/comparison.csv")
    assert table["verdict"].tolist()[:6:2] == ["underfitting", "overfitting", "good fit"]
    assert table["reason"][6] == "loss is not finite"
    counts = json.loads(Path("reports/metrics.json").read_text())["verdicts"]
    assert counts == {"good fit": 1, "overfitting": 1, "undecided": 0, "underfitting": 1}


def test_a_run_without_a_sweep_gets_a_verdict(workplace: Path) -> None:
    run = writing.start_job(settings(), None, "v1")
    writing.finish_member(run, result(9.0, 17.9), settings())
    verdict = assign_run_verdict(run)
    assert verdict.startswith("undecided: validation loss 17.90 has no other configuration to")
    assert reading.read_run(run)["tags.verdict"].tolist() == ["undecided"]
