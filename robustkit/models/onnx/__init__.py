"""ONNX files: run by onnxruntime, and converted to PyTorch for their gradients where the answers stay the same."""
