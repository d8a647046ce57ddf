"""Rentals with a known expected value, for which bias, variance and noise can be told apart.

Calendar and weather are those of the bike tables. Commuters ride in the rush hours of every season,
others in the afternoon of warm days. At hour h (0 to 23) and temperature t (°C), the expected
rentals (bikes/hour) are::

    10 + 30 s (exp(-(h - 8)² / 4) + exp(-(h - 17)² / 6))
       + 60 exp(-(h - 15)² / 18) exp(-(t - 26)² / 100)

with s = 0.6 in winter, 1 in spring, 0.9 in summer and 1.1 in autumn. Rentals are Poisson counts. No
other column has an influence. The sum of two products is no product of functions of one column, so
a Poisson regression, which multiplies such functions, cannot represent it.
"""

from typing import Final

import numpy as np
import pandas as pd

from bikefit.data.bikes.columns import TARGET

KNOWN: Final = "known"
"""Name of the source."""

EXPECTED: Final = "expected"
"""Column of the expected rentals in the rows of the source."""

SEED: Final = 0  # of the counts

COMMUTERS: Final = {"winter": 0.6, "spring": 1.0, "summer": 0.9, "autumn": 1.1}


def expected_rentals(rows: pd.DataFrame) -> np.ndarray:
    """Return the expected rentals of rows with timestamp, season and temperature, (N,)."""
    hour = rows["timestamp"].dt.hour.to_numpy(float)
    season = rows["season"].astype(str).map(COMMUTERS).to_numpy(float)
    rush = np.exp(-((hour - 8) ** 2) / 4) + np.exp(-((hour - 17) ** 2) / 6)
    warm = np.exp(-((rows["temperature"].to_numpy(float) - 26) ** 2) / 100)
    return 10 + 30 * season * rush + 60 * np.exp(-((hour - 15) ** 2) / 18) * warm


def with_known_rate(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose rentals are drawn, with the expected rentals as another column."""
    expected = expected_rentals(rows)
    counts = np.random.default_rng(SEED).poisson(expected)
    return rows.assign(**{TARGET: counts, EXPECTED: expected})
