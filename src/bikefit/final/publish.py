"""Register a tested model, and make it the champion if it is significantly better."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bikefit.data.files import write_json
from bikefit.data.rows import blocks
from bikefit.final.choose import OUR_MODEL, RefitPlan
from bikefit.final.data import RefitData
from bikefit.final.model import Model
from bikefit.final.scores import MAIN, NAMES, bootstrap, lead, unit_of
from bikefit.losses import LossName
from bikefit.tracking import reading, registry, writing

TEST_PREDICTIONS = "test_predictions.parquet"  # artifact of a refit: test rows, all predictions
STANDARD_ERRORS = 2.0  # lead that a new champion needs
PACKAGES = "lightgbm mlflow numpy pandas pydantic pyyaml safetensors scikit-learn scipy torch"


def publish(
    plan: RefitPlan,
    data: RefitData,
    model: Model,
    report: dict[str, Any],
    tested: pd.DataFrame,
    promote: bool,
) -> str:
    """Register a model, fitted on all rows, and return whether it becomes champion, and why.

    `report` and `tested` are the results of :func:`~bikefit.final.evaluate.evaluate_models`. With
    ``promote``, the model becomes the champion in any case.
    """
    settings, description, table = plan.settings(OUR_MODEL), plan.describe(OUR_MODEL), data.table
    run = writing.start_refit(settings[0], plan.sweep, table.data_version, description, table.tags)
    try:
        metrics = {f"test/{key}": value for key, value in report["models"][OUR_MODEL].items()}
        if report["interval_coverage"] is not None:
            metrics["test/interval_coverage"] = report["interval_coverage"]
        tags = {
            "sweep": plan.sweep,
            "configuration": description,
            "data.version": table.data_version,
            **{key: f"{value:.6g}" for key, value in metrics.items()},
        }
        networks = [one.model_dump(mode="json", by_alias=True) for one in settings]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_json(folder / "test.json", report)
            tested.to_parquet(folder / TEST_PREDICTIONS, index=False)
            config = yaml.safe_dump(
                {"networks": networks, "share of trees": plan.share}, sort_keys=False
            )
            (folder / "config.yaml").write_text(config, encoding="utf-8")
            writing.log_files(run, list(folder.iterdir()))
        number = _register(run, data, model, tags)
        writing.finish_sweep(run, report["reason"], metrics, "FINISHED")
        better, reason = compare_with_champion(plan.loss, data, number, tested)
        if better or promote:
            registry.promote(data.model_name, number)
    except BaseException as error:
        writing.fail_run(run, repr(error))
        raise
    return f"{reason} It was promoted on request." if promote and not better else reason


def _register(run: str, data: RefitData, model: Model, tags: Mapping[str, str]) -> int:
    """Attach a model to a run, register it and return the number of its version."""
    example = model.inputs.example(data.rows())
    requirements = [f"{package}=={version(package).split('+')[0]}" for package in PACKAGES.split()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / registry.MODEL
        model.save(folder)
        examples = example, model.predict(example), model.inputs.optional
        return registry.register(run, data.model_name, folder, *examples, requirements, tags)


def compare_with_champion(
    loss: LossName, data: RefitData, version: int, tested: pd.DataFrame
) -> tuple[bool, str]:
    """Return whether a version of the model becomes the champion, and why.

    Both must have been tested on the same rows. The lead in the main measure of the loss must
    exceed two standard errors of a bootstrap.
    """
    name, table, main = data.model_name, data.table, MAIN[loss]
    champion = registry.champion(name)
    if champion is None:
        return True, f"Version {version} of {name} is the first champion."
    current = f"the champion, version {champion['version']}"
    stays = f"Version {version} of {name} does not become champion"
    advice = "; use --promote to make it the champion."
    content = reading.read_artifact(champion["run_id"], TEST_PREDICTIONS)
    if content is None or champion["data.version"] != table.data_version:
        return False, (
            f"{stays}: {current}, was tested with data version {champion['data.version']}, not "
            f"{table.data_version}{advice}"
        )
    old, new = (
        bootstrap(loss, blocks(rows), rows[table.target].to_numpy(), rows["predicted"].to_numpy())
        for rows in (pd.read_parquet(io.BytesIO(content)), tested)
    )
    gain, error = lead(new, old)[main]
    difference = f"{abs(gain):.3f}{unit_of(main, table.unit)} {'lower' if gain > 0 else 'higher'}"
    measured = (
        f"its test {NAMES[main].removeprefix('mean Poisson ')} "
        f"{f'is {difference} than' if round(gain, 3) else 'equals'} that of {current} "
        f"(standard error {error:.3f}; a new champion needs a lead of more than "
        f"{STANDARD_ERRORS:g} standard errors)"
    )
    if gain > STANDARD_ERRORS * error:
        return True, f"Version {version} of {name} becomes champion: {measured}."
    return False, f"{stays}: {measured}{advice}"
