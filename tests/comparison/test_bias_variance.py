"""Bias, variance and noise: by hand, against closed forms, and of a sweep in a store."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.comparison.bias_variance import (
    bias_variance_chart,
    bias_variance_markdown,
    bias_variance_sentence,
    decompose,
)
from bikefit.comparison.compare import main
from bikefit.comparison.result import Comparison, compare
from bikefit.data.rows import read_rows
from bikefit.data.table import read_table
from bikefit.errors import DataError
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from bikefit.tracking import reading, writing
from bikefit.tracking.connection import TrackingError
from conftest import make_settings
from inline import INLINE

SMALL = ("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")


def test_the_squared_error_by_hand() -> None:
    predicted = np.array([[1.0, 5.0], [3.0, 5.0]])  # means 2 and 5, variances 2 and 0
    found = decompose("mse", np.array([4.0, 6.0]), predicted, np.array([5.0, 5.0]))
    expected = {
        "error": (5 + 1) / 2,
        "variance": (2 + 0) / 2,
        "rest": (2**2 - 2 / 2 + 1) / 2,  # the mean of two predictions has half their variance
        "bias": (3**2 - 2 / 2 + 0) / 2,
        "noise": (1 + 1) / 2,
        "sum": (8 + 0 + 2) / 2 + 1,
        # the noise -1 and 1 times twice the distance of the mean from the expected target
        "sum_se": np.std([2 * -1 * 3, 2 * 1 * 0], ddof=1) / math.sqrt(2),
        "error_se": np.std([(9 + 1) / 2, (1 + 1) / 2], ddof=1) / math.sqrt(2),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["variance"] + found["rest"] == pytest.approx(found["error"])


def test_the_poisson_deviance_by_hand() -> None:
    predicted = np.array([[1.0], [math.e], [math.e**2]])  # the geometric mean is e
    found = decompose("poisson", np.array([0.0]), predicted)
    plug_in = (1 + math.e + math.e**2) / 3 - math.e
    pairs = [(math.e, math.e**2), (1, math.e**2), (1, math.e)]
    left_out = [(a + b) / 2 - math.sqrt(a * b) for a, b in pairs]
    assert found["variance"] == pytest.approx(3 * plug_in - 2 * np.mean(left_out))
    assert found["error"] == pytest.approx((1 + math.e + math.e**2) / 3)  # of no rental
    assert found["rest"] == pytest.approx(found["error"] - found["variance"])
    assert found.keys() == {"error", "variance", "rest", "error_se", "variance_se", "rest_se"}


def test_few_networks_give_unbiased_terms_of_the_deviance() -> None:
    random, spread = np.random.default_rng(0), 0.6
    predicted = np.exp(random.normal(1, spread, (5, 20_000)))
    found = decompose("poisson", np.full(20_000, math.e), predicted, np.full(20_000, math.e))
    exact = math.exp(1 + spread**2 / 2) - math.e
    assert found["variance"] == pytest.approx(exact, rel=0.02)  # 20 % too low without correction
    assert found["bias"] == pytest.approx(0, abs=0.02 * exact)


def ridge(strength: float, sets: int) -> tuple[dict[str, float], float, float]:
    """Return the terms of ridge regressions on many training sets, and exact bias² and variance.

    With a fixed design the estimate is linear in the normal noise, so both have a closed form.
    """
    random = np.random.default_rng(1)
    design, new, truth = (random.normal(size=shape) for shape in ((30, 8), (400, 8), (8,)))
    gram = design.T @ design
    solver = new @ np.linalg.solve(gram + strength * np.eye(8), design.T)
    bias = np.mean((solver @ design @ truth - new @ truth) ** 2)
    variance = np.mean((solver**2).sum(axis=1))  # the noise has variance 1
    samples = design @ truth + random.normal(size=(sets, 30))
    target = new @ truth + random.normal(size=400)
    return decompose("mse", target, samples @ solver.T, new @ truth), float(bias), float(variance)


def test_ridge_regression_has_the_bias_and_variance_of_its_closed_form() -> None:
    strengths, terms = (0.0, 0.3, 1.0, 3.0, 10.0), []
    for strength in strengths:
        found, bias, variance = ridge(strength, sets=300)
        assert found["bias"] == pytest.approx(bias, abs=3 * found["bias_se"])
        assert found["variance"] == pytest.approx(variance, abs=3 * found["variance_se"])
        assert found["variance_se"] < 0.1 * variance
        assert found["sum"] == pytest.approx(found["error"], abs=3 * found["sum_se"])
        assert found["noise"] == pytest.approx(1, abs=0.2)
        terms.append(found)
    table = pd.DataFrame(terms)
    assert table["bias"].is_monotonic_increasing
    assert table["variance"].is_monotonic_decreasing
    assert 0 < int(table["error"].argmin()) < len(strengths) - 1  # a U


def test_variance_of_ridge_regressions_on_three_sets_is_unbiased() -> None:
    random = np.random.default_rng(2)
    values = random.normal(5, 2, (3, 50_000))
    found = decompose("mse", np.zeros(50_000), values, np.zeros(50_000))
    assert found["variance"] == pytest.approx(4, rel=0.02)
    assert found["bias"] == pytest.approx(25, rel=0.02)


def sweep(*configs: str) -> Comparison:
    """Train configurations on three training sets each, and compare them."""
    parent = writing.start_sweep("full", "training sets", [])
    sets = ("validation=resample", "validation.sets=3", *SMALL)
    jobs = [Job(make_settings(*sets, *config.split()), config) for config in configs]
    train_jobs(jobs, parent, engine=INLINE)
    return compare(parent)


LOSSES = {"poisson": ("", "half Poisson deviance"), "mse": (" loss=mse", "variance")}


@pytest.mark.slow(seconds=6)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_sweep_is_split_along_its_paths(workplace: Path, loss: str) -> None:
    more, unit = LOSSES[loss]
    found = sweep(*(f"regularization.l2={value}{more}" for value in (0, 0.1, 10)))
    table = found.bias_variance()
    assert table["sets"].tolist() == [3] * 3
    losses = found.ranking.set_index("configuration_id")["val_loss"]
    assert table["error"].tolist() == pytest.approx(losses[table["configuration_id"]].tolist())
    assert (table["variance"] + table["rest"]).tolist() == pytest.approx(table["error"].tolist())
    assert "bias" not in table  # unknown for this table
    (series,) = [series for series in found.series if series.path.last == "l2"]
    (axes,) = bias_variance_chart([series], table).axes
    assert unit in axes.get_figure(root=True).get_suptitle()
    lines = {str(line.get_label()): line.get_ydata() for line in axes.lines}
    ordered = table.set_index("configuration_id").loc[list(series.path.configurations)]
    assert list(lines["variance"]) == ordered["variance"].tolist()
    assert list(lines["bias² + noise"]) == ordered["rest"].tolist()
    assert list(lines["their sum"]) == ordered["error"].tolist()
    sentence = bias_variance_sentence(series, table)
    assert sentence.startswith("From l2 λ 10 to 0: bias² + noise from ")
    Path("page.md").write_text("<!-- terms -->\n<!-- end of terms -->\n")
    document = ["--document", "page.md", "--section", "terms"]
    assert main([found.sweep, "--reports", "reports", *document]) == 0
    head = "| configuration | measured loss | bias² + noise | variance |"
    assert head in Path("page.md").read_text()
    assert Path("reports/bias_variance.png").stat().st_size > 10_000
    assert "Bias and variance" in Path("reports/report.html").read_text()


@pytest.mark.slow
def test_noise_is_told_from_bias_where_the_expected_target_is_known(workplace: Path) -> None:
    found = sweep("data=known")
    (terms,) = found.bias_variance().to_dict("records")
    table = read_table(Path("data/features/known"))
    rows = read_rows(table, "validation").sort_values("timestamp")
    predictions = reading.read_predictions(found.runs["run_id"][0])
    assert predictions is not None
    predicted = predictions["predicted"].to_numpy(float).reshape(3, -1)
    expected = rows["expected"].to_numpy()
    exact = decompose("poisson", rows["rentals"].to_numpy(float), predicted, expected)
    for key in ("bias", "noise", "sum", "sum_se"):
        assert terms[key] == pytest.approx(exact[key], rel=1e-4), key
    assert terms["sum"] == pytest.approx(terms["bias"] + terms["variance"] + terms["noise"])
    assert "no curve to draw" in found.bias_variance_figure().texts[0].get_text()
    head = "| configuration | measured loss | bias² | variance | noise | their sum |"
    assert bias_variance_markdown(found.bias_variance()).startswith(head)


@pytest.mark.slow
def test_what_cannot_be_split_is_named(workplace: Path) -> None:
    parent = writing.start_sweep("full", "one training set", [])
    train_jobs([Job(make_settings(*SMALL), "")], parent, engine=INLINE)
    with pytest.raises(DataError, match="train with validation=resample"):
        compare(parent).bias_variance()
    with pytest.raises(TrackingError, match="has no predictions"):
        sweep("tracking.predictions=false").bias_variance()
