"""ONNX Runtime's blocked layout of tensors (com.microsoft.nchwc) back to the layout of ONNX."""
