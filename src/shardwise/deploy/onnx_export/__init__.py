"""A package as one ONNX graph: raw columns in, the answer out. `write.write_onnx` is the entry."""
