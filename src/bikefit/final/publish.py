"""Register a tested model, and make it the champion if it is significantly better."""

from __future__ import annotations

import io
import tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml

from bikefit.data.files import write_json
from bikefit.final.choose import RefitPlan
from bikefit.final.evaluate import DELIVERED, TestResult
from bikefit.final.model import Model
from bikefit.final.rows import OPTIONAL, REQUIRED
from bikefit.final.scores import day_sums, lead
from bikefit.tracking import reading, registry, writing

REPORT = "test.json"
TEST_PREDICTIONS = "test_predictions.parquet"
"""Artifact of a refit: the test rows with all predictions."""
STANDARD_ERRORS = 2.0  # of the lead that makes a new champion
PACKAGES = ["lightgbm", "mlflow", "numpy", "pandas", "pydantic", "pyyaml", "safetensors"]
PACKAGES += ["scikit-learn", "scipy", "torch"]
"""Packages that the registered model needs besides its own code."""
EXAMPLE = pd.DataFrame(
    [
        ("2012-10-05T17:00", 21.0, 60.0, 12.0, "clear", 21.5, "no"),
        ("2012-12-25T03:00", 4.5, 81.0, 0.0, "mist", 2.0, "yes"),
    ],
    columns=[*REQUIRED, *OPTIONAL],
)


def publish(plan: RefitPlan, model: Model, test: TestResult, name: str, promote: bool) -> str:
    """Register a tested model under a name, and decide whether it becomes the champion.

    Returns:
        The decision and its reason. With ``promote``, it becomes the champion in any case.
    """
    data_version = test.report["data_version"]
    run = writing.start_refit(plan.members[0], plan.sweep, data_version, plan.configuration)
    try:
        number = _register(run, plan, model, test, name)
        better, reason = compare_with_champion(name, number, test)
        if better or promote:
            registry.promote(name, number)
    except BaseException as error:
        writing.fail_run(run, repr(error))
        raise
    return f"{reason} It was promoted on request." if promote and not better else reason


def _register(run: str, plan: RefitPlan, model: Model, test: TestResult, name: str) -> int:
    """Log the model and its files to a run, register it and return the number of the version."""
    metrics = {f"test/{key}": value for key, value in test.report["models"][DELIVERED].items()}
    metrics["test/interval_coverage"] = test.report["interval"]["coverage"]
    tags = {
        "sweep": plan.sweep,
        "configuration": plan.configuration,
        "data.version": test.report["data_version"],
        **{key: f"{value:.6g}" for key, value in metrics.items()},
    }
    networks = [
        {"weight": weight, **settings.model_dump(mode="json", by_alias=True)}
        for settings, weight in zip(plan.members, plan.weights, strict=True)
    ]
    config = {"networks": networks, "share of trees": plan.trees_weight}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save(folder / registry.MODEL)
        test.predictions.to_parquet(folder / TEST_PREDICTIONS, index=False)
        write_json(folder / REPORT, test.report)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        number = registry.register(
            run,
            name,
            folder / registry.MODEL,
            EXAMPLE,
            model.predict(EXAMPLE),
            OPTIONAL,
            [f"{package}=={version(package).split('+')[0]}" for package in PACKAGES],
            tags,
        )
        files = [folder / file for file in (TEST_PREDICTIONS, REPORT, "config.yaml")]
        writing.finish_refit(run, metrics, plan.reason, files)
    return number


def compare_with_champion(name: str, version: int, test: TestResult) -> tuple[bool, str]:
    """Return whether a version becomes the champion of a registered model, and why.

    Both must have been tested on the same rows. The lead in mean Poisson deviance must exceed two
    standard errors of a bootstrap over whole days.
    """
    champion = registry.champion(name)
    if champion is None:
        return True, f"Version {version} of {name} is the first champion."
    current = f"the champion, version {champion['version']}"
    stays = f"Version {version} of {name} does not become champion"
    content = reading.read_artifact(champion["run_id"], TEST_PREDICTIONS)
    tested, ours = champion.get("data.version"), test.report["data_version"]
    obstacle = f"has no {TEST_PREDICTIONS}" if content is None else ""
    if tested != ours:
        obstacle = f"was tested with data version {tested}, not {ours}"
    if obstacle:
        return False, f"{stays}: {current}, {obstacle}; use --promote to make it the champion."
    tables = pd.read_parquet(io.BytesIO(content or b"")), test.predictions
    columns = ["timestamp", "rentals", "predicted"]
    old, new = (day_sums(*(rows[name].to_numpy() for name in columns)) for rows in tables)
    gain, error = lead(new, old)["deviance"]
    measured = (
        f"its test deviance is {abs(gain):.3f} bikes/hour {'lower' if gain > 0 else 'higher'} than "
        f"that of {current} (standard error {error:.3f}; a new champion needs a lead of more than "
        f"{STANDARD_ERRORS:g} standard errors)"
    )
    if gain > STANDARD_ERRORS * error:
        return True, f"Version {version} of {name} becomes champion: {measured}."
    return False, f"{stays}: {measured}."
