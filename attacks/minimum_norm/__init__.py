"""Search for the smallest perturbation."""
