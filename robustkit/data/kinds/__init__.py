"""Kinds of data that people bring: a file a kind, a line in the tables of `data/load.py`."""
