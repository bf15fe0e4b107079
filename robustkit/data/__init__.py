"""Labelled pictures by their name."""
