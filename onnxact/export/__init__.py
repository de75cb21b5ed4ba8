"""PyTorch module -> ONNX file that is shown to compute the same.

onnxact.export(module, (torch.zeros(2, 3, 224, 224),), "net.onnx")     the function of onnxact.api

target      "models/resnet.py:resnet18" -> the module        archive    "net.pt2" -> the program
example     what it is traced with, --input and --dynamic    weights    safetensors or .pt into it
translation torch.onnx.export                                mending    where that fails or computes worse
naming      node names from module paths                     staging    files that appear when all is done
eager       what PyTorch computes itself                     evidence   both held against each other
"""
