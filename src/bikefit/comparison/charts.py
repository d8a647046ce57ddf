"""Shared parts of all figures: style, colours, axes and files.

Figures are drawn without a window, and the same runs give the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bikefit.data.look import STYLE

# Okabe-Ito palette, distinguishable for colour-blind readers.
ROLES = {"winner": "#009E73", "underfitting": "#0072B2", "overfitting": "#D55E00"}
GREY = "#8A9096"
INK = "#222222"
LOGARITHMIC = 6.0  # ratio of the largest to the smallest value from which axes are logarithmic


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure in the project's style; sizes in inches."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def new_axes(width: float = 4.7, height: float = 3.3) -> Iterator[Axes]:
    """Yield the axes of a figure that is readable on a phone; sizes in inches."""
    with new_figure(width, height) as figure:
        yield figure.subplots()


def figure_of(axes: Axes) -> Figure:
    """Return the figure of axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without the version of the library in it."""
    figure.savefig(path, format="png", metadata={"Software": None})


def svg(figure: Figure) -> str:
    """Return a figure as SVG with text as text, the same for the same figure."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bikefit"}):
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    return buffer.getvalue()


def set_title(axes: Axes, text: str) -> None:
    """Set a title, wrapped to the width of :func:`new_axes`."""
    axes.set_title(textwrap.fill(text, 48))


def legend_below(axes: Axes, columns: int = 3) -> None:
    """Put the legend below the axes, where it hides no curve."""
    figure_of(axes).legend(loc="outside lower left", ncols=columns, fontsize=7.5)


def spans_decades(values: Iterable[float]) -> bool:
    """Return whether values span so much that a linear axis would hide most differences."""
    array = np.asarray(list(values), dtype=float)
    return bool(array.size and array.min() > 0 and array.max() / array.min() > LOGARITHMIC)


def round_ticks(axis: Axis) -> None:
    """Put ticks at round numbers of a logarithmic axis, as many as there is room for."""
    low, high = axis.get_view_interval()
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 30 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs if high / low < 1000 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
