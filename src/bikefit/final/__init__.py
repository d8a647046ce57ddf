"""Choose what to refit, fit it, evaluate it on the test rows, register it, predict."""
