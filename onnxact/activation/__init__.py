"""What an activation is: mathematics only. Nothing here imports onnx, torch or onnxruntime."""
