"""What `robustkit.models` and `robustkit.data` are made of."""
