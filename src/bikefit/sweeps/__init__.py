"""From configs to results: jobs, the stacks they train in, the processes that train them.

``command`` is one command of a user, ``jobs`` turns configs into stacks and results into runs,
``processes`` and ``cluster`` train stacks here and elsewhere, ``fingerprints`` says what has been
trained already.
"""
