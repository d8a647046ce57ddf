"""Comparison of the configurations of a sweep: ranking, verdicts, figures and the report.

The results are read from MLflow; `python -m bikefit.compare` is the command.
"""
