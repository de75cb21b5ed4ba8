"""What a decomposed node was: written into its metadata_props, read by fuse.

One entry, key "onnxact", a JSON object: activation, form, and `op`, the replaced node's op type, inputs (without the
first, which is x) and attributes as a base64 NodeProto, so that fusing restores it to the byte. Where several nodes
were replaced, or one that computed more than the activation, `op` has all its inputs, and `tree` holds the others.
`NodeProto.metadata_props` exists from IR version 10; readers of older versions skip it (onnx.proto, field 9).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from onnx import GraphProto, NodeProto

KEY = "onnxact"


@dataclass(frozen=True)
class Tree:
    """What stood there before beside the op: its form, the value `input` that entered, the inner nodes, the parameters.

    `positions`: of the inner nodes and, last, of the op, in the list of nodes as it was. `parameters`: plain data.
    """

    form: str
    input: str
    nodes: tuple[NodeProto, ...]
    positions: tuple[int, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Provenance:
    """The activation and form that a node's site was written in, and the op that stood there before.

    `tree`: None where the op was all, and was the activation.
    """

    activation: str
    form: str
    op: NodeProto
    tree: Tree | None = None


def encode_tree(activation: str, form: str, node: NodeProto, tree: Tree) -> str:
    """Return the metadata text for a site whose last node was `node`; it keeps all inputs."""
    replaced = _replaced(node, list(node.input))
    inner = _packed(GraphProto(node=tree.nodes))
    described = {
        "form": tree.form,
        "input": tree.input,
        "nodes": inner,
        "at": list(tree.positions),
        "parameters": dict(tree.parameters),
    }
    return _text(activation, form, replaced, {"tree": described})


def encode(activation: str, form: str, node: NodeProto) -> str:
    """Return the metadata text for a site whose native op was `node`; an earlier text of that node goes into it."""
    return _text(activation, form, _replaced(node, node.input[1:]), {})


def _replaced(node: NodeProto, inputs: Sequence[str]) -> NodeProto:
    replaced = NodeProto(op_type=node.op_type, domain=node.domain, input=inputs, attribute=node.attribute)
    replaced.metadata_props.extend(entry for entry in node.metadata_props if entry.key == KEY)
    return replaced


def _text(activation: str, form: str, replaced: NodeProto, more: Mapping[str, Any]) -> str:
    fields = {"activation": activation, "form": form, "op": _packed(replaced), **more}
    return json.dumps(fields, separators=(",", ":"))


def _packed(message: NodeProto | GraphProto) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()


def text(node: NodeProto) -> str:
    """Return the metadata text of a node, "" where it has none."""
    return next((entry.value for entry in node.metadata_props if entry.key == KEY), "")


def read(node: NodeProto) -> Provenance | None:
    """Return the provenance of a node, or None where there is none or it is not readable."""
    try:
        fields = json.loads(text(node))
        op = NodeProto.FromString(base64.b64decode(fields["op"], validate=True))
        tree = _tree(fields["tree"]) if "tree" in fields else None
        return Provenance(str(fields["activation"]), str(fields["form"]), op, tree)
    except (ValueError, KeyError, TypeError, binascii.Error, DecodeError):
        return None


def _tree(fields: Mapping[str, Any]) -> Tree:
    inner = GraphProto.FromString(base64.b64decode(fields["nodes"], validate=True))
    positions = tuple(map(int, fields["at"]))
    if len(positions) != len(inner.node) + 1:
        raise ValueError("a position for each node")
    return Tree(str(fields["form"]), str(fields["input"]), tuple(inner.node), positions, dict(fields["parameters"]))
