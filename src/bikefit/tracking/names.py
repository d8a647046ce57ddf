"""Names of tags, artifacts and columns in MLflow."""

from __future__ import annotations

KIND = "bikefit.kind"  # tag: sweep | job | fold | refit
PARENT = "mlflow.parentRunId"  # tag: MLflow's page nests runs by it
PROCESS = "bikefit.process"  # tag: process_id of the process that writes the run
ALIVE = "bikefit.alive"  # tag: ms since 1970 of the last sign of life of that process
FINGERPRINT = "fingerprint"  # tag: hash of everything that determines the result
CONFIGURATION_ID = "configuration.id"  # tag: equal for runs that differ in seed or fold only
CONFIGURATION = "configuration"  # tag: label of a configuration in the ranking of its sweep
METHOD = "method.kind"  # tag: regularization methods without their strengths
TARGET, UNIT = "data.target", "data.unit"  # tags: name of the target, and its unit if any
NETWORK = "network.label"  # tag: kind, sizes and activation of the network
MODEL = "model"  # name of the logged model, and of the folder of its files
# Tags of a verdict, by the columns of the table of verdicts
VERDICT = {
    "configuration": CONFIGURATION,
    "verdict": "verdict",
    "reason": "verdict.reason",
    "next": "verdict.next",
}
PLANE, CURVES = "plane", "curves"  # views of a sweep that show only some of its runs
COLOUR = "mlflow.runColor"  # tag: colour of a run in MLflow's charts


def member_of(parent: str) -> str:
    """Return the name of the tag of all runs of a sweep or a cross-validated job."""
    return f"bikefit.member_of.{parent}"


def views_of(sweep: str) -> str:
    """Return the name of the tag with the views of a sweep that show a run."""
    return f"bikefit.views.{sweep}"
