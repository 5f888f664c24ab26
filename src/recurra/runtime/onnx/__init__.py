"""ONNX: writing a loaded model, and reading what this or PyTorch wrote."""
