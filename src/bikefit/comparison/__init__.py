"""The compare room: what a sweep found out, read back from the tracking store.

`python -m bikefit.compare` ranks the configurations of a sweep in tables, sentences and pictures.
"""
