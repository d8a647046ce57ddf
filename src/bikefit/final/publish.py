"""Register a tested model, and make it the champion if it is significantly better."""

from __future__ import annotations

import io
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bikefit.data.files import write_json
from bikefit.data.rows import blocks
from bikefit.data.table import Table
from bikefit.final.choose import OUR_MODEL, RefitPlan
from bikefit.final.model import Model
from bikefit.final.scores import MAIN, NAMES, bootstrap, lead, unit_of
from bikefit.losses import LossName
from bikefit.tracking import reading, registry, writing

TEST_PREDICTIONS = "test_predictions.parquet"  # artifact of a refit: test rows, all predictions
STANDARD_ERRORS = 2.0  # lead that a new champion needs
PACKAGES = "lightgbm mlflow numpy pandas pydantic pyyaml safetensors scikit-learn scipy torch"


def model_name(table: Table) -> str:
    """Return the name of the registered model of a table."""
    return "bikefit" if table.source == "bikes" else f"bikefit-{table.name}"


def publish(
    plan: RefitPlan,
    model: Model,
    table: Table,
    example: pd.DataFrame,
    report: dict[str, Any],
    tested: pd.DataFrame,
    promote: bool,
) -> str:
    """Register a model, fitted on all rows, and return whether it becomes champion, and why.

    `example` has rows as a user gives them. `report` and `tested` are the results of
    :func:`~bikefit.final.evaluate.evaluate_models`. With ``promote``, the model becomes the
    champion in any case.
    """
    first, *_ = plan.settings(OUR_MODEL)
    name, data_version = model_name(table), table.data_version
    description = plan.describe(OUR_MODEL)
    run = writing.start_refit(first, plan.sweep, data_version, description, table.tags)
    try:
        number = _register(run, name, plan, model, example, report, tested)
        better, reason = compare_with_champion(name, number, plan.loss, table, tested)
        if better or promote:
            registry.promote(name, number)
    except BaseException as error:
        writing.fail_run(run, repr(error))
        raise
    return f"{reason} It was promoted on request." if promote and not better else reason


def _register(
    run: str,
    name: str,
    plan: RefitPlan,
    model: Model,
    example: pd.DataFrame,
    report: dict[str, Any],
    tested: pd.DataFrame,
) -> int:
    """Log a model and its test to a run, register it and return the number of its version."""
    metrics = {f"test/{key}": value for key, value in report["models"][OUR_MODEL].items()}
    if report["interval_coverage"] is not None:
        metrics["test/interval_coverage"] = report["interval_coverage"]
    tags = {
        "sweep": plan.sweep,
        "configuration": plan.describe(OUR_MODEL),
        "data.version": report["data_version"],
        **{key: f"{value:.6g}" for key, value in metrics.items()},
    }
    networks = [one.model_dump(mode="json", by_alias=True) for one in plan.settings(OUR_MODEL)]
    config = {"networks": networks, "share of trees": model.ensemble.share}
    requirements = [f"{package}=={version(package).split('+')[0]}" for package in PACKAGES.split()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save(folder / registry.MODEL)
        tested.to_parquet(folder / TEST_PREDICTIONS, index=False)
        write_json(folder / "test.json", report)
        text = yaml.safe_dump(config, sort_keys=False)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        examples = example, model.predict(example), model.inputs.optional
        number = registry.register(
            run, name, folder / registry.MODEL, *examples, requirements, tags
        )
        files = [folder / file for file in (TEST_PREDICTIONS, "test.json", "config.yaml")]
        writing.log_files(run, files)
    writing.finish_sweep(run, report["reason"], metrics, "FINISHED")
    return number


def compare_with_champion(
    name: str, version: int, loss: LossName, table: Table, tested: pd.DataFrame
) -> tuple[bool, str]:
    """Return whether a version of the model becomes the champion, and why.

    Both must have been tested on the same rows. The lead in the main measure of the loss must
    exceed two standard errors of a bootstrap.
    """
    data_version, main = table.data_version, MAIN[loss]
    champion = registry.champion(name)
    if champion is None:
        return True, f"Version {version} of {name} is the first champion."
    current = f"the champion, version {champion['version']}"
    stays = f"Version {version} of {name} does not become champion"
    content = reading.read_artifact(champion["run_id"], TEST_PREDICTIONS)
    if content is None or champion["data.version"] != data_version:
        return False, (
            f"{stays}: {current}, was tested with data version {champion['data.version']}, not "
            f"{data_version}; use --promote to make it the champion."
        )
    columns = [table.target, "predicted"]
    old, new = (
        bootstrap(loss, blocks(rows), *(rows[column].to_numpy() for column in columns))
        for rows in (pd.read_parquet(io.BytesIO(content)), tested)
    )
    gain, error = lead(new, old)[main]
    measured = (
        f"its test {NAMES[main].removeprefix('mean Poisson ')} is {abs(gain):.3f}"
        f"{unit_of(main, table.unit)} {'lower' if gain > 0 else 'higher'} than that of {current} "
        f"(standard error {error:.3f}; a new champion needs a lead of more than "
        f"{STANDARD_ERRORS:g} standard errors)"
    )
    if gain > STANDARD_ERRORS * error:
        return True, f"Version {version} of {name} becomes champion: {measured}."
    return False, f"{stays}: {measured}."
