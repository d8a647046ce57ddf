"""Training of many configurations.

``command`` is a command of the user, ``jobs`` its configurations, ``stacks`` plans which of them
train together, ``engines`` is where they train, ``run`` trains them in one loop, ``recording``
writes runs, curves and results to MLflow, and ``fingerprints`` identifies results.
"""
