"""bikefit finds out which regularization makes a neural network fit rental-bike data well.

:func:`sweep`, :func:`compare` and :func:`predict` do from Python what `python -m bikefit.train -m`,
`python -m bikefit.compare` and `python -m bikefit.predict` do from the shell. :func:`load` returns
the trained network of a run.
"""

from bikefit.api import compare, load, predict, sweep

__all__ = ["compare", "load", "predict", "sweep"]
