"""Training of many configurations.

``command`` trains the jobs of a command, ``jobs`` describes them, ``stacks`` groups their members,
``run`` trains the stacks on an engine (``engines``), ``recording`` writes them to MLflow, and
``fingerprints`` identifies results.
"""
