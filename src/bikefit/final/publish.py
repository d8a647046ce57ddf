"""A tested model becomes a version in the registry, and perhaps the champion."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bikefit.data.files import to_json
from bikefit.final import champion
from bikefit.final.choice import Choice
from bikefit.final.model import Model
from bikefit.final.report import DELIVERED
from bikefit.final.rows import OPTIONAL
from bikefit.tracking import registry, writing
from bikefit.training.members import Failure

REPORT = "test.json"
PACKAGES = (
    "lightgbm", "mlflow", "numpy", "pandas", "pydantic", "pyyaml", "safetensors", "scikit-learn",
    "scipy", "torch",
)  # fmt: skip
"""All that the registered model needs beside its own code."""

EXAMPLE = pd.DataFrame(
    {
        "at": ["2012-10-05T17:00", "2012-12-25T03:00"],
        "temp": [21.0, 4.5],
        "humidity": [60.0, 81.0],
        "windspeed": [12.0, 0.0],
        "weather": ["clear", "mist"],
        "feels_like": [21.5, 2.0],
        "holiday": ["no", "yes"],
    }
)


@dataclass(frozen=True, eq=False)
class Tested:
    """What the test rows said: the report, and the rows in the columns of `champion`."""

    report: dict[str, Any]
    predictions: pd.DataFrame


def publish(choice: Choice, model: Model, test: Tested, name: str, promote: bool) -> str:
    """Register a model below a run of its own and decide about the alias `champion`.

    Args:
        choice: what was fitted.
        model: fitted on all rows.
        test: of the same networks, fitted without the test rows.
        name: of the registered model.
        promote: make it the champion in any case.

    Returns:
        What was decided and why, in words.
    """
    data_version = test.report["data_version"]
    run = writing.start_refit(choice.members[0], choice.sweep, data_version, choice.configuration)
    try:
        number = _register(run, choice, model, test, name)
        better, said = champion.decide(name, number, test.predictions, data_version)
        if better or promote:
            registry.promote(name, number)
    except BaseException as error:
        writing.fail_run(run, Failure(repr(error)))
        raise
    return f"{said} It was promoted on request." if promote and not better else said


def _register(run: str, choice: Choice, model: Model, test: Tested, name: str) -> int:
    figures = {f"test/{key}": value for key, value in test.report["models"][DELIVERED].items()}
    figures["test/interval_coverage"] = test.report["interval"]["coverage"]
    tags = {"sweep": choice.sweep, "configuration": choice.configuration}
    tags |= {"data.version": test.report["data_version"]}
    tags |= {key: f"{value:.6g}" for key, value in figures.items()}
    networks = [
        {"weight": weight, **settings.model_dump(mode="json", by_alias=True)}
        for settings, weight in zip(choice.members, choice.weights, strict=True)
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model.save(folder / registry.MODEL)
        test.predictions.to_parquet(folder / champion.PREDICTIONS, index=False)
        (folder / REPORT).write_text(to_json(test.report), encoding="utf-8")
        (folder / "config.yaml").write_text(
            yaml.safe_dump({"networks": networks, "share of trees": choice.share}, sort_keys=False)
        )
        number = registry.register(
            run, name, folder / registry.MODEL, EXAMPLE, model.predict(EXAMPLE), OPTIONAL,
            requirements(PACKAGES), tags,
        )  # fmt: skip
        files = [folder / file for file in (champion.PREDICTIONS, REPORT, "config.yaml")]
        writing.finish_refit(run, figures, choice.why, files)
    return number


def requirements(packages: Sequence[str]) -> list[str]:
    """Pin packages to what is installed, without the mark of a build (``2.13.0+cpu``)."""
    return [f"{name}=={version(name).split('+')[0]}" for name in packages]
