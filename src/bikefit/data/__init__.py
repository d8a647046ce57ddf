"""Data: from the published table to the features of the networks.

The stages `download` → `clean` → (`look`) → `featurize` are modules that `dvc repro` runs.
"""
