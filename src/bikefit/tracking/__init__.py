"""Everything that is written to MLflow or read from it.

A sweep is a parent run and each of its jobs is a child run. The run of a job with holdout
validation holds the results of its only member. The run of a job with k-fold validation holds the
mean and standard error over its folds and has one child run per fold.
"""
