"""The classifier under attack, and kernels that make its gradients cheap."""
