"""Colours and Matplotlib settings of all figures."""

from typing import Any

# Okabe-Ito palette: colour-blind readers can distinguish these.
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
FAINT = "#E9EBED"
"""Colour of grids and shaded bands."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": "#444444",
    "axes.edgecolor": "#BBBBBB",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "legend.frameon": False,
    "date.converter": "concise",
}
"""Matplotlib settings of all figures of the project."""
