"""(model, what is added to it) -> what ONNX Runtime is given: the path of a file, or bytes; where its weights lie."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, NodeProto, ValueInfoProto

from onnxact.check.graph import required_inputs
from onnxact.check.subject import Subject


def folder_of(subject: Subject, *, is_extended: bool) -> str | None:
    """Where external data lie; ONNX Runtime knows it itself where it loads a file."""
    loads_file = subject.path is not None and not is_extended
    return None if loads_file or subject.folder is None else str(subject.folder)


def source_of(subject: Subject, added: ModelProto) -> str | bytes:
    """What ONNX Runtime is to load.

    What is added is appended as bytes: protobuf merges a repeated `graph` field, so that no copy of the model is made
    (protobuf.dev/programming-guides/encoding, "Last One Wins").
    """
    is_extended = added.HasField("graph")
    if subject.path is not None and not is_extended:
        return str(subject.path)
    data = subject.serialized if subject.path is None else subject.path.read_bytes()
    return bytes(data + added.SerializeToString()) if is_extended else bytes(data)


def addition(
    subject: Subject,
    extra_outputs: Sequence[str],
    extra_nodes: Sequence[NodeProto],
    extra_inputs: Sequence[ValueInfoProto],
) -> ModelProto:
    """What is added to a model. ONNX Runtime infers the type of an output with only a name. An input is none of them:
    OpenVINO does not load a model whose input is an output. Below IR version 4 every initializer has to be an input.
    """
    added = ModelProto()
    if extra_inputs:
        added.ir_version = max(subject.model.ir_version, 4)
        added.graph.input.extend(extra_inputs)
    if extra_nodes:
        added.graph.node.extend(extra_nodes)
    if extra_outputs:
        given = {value.name for value in required_inputs(subject.model.graph)}
        declared = {value.name for value in subject.model.graph.output} | given
        for name in dict.fromkeys(extra_outputs):
            if name not in declared:
                added.graph.output.add().name = name
    return added
