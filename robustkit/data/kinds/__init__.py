"""Kinds of data that have a file each."""
