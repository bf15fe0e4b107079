"""Changes that no norm bounds: patches, universal perturbations, rotations, corruptions."""
