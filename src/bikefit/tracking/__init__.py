"""Access to MLflow.

A sweep is a parent run, and each of its jobs is a child run. The run of a job with holdout
validation has the results of its member. The run of a job with k-fold validation has the mean and
standard error over its folds, and one child run per fold.
"""
