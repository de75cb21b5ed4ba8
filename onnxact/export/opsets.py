"""(an onnx_ir.Model, an opset that it could not be brought down to) -> why, and the earliest opset that there is.

PyTorch's exporter writes opset 18 and converts that down with onnx.version_converter, which has adapters for some ops
of some versions: none takes Relu, Add, Mul or Div from opset 14 to 13 (onnx 1.23, version_converter/convert.h).
"""

from __future__ import annotations

import re
from typing import Any

from onnx import ModelProto, version_converter

_EXPORTERS = 18
"""The earliest opset that torch.onnx writes by itself (torch/onnx/_internal/exporter/_compat.py)."""
_LARGEST = 2**28
"""Bytes of weights above which earlier opsets are not tried: the converter copies them several times."""
_LACKING = re.compile(r"No Adapter (?:From|For).*")


def out_of_reach(model: Any, written: int, asked: int) -> str:
    """Return one sentence on why PyTorch's exporter wrote another opset than was asked for, with the way out."""
    reason, earliest = _tried(model, asked)
    because = f" ({reason})" if reason else ""
    return (
        f"--opset {asked}: PyTorch's exporter writes opset {written}, and onnx's version converter has no way from "
        f"there down to {asked}{because}; give --opset {earliest} or later"
    )


def _tried(model: Any, asked: int) -> tuple[str, int]:
    """Return what the converter says, and the earliest opset above `asked` that it reaches."""
    import onnx_ir

    sizes = [value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None]
    if sum(sizes) > _LARGEST:
        return "", _EXPORTERS
    proto = onnx_ir.serde.serialize_model(model)
    reason = _refusal(proto, asked)
    return reason, next((at for at in range(asked + 1, _EXPORTERS) if not _refusal(proto, at)), _EXPORTERS)


def _refusal(model: ModelProto, opset: int) -> str:
    """Return why a model cannot be converted to an opset, "" where it can."""
    try:
        version_converter.convert_version(model, opset)
    except Exception as error:  # noqa: BLE001 - it raises RuntimeError and what protobuf and C++ raise
        lacking = _LACKING.search(str(error))
        return lacking[0].replace("$", "") if lacking else type(error).__name__
    return ""
