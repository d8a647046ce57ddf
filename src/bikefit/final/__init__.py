"""From the winner of a sweep to a model that somebody uses: refit, test, register, predict."""
