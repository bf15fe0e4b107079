"""Kinds of models that people bring: a file a kind, a line in the tables of `models/loaders.py`."""
