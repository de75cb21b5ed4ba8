"""(model, model) -> the ops that may not mean the same in both: of other versions, and local functions that are others.

Softmax at opset 12 and at opset 13  ->  {"Softmax"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import ModelProto, NodeProto

from onnxact.check.fingerprint import op_of
from onnxact.check.graph import subgraphs
from onnxact.model.schema import plain, schema


def differing_ops(before: ModelProto, after: ModelProto) -> frozenset[str]:
    """The ops by their names (see op_of) that both models have, and that may not be the same in them."""
    functions = _functions(before), _functions(after)
    ops = _versions(before), _versions(after)
    local = functions[0].keys() | functions[1].keys() if functions[0] != functions[1] else set[str]()
    return frozenset(local | {name for name in ops[0].keys() & ops[1].keys() if ops[0][name] != ops[1][name]})


def ops_in(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """The ops of nodes and of what is in their bodies."""
    for node in nodes:
        yield op_of(node)
        for body in subgraphs(node):
            yield from ops_in(body.node)


def _functions(model: ModelProto) -> dict[str, bytes]:
    return {
        op_of(NodeProto(op_type=item.name, domain=item.domain)): item.SerializeToString(deterministic=True)
        for item in model.functions
    }


def _versions(model: ModelProto) -> dict[str, int]:
    """Op -> the version of its schema, of another domain than ONNX's own that of the domain."""
    imported = {plain(entry.domain): entry.version for entry in model.opset_import}
    found = {}
    for name in set(ops_in(model.graph.node)):
        domain, _, op = name.rpartition(".")
        version = imported.get(domain, 1)
        known = schema(op, version) if not domain else None
        found[name] = known.since_version if known is not None else version
    return found
