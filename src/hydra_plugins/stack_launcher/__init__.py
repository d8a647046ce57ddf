"""A Hydra launcher that trains the jobs of a sweep as stacks, and two sweepers."""

__version__ = "0.1.0"
