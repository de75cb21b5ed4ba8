"""The version, read by the build and by `onnxact --version`."""

__version__ = "0.1.0"
