"""The command line: parse, one library call, report, exit code."""

from onnxact.cli.app import main

__all__ = ["main"]
