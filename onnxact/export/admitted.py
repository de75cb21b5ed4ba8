"""onnx_ir.Model -> nothing where every op admits the floating types that it gets, else an ExportError with a way out.

PyTorch's exporter writes Elu on bfloat16 at any opset; ONNX admits that from opset 22.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from onnxact.errors import ExportError
from onnxact.model.schema import LATEST_OPSET, admits

BFLOAT16_OPSET = 22
"""The first opset in which ONNX's ops for networks admit bfloat16: Conv-22, Elu-22, MaxPool-22 (onnx, Changelog.md)."""
_TYPES = {"FLOAT16": "float16", "BFLOAT16": "bfloat16", "FLOAT": "float32", "DOUBLE": "float64"}


def demand_types(model: Any, *, asked: int | None) -> None:
    """Raise ExportError where a node gives a floating type that its op does not admit at the model's opset."""
    opset = int(model.opset_imports[""])
    for op, dtype, name in _floating(model):
        if _is_refused(op, dtype, opset):
            later = next((at for at in range(opset + 1, LATEST_OPSET + 1) if admits(op, dtype, at)), None)
            way_out = "" if later is None else f"; give --opset {later} or later"
            raise ExportError(
                f"{name}: ONNX's {op} takes no {dtype} at opset {opset}{way_out or '; choose another --dtype'}"
            )


def _floating(model: Any) -> Iterator[tuple[str, str, str]]:
    """Yield op, type and name of each node of ONNX's own that gives a floating tensor and takes none but such."""
    seen: set[tuple[str, str]] = set()
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            kinds = [_TYPES.get(value.dtype.name, "") for value in node.outputs if value.dtype is not None]
            if node.domain in ("", "ai.onnx") and kinds and kinds[0] and (node.op_type, kinds[0]) not in seen:
                seen.add((node.op_type, kinds[0]))
                yield node.op_type, kinds[0], node.name


@cache
def _is_refused(op: str, dtype: str, opset: int) -> bool:
    return not admits(op, dtype, opset)
