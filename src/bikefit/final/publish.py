"""Register a tested model, and make it the champion if it is significantly better."""

from __future__ import annotations

import io
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bikefit.data.bikes.rows import OPTIONAL, REQUIRED
from bikefit.data.files import write_json
from bikefit.data.rows import blocks
from bikefit.final.choose import OUR_MODEL, RefitPlan
from bikefit.final.model import Model
from bikefit.final.scores import block_sums, lead
from bikefit.tracking import reading, registry, writing

NAME = "bikefit"  # of the registered model
TEST_PREDICTIONS = "test_predictions.parquet"  # artifact of a refit: test rows, all predictions
STANDARD_ERRORS = 2.0  # lead that a new champion needs
PACKAGES = "lightgbm mlflow numpy pandas pydantic pyyaml safetensors scikit-learn scipy torch"
EXAMPLE = pd.DataFrame(
    [
        ("2012-10-05T17:00", 21.0, 60.0, 12.0, "clear", 21.5, "no"),
        ("2012-12-25T03:00", 4.5, 81.0, 0.0, "mist", 2.0, "yes"),
    ],
    columns=[*REQUIRED, *OPTIONAL],
)


def publish(
    plan: RefitPlan, model: Model, report: dict[str, Any], tested: pd.DataFrame, promote: bool
) -> str:
    """Register a model, fitted on all rows, and return whether it becomes champion, and why.

    `report` and `tested` are the results of :func:`~bikefit.final.evaluate.evaluate_models`. With
    ``promote``, the model becomes the champion in any case.
    """
    first, *_ = plan.settings(OUR_MODEL)
    data_version = report["data_version"]
    run = writing.start_refit(first, plan.sweep, data_version, plan.describe(OUR_MODEL))
    try:
        number = _register(run, plan, model, report, tested)
        better, reason = compare_with_champion(number, data_version, tested)
        if better or promote:
            registry.promote(NAME, number)
    except BaseException as error:
        writing.fail_run(run, repr(error))
        raise
    return f"{reason} It was promoted on request." if promote and not better else reason


def _register(
    run: str, plan: RefitPlan, model: Model, report: dict[str, Any], tested: pd.DataFrame
) -> int:
    """Log a model and its test to a run, register it and return the number of its version."""
    metrics = {f"test/{key}": value for key, value in report["models"][OUR_MODEL].items()}
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
        example = EXAMPLE, model.predict(EXAMPLE), OPTIONAL
        number = registry.register(run, NAME, folder / registry.MODEL, *example, requirements, tags)
        files = [folder / file for file in (TEST_PREDICTIONS, "test.json", "config.yaml")]
        writing.log_files(run, files)
    writing.finish_sweep(run, report["reason"], metrics, "FINISHED")
    return number


def compare_with_champion(
    version: int, data_version: str, tested: pd.DataFrame
) -> tuple[bool, str]:
    """Return whether a version of the model becomes the champion, and why.

    Both must have been tested on the same rows. The lead in mean Poisson deviance must exceed two
    standard errors of a bootstrap over whole days.
    """
    champion = registry.champion(NAME)
    if champion is None:
        return True, f"Version {version} of {NAME} is the first champion."
    current = f"the champion, version {champion['version']}"
    stays = f"Version {version} of {NAME} does not become champion"
    content = reading.read_artifact(champion["run_id"], TEST_PREDICTIONS)
    if content is None or champion["data.version"] != data_version:
        return False, (
            f"{stays}: {current}, was tested with data version {champion['data.version']}, not "
            f"{data_version}; use --promote to make it the champion."
        )
    columns = ["rentals", "predicted"]
    old, new = (
        block_sums(blocks(rows), *(rows[name].to_numpy() for name in columns))
        for rows in (pd.read_parquet(io.BytesIO(content)), tested)
    )
    gain, error = lead(new, old)["deviance"]
    measured = (
        f"its test deviance is {abs(gain):.3f} bikes/hour {'lower' if gain > 0 else 'higher'} than "
        f"that of {current} (standard error {error:.3f}; a new champion needs a lead of more than "
        f"{STANDARD_ERRORS:g} standard errors)"
    )
    if gain > STANDARD_ERRORS * error:
        return True, f"Version {version} of {NAME} becomes champion: {measured}."
    return False, f"{stays}: {measured}."
