"""Kinds of models that come from outside, a file each."""
