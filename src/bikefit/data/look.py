"""The stage `python -m bikefit.data.look`: plots of the data.

Writes `reports/raw_data.png` of the bike data, and `reports/tables/<table>.png` of each table of
`params.yaml` that is made of a file.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bikefit.data.bikes.columns import read_clean
from bikefit.data.bikes.look import draw
from bikefit.data.features import TIME, categories_of, words_of
from bikefit.data.files import atomic_write
from bikefit.data.params import naming, read_section
from bikefit.data.sources import BIKES, Source, read_source
from bikefit.data.style import BLUE, RED, STYLE
from bikefit.data.table_params import FeaturizeParams
from bikefit.errors import run_command

FIGURE_FILE = Path("reports/raw_data.png")
TABLE_FOLDER = Path("reports/tables")
PANELS = 4  # in a row of a figure
BINS = 20  # of the mean of the target as a function of a column
MOST_WORDS = 12  # categories that are shown


def draw_table(source: Source) -> Figure:
    """Plot the distribution of the target, and the target against each column.

    Lines and crosses are means of the target: of bins with equal numbers of rows, or of single
    values and categories.
    """
    rows, target = source.rows, source.target
    label = f"{target} ({source.unit})" if source.unit else target
    columns = [str(name) for name in rows if name != target]
    height = -(-(len(columns) + 1) // PANELS)
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 2.8 * height), dpi=110, layout="constrained")
        panels = figure.subplots(height, PANELS, squeeze=False).flat
        first = next(panels)
        first.hist(rows[target], bins=40, color=BLUE, alpha=0.6)
        first.set(xlabel=label, ylabel="rows", title=f"{len(rows):,} rows")
        for name in columns:
            axes = next(panels)
            _plot_column(axes, rows, name, target)
            axes.set(xlabel="time" if name == TIME else name, ylabel=label)
        for axes in panels:
            axes.axis("off")
    return figure


def _plot_column(axes: Axes, rows: pd.DataFrame, name: str, target: str) -> None:
    values = rows[name]
    dots: dict[str, Any] = {"s": 5, "color": BLUE, "alpha": 0.25, "linewidth": 0}
    if name != TIME and (values.dtype == bool or not pd.api.types.is_numeric_dtype(values)):
        words = categories_of(values)[:MOST_WORDS]
        position = words_of(values).map({word: i for i, word in enumerate(words)})
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(rows))
        axes.scatter(position + shift, rows[target], **dots)
        means = rows[target].groupby(position).mean()
        axes.plot(means.index, means, "x", color=RED, markersize=8)
        axes.set_xticks(range(len(words)), words, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(words) - 0.5)
        return
    axes.scatter(values, rows[target], **dots)
    if values.nunique() <= BINS:
        bins, style = values, "x-"
    else:
        bins, style = pd.qcut(values.rank(method="first"), BINS, labels=False), "-"
    binned = pd.DataFrame({"x": values, "y": rows[target]}).groupby(bins).mean()
    axes.plot(binned["x"], binned["y"], style, color=RED, linewidth=2)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        # By default the file contains the version of matplotlib.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    print(f"look: {path}")


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    _save(draw(read_clean()), FIGURE_FILE)
    params = read_section("featurize", FeaturizeParams)
    TABLE_FOLDER.mkdir(exist_ok=True)
    for name, table in params.tables.items():
        if table.source not in BIKES:
            with naming(f"featurize.tables.{name}"):
                source = read_source(table, table.split or params.split)
            _save(draw_table(source), TABLE_FOLDER / f"{name}.png")


if __name__ == "__main__":
    sys.exit(run_command(main))
