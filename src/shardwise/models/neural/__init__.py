"""Neural networks for tables: trained by PyTorch (extra `torch`), saved as safetensors, predicted by NumPy alone."""
