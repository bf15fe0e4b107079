"""Maths of the L∞, L2 and L1 balls cut by the box [0,1]."""
