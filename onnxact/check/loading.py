"""(model, ONNX Runtime's message) -> which node it is about: name, op, output, scope.

"Fatal error: custom:Foo(-1) is not a registered function/op"  ->  "... (node 'foo_1', custom.Foo, which makes 'y')"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from onnx import ModelProto, NodeProto

from onnxact.check.graph import all_graphs
from onnxact.errors import ModelError

_SHOWN = 3
# What ONNX Runtime 1.20 to 1.31 says of a node that it cannot take; most messages leave out its name or its output.
_PATTERNS = (
    re.compile(r"(?P<domain>[\w.\-]*):(?P<op>\w+)\(-?\d+\) is not a registered function/op"),
    re.compile(r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+)'),
    re.compile(r"No Op registered for (?P<op>\w+)"),
    re.compile(r"implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'"),
    re.compile(r"of operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\)"),
    re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)'"),
)
_NOISE = re.compile(
    r"(?:Fatal error: )?(?:This is an invalid model\. )?(?:In Node, \(.*?\) -> \(.*?\) , Error )?"
    r"(?:Non-zero status code returned while running \w+ node\. Name:'[^']*' Status Message: )?"
)


class UnloadableError(ModelError):
    """A model that ONNX Runtime cannot load, so that nothing can be said about it.

    `reason`: what it says of it. `is_after`: that it is the model after.
    """

    def __init__(self, message: str, reason: str = "", *, is_after: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_after = is_after


def with_node(model: ModelProto, message: str) -> str:
    """The message, shortened, and the nodes that it can be about."""
    found = next((match.groupdict() for pattern in _PATTERNS if (match := pattern.search(message))), None)
    message = _NOISE.sub("", message, count=1).rstrip(". ")
    if found is None:
        return message
    fitting = [node for node in _nodes(model) if _fits(node, found)]
    if not fitting:
        return message
    shown = "; ".join(_text(node) for node in islice(fitting, _SHOWN))
    more = f" and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
    return f"{message} ({shown}{more})"


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for graph in all_graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _fits(node: NodeProto, found: dict[str, str]) -> bool:
    domain = found.get("domain")
    return (
        node.op_type == found["op"]
        and (not found.get("node") or node.name == found["node"])
        and (domain is None or node.domain in {domain, domain or "ai.onnx"})
    )


def _text(node: NodeProto) -> str:
    op = f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
    name = repr(node.name) if node.name else "without a name"
    return f"node {name}, {op}, which makes {next(iter(node.output), '')!r}"
