"""Kinds of models, a file each."""
