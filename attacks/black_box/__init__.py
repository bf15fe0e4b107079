"""Attacks on scores or labels alone, and noise to compare them with."""
