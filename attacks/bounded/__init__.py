"""Ascent inside an ε-ball."""
