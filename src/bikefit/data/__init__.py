"""The data: from the published table to the features of the networks.

Stages, each run by `dvc repro` or separately from the project's root:
`download` → `clean` → (`look`) → `featurize`.
"""
