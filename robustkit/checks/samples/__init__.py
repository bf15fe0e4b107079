"""Checks of the samples: labels, preprocessing, and accuracy against chance."""
