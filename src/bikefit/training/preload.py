"""Modules that worker processes share: the fork server imports this once, workers fork from it."""

# ruff: noqa: E402
import gc

gc.disable()  # collecting would take a fifth of the import time

import bikefit.training.fit  # noqa: F401

gc.freeze()  # workers share the pages of imported objects, which collecting would copy
gc.enable()
