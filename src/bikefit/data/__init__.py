"""The data room: from the published table to the features of the networks.

Stages, each run by `dvc repro` or by hand from the project's root:
`download` → `clean` → (`look`) → `featurize`. Nothing here knows about the networks.
"""
