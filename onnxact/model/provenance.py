"""What a decomposed node was: written into its metadata_props, read by fuse.

One entry, key "onnxact", a JSON object: activation, form, and `op`, the replaced node's op type, inputs (without the
first, which is x) and attributes as a base64 NodeProto, so that fusing restores it to the byte.
`NodeProto.metadata_props` exists from IR version 10; readers of older versions skip it (onnx.proto, field 9).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from onnx import NodeProto

KEY = "onnxact"


@dataclass(frozen=True)
class Provenance:
    """The activation and form that a node's site was written in, and the op that stood there before."""

    activation: str
    form: str
    op: NodeProto


def encode(activation: str, form: str, node: NodeProto) -> str:
    """Return the metadata text for a site whose native op was `node`; an earlier text of that node goes into it."""
    replaced = NodeProto(op_type=node.op_type, domain=node.domain, input=node.input[1:], attribute=node.attribute)
    replaced.metadata_props.extend(entry for entry in node.metadata_props if entry.key == KEY)
    packed = base64.b64encode(replaced.SerializeToString(deterministic=True)).decode()
    return json.dumps({"activation": activation, "form": form, "op": packed}, separators=(",", ":"))


def text(node: NodeProto) -> str:
    """Return the metadata text of a node, "" where it has none."""
    return next((entry.value for entry in node.metadata_props if entry.key == KEY), "")


def read(node: NodeProto) -> Provenance | None:
    """Return the provenance of a node, or None where there is none or it is not readable."""
    try:
        fields = json.loads(text(node))
        op = NodeProto.FromString(base64.b64decode(fields["op"], validate=True))
        return Provenance(str(fields["activation"]), str(fields["form"]), op)
    except (ValueError, KeyError, TypeError, binascii.Error, DecodeError):
        return None
