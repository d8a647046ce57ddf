"""What things are called in MLflow: tags, artifacts, columns."""

from __future__ import annotations

PREDICTIONS = ("timestamp", "rentals", "predicted")  # of the validation rows, bikes/hour
KIND = "bikefit.kind"  # tag: sweep | job | fold | refit
REFIT = "refit"
PARENT = "mlflow.parentRunId"
SWEEP = "bikefit.sweep"  # tag: of a job, the latest sweep that counts it as its own
OWNER = "bikefit.process"  # tag: process_id of the process that writes the run
FINGERPRINT = "fingerprint"
REUSED = "reused.json"  # artifact: ids of the finished runs that a run refers to, instead of copies
CONFIGURATION = "configuration"  # tag: all that a run shares with those of other seeds, in words
MODEL = "model"  # name of the logged model, and of the folder of its files
# tags that a run gets with its verdict, by the columns of the verdicts' table
VERDICT = {
    "configuration": CONFIGURATION, "verdict": "verdict", "reason": "verdict.reason",
    "next": "verdict.next",
}  # fmt: skip
COLOUR = "mlflow.runColor"  # tag: of a run in MLflow's charts
