"""A Hydra launcher that gives all jobs of a sweep to the task at once."""

__version__ = "0.1.0"
