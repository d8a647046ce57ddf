"""What the test says, as numbers and as a table for a document."""

from __future__ import annotations

from typing import Any

import numpy as np

from bikefit.final.scores import day_sums, lead, score

DELIVERED = "our model"
NETWORKS = "our networks alone"
WINNER = "the comparison's winner"
UNREGULARIZED = "our unregularized network"


def measure(
    timestamps: np.ndarray, target: np.ndarray, predicted: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Measure every model on the test rows.

    Args:
        timestamps: of the test rows, ``(N,)``.
        target: their rentals, ``(N,)``, bikes/hour.
        predicted: expected rentals by the name of the model, :data:`DELIVERED` among them.

    Returns:
        Of each model the values of :func:`bikefit.final.scores.score`, and of each but ours
        ``lead_rmse`` and ``lead_deviance``, by how much ours is better, with ``…_se``.
    """
    sums = {name: day_sums(timestamps, target, values) for name, values in predicted.items()}
    found = {name: score(days) for name, days in sums.items()}
    for name, days in sums.items():
        if name != DELIVERED:
            for measured, (gain, error) in lead(sums[DELIVERED], days).items():
                if measured != "mae":
                    found[name] |= {f"lead_{measured}": gain, f"lead_{measured}_se": error}
    return found


def table(report: dict[str, Any]) -> str:
    """Write a report (of ``reports/test.json``) as Markdown: ours first, then from the best."""
    models = sorted(
        report["models"].items(), key=lambda item: (item[0] != DELIVERED, item[1]["deviance"])
    )
    lines = [
        "| model | RMSE | mean Poisson deviance | MAE | ours is better by (deviance) |",
        "|:--|--:|--:|--:|--:|",
        *(_line(name, figures) for name, figures in models),
    ]
    return "\n".join([_sentence(report), "", *lines])


def _line(name: str, of: dict[str, float]) -> str:
    def cell(key: str, digits: int) -> str:
        low, high = of[f"{key}_low"], of[f"{key}_high"]
        return f"{of[key]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    behind = (
        "" if name == DELIVERED else f"{of['lead_deviance']:.2f} ± {of['lead_deviance_se']:.2f}"
    )
    shown = f"**{name}**" if name == DELIVERED else name
    cells = [shown, cell("rmse", 1), cell("deviance", 2), cell("mae", 1), behind]
    return f"| {' | '.join(cells)} |"


def _sentence(report: dict[str, Any]) -> str:
    interval, share = report["interval"], report["share_of_trees"]
    mean = _mean_of(report["networks"])
    mean += f" and, for {share:.0%}, of boosted trees" if share else ""
    compared = {WINNER: report["winner"], UNREGULARIZED: report["unregularized"]}
    others = "".join(
        f"; {name} is {_mean_of(report['seeds'])} of {configuration}"
        for name, configuration in compared.items()
        if configuration
    )
    return (
        f"{report['rows']:,} test rows ({report['days']} days) of table {report['table']}, "
        f"split kind {report['split']}, read by neither the sweep nor the choice. All models were "
        f"fitted on training and validation rows. {DELIVERED.capitalize()} is {mean} "
        f"({report['delivered']}){others}. All figures are in bikes/hour; "
        "[95 % interval] and ± standard error by a bootstrap over whole days. The "
        f"{interval['nominal']:.0%} interval of `predict` holds {interval['coverage']:.1%} of the "
        "test rows."
    )


def _mean_of(networks: int) -> str:
    return f"the mean of {networks} networks" if networks > 1 else "one network"
