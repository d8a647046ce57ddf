"""How all pictures look; no picture is drawn here."""

from typing import Any

FAINT = "#E9EBED"  # grids and bands that must not draw the eye

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
}
