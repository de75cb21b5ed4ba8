"""(ONNX model, the PyTorch program that it was made from) -> every activation site with its two values in the program.

"layer1.0.relu/Relu": x -> y     ONNX's values x and y are the program's nodes ("", "add_3") and ("", "relu_4")
"late.1/Relu" inside an If       ("false_graph_0", "linear") and ("false_graph_0", "relu")
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import FunctionProto, NodeProto
from torch import Tensor, fx

from onnxact.check.knowledge import Knowledge
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.subject import Subject
from onnxact.export.tracing import Key, Trace
from onnxact.model.scope import Scope
from onnxact.model.view import View

_SCOPES = "pkg.torch.onnx.name_scopes"
_LOOP_BODY = "_loop_body"
"""What torch.onnx appends to the name of a while_loop's body."""


@dataclass(frozen=True)
class Located:
    """A site, and the nodes of the program that give what enters and what leaves it; None where there is none."""

    probe: SiteProbe
    x: Key | None
    y: Key | None


def locate(subject: Subject, known: Knowledge, trace: Trace) -> tuple[Located, ...]:
    """Return every site of a model that PyTorch's exporter wrote."""
    view = View(subject.model, subject.folder)
    return tuple(_located(probe, view.by_path[probe.scope], trace) for probe in known.probes)


def _located(probe: SiteProbe, scope: Scope, trace: Trace) -> Located:
    y = _key(probe.output, scope, trace)
    if y is None:
        return Located(probe, None, None)
    x = _key(probe.input, scope, trace)
    if x is None or x == y:
        x = _only_operand(y, trace)
    return Located(probe, x, y)


def _key(value: str, scope: Scope, trace: Trace) -> Key | None:
    """Return the program's node that gives an ONNX value."""
    if scope.parent is None and not scope.is_function:
        same = ("", value)
        if trace.node(same) is not None:
            return same
    index = scope.producers.get(value)
    name = _origin(scope.nodes[index]) if index is not None else ""
    keys = ((path, name) for path in _paths(scope, trace))
    return next((key for key in keys if trace.node(key) is not None), None)


def _origin(node: NodeProto) -> str:
    """Return the program's node that torch.onnx says an ONNX node was made from."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        names = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError):
        return ""
    return str(names[-1]) if names else ""


def _paths(scope: Scope, trace: Trace) -> Iterator[str]:
    """Yield the program's graphs that a scope may be: torch.onnx names bodies and functions after them."""
    if scope.parent is None and not scope.is_function:
        yield ""
        return
    name = scope.graph.name.removesuffix(_LOOP_BODY)
    by_name: Mapping[str, str] = {path.replace(".", "__"): path for path in trace.paths}
    if name in by_name:
        yield by_name[name]
    if not isinstance(scope.graph, FunctionProto) and scope.graph.name.endswith(_LOOP_BODY):
        yield from (path for other, path in by_name.items() if other != name)  # its condition is in the body, too


def _only_operand(key: Key, trace: Trace) -> Key | None:
    """Return what enters a node that computes the whole activation: its first operand."""
    node = trace.node(key)
    if node is None or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    return (key[0], node.args[0].name) if isinstance(node.args[0].meta.get("val"), Tensor) else None
