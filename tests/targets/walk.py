"""What a target's file says against the nodes of a model, read from the TOML itself; shares no code with onnxact.

violations(model, path) is empty when every node among `nodes` uses only what the file allows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, defs, helper, numpy_helper

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPERANDS = {
    "Clip": ("input", "min", "max"), "PRelu": ("X", "slope"), "Pow": ("X", "Y"), "Where": ("condition", "X", "Y"),
    "Max": ("data_0", "data_1"), "Min": ("data_0", "data_1"), "Softplus": ("X",), "Tanh": ("input",),
}  # fmt: skip
BINARY = ("A", "B")
DTYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
INFINITE = float("inf")


class Walk:
    """One model against one file."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        self.file: dict[str, Any] = tomllib.loads(path.read_text())
        self.model = model
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.types = {v.name: v.type.tensor_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
        self.declared = {v.name for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}

    def violations(self, nodes: list[NodeProto]) -> Iterator[str]:
        """Yield what the file says against these nodes."""
        covered = self._in_patterns()
        for node in nodes:
            if node.op_type == "Constant":
                yield "a Constant node was written"
            if id(node) not in covered:
                yield from (f"{node.op_type} {node.name!r}: {reason}" for reason in self._against(node))
            if self.file.get("value_info"):
                yield from (f"{name!r} is not declared" for name in node.output if name not in self.declared)
        yield from self._sharing(nodes)

    def _in_patterns(self) -> set[int]:
        """Return the nodes that stand in the one pattern that a file of ours names by its order: TIDL's Gelu."""
        makers = {node.output[0]: node for node in self.model.graph.node}
        found: set[int] = set()
        for last in self.model.graph.node if "gelu" in self.file.get("patterns", {}) else ():
            chain = [last]
            for op in ("Mul", "Add", "Erf", "Div"):
                following = [makers[name] for name in chain[-1].input if name in makers and makers[name].op_type == op]
                chain += following[:1]
            if [node.op_type for node in chain] == ["Mul", "Mul", "Add", "Erf", "Div"]:
                found.update(map(id, chain))
        return found

    def _against(self, node: NodeProto) -> Iterator[str]:
        op = node.op_type
        if self.file.get("standard"):
            if node.domain not in ("", "ai.onnx"):
                yield "is not of the standard"
            return
        if op not in self.file["ops"]:
            yield "is not among the ops"
            return
        rule = self.file.get("restricted", {}).get(op, {})
        yield from self._versions(op, rule)
        yield from self._dimensions(node, rule)
        yield from self._operands(node, rule)
        for entry in self._wrong(op):
            bad = not entry.get("unless_stated") or not set(entry["unless_stated"]) <= {a.name for a in node.attribute}
            if bad and ("when" not in entry or self._holds(node, entry["when"])):
                yield f"is wrong there: {entry['why']}"

    def _wrong(self, op: str) -> list[dict[str, Any]]:
        entries = self.file.get("wrong", {}).get(op, [])
        return entries if isinstance(entries, list) else [entries]

    def _versions(self, op: str, rule: dict[str, Any]) -> Iterator[str]:
        if "opset" in rule and not _within(self.opset, rule["opset"]):
            yield f"opset {self.opset}"
        version = defs.get_schema(op, self.opset).since_version
        if "versions" in rule and version not in rule["versions"]:
            yield f"version {version}"

    def _dimensions(self, node: NodeProto, rule: dict[str, Any]) -> Iterator[str]:
        x = next((name for name in node.input if name and name not in self.constants), "")
        shape = [dim.dim_value for dim in self.types[x].shape.dim] if x in self.types else None
        dtype = DTYPES.get(self.types[x].elem_type) if x in self.types else None
        allowed = rule.get("dtypes", self.file.get("dtypes"))
        if allowed is not None and dtype not in allowed:
            yield f"dtype {dtype}"
        if "rank" in rule and (shape is None or not _within(len(shape), rule["rank"])):
            yield f"rank of {shape}"
        if "axes" in rule and (shape is None or not _within(sum(size != 1 for size in shape), rule["axes"])):
            yield f"dimensions of {shape}"
        for name in node.input:
            constant = self.constants.get(name)
            if rule.get("same_shape") and constant is not None and list(constant.shape) != shape:
                yield f"broadcasts {constant.shape} to {shape}"

    def _operands(self, node: NodeProto, rule: dict[str, Any]) -> Iterator[str]:
        names = self._names(node)
        given = dict(zip(names, node.input, strict=False))
        fixed = {name for name, value in given.items() if value in self.constants}
        for name in rule.get("constant", ()):
            if given.get(name) and name not in fixed:
                yield f"{name} is no constant"
        if "may_be_constant" in rule and (refused := fixed - set(rule["may_be_constant"])):
            yield f"{refused} are constants"
        if len([v for v in given.values() if v and v not in self.constants]) > rule.get("computed", 99):
            yield "too many computed operands"
        for name, layouts in rule.get("shapes", {}).items():
            if name in fixed and not any(self._laid(self.constants[given[name]], node, one) for one in layouts):
                yield f"{name} has shape {self.constants[given[name]].shape}"
        if "when" in rule and not self._holds(node, rule["when"]):
            yield f"not where {rule['when']}"
        if rule.get("pattern_only"):
            yield "stands outside its pattern"

    def _laid(self, value: Any, node: NodeProto, layout: str) -> bool:
        x = next(name for name in node.input if name not in self.constants)
        shape = tuple(dim.dim_value for dim in self.types[x].shape.dim)
        channels = (shape[1], *[1] * (len(shape) - 2)) if len(shape) > 1 else ()
        held = {
            "one": value.size == 1,
            "dimensioned": value.ndim > 0,
            "full": value.shape == shape,
            "C11": value.shape == channels,
            "1C11": value.shape == (1, *channels),
            "C": len(shape) == 2 and value.shape == shape[1:],
            "last": value.ndim > 0 and value.shape[-1] == shape[-1],
        }
        return bool(held[layout])

    def _names(self, node: NodeProto) -> tuple[str, ...]:
        return OPERANDS.get(node.op_type, BINARY if len(node.input) > 1 else ("X",))

    def _holds(self, node: NodeProto, condition: str) -> bool:
        schema = defs.get_schema(node.op_type, self.opset)
        values: dict[str, Any] = {name: _default(a.default_value) for name, a in schema.attributes.items()}
        values.update({a.name: helper.get_attribute_value(a) for a in node.attribute})
        values.update({n: self.constants[v] for n, v in zip(self._names(node), node.input, strict=False)
                       if v in self.constants})  # fmt: skip
        if node.op_type == "Clip":
            values = {"min": -INFINITE, "max": INFINITE, **{k: v for k, v in values.items() if v is not None}}
        plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}
        plain = {k: np.float32(v).reshape(-1)[0] if isinstance(v, (float, np.ndarray)) else v for k, v in plain.items()}
        return bool(eval(condition, {"inf": INFINITE}, plain))

    def _sharing(self, nodes: list[NodeProto]) -> Iterator[str]:
        if self.file.get("constants", {}).get("shared", True):
            return
        reads = [name for node in nodes for name in node.input if name in self.constants]
        everywhere = [name for node in self.model.graph.node for name in node.input]
        yield from (f"{name!r} is read twice" for name in set(reads) if everywhere.count(name) > 1)


def _default(attribute: AttributeProto) -> Any:
    return helper.get_attribute_value(attribute) if attribute.name else None


def _within(number: int, spans: str) -> bool:
    for span in spans.split(","):
        low, dash, high = span.strip().partition("-")
        if int(low or 0) <= number <= int((high or 10**9) if dash else low):
            return True
    return False
