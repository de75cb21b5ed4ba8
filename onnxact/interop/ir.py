"""onnx-ir models: through a ModelProto and back, with everything a ModelProto cannot hold put back.

    Model  --to_proto-->  ModelProto  --apply-->  ModelProto  --from_proto-->  a new Model

Tensors that the plan does not name are the same objects in the new model, as after `Model.clone`: an ExternalTensor
keeps its base_dir and is not read, weights in memory are not doubled. So is `meta`, which is never serialized.

Limits that onnx-ir sets (1.1.0): to_proto evaluates LazyTensors, and leaves out initializers without const_value, which
therefore are refused. Sparse initializers and training_info are lost when onnx-ir reads a file, before onnxact sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir
from onnx import ModelProto, TensorProto

from onnxact.errors import ModelError
from onnxact.model.edit import Plan, apply
from onnxact.model.files import check_external
from onnxact.model.view import View

_T = TypeVar("_T")
_HasMeta = ir.Model | ir.Graph | ir.Node | ir.Value


class IrSource:
    """An onnx_ir.Model. `folder` is the base_dir that its external tensors have in common, where their files are."""

    path: Path | None = None

    recorded = True

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self.proto = self.original()
        self.folder: Path | None = _folder(model, self.proto)

    def original(self) -> ModelProto:
        """Return the model as a ModelProto; external tensors are references to their files."""
        for graph in _graphs(self._model):
            for name, value in graph.initializers.items():
                if value.const_value is None:
                    raise ModelError(
                        f"initializer {name!r} has no const_value, and onnx_ir.to_proto leaves it out; give it one"
                    )
        return _converted(lambda: ir.to_proto(self._model), "write this model as a ModelProto")

    def rewritten(self, view: View, plan: Plan) -> ir.Model:
        """Return a new model with the plan carried out; `proto` stays what `view` shows."""
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        apply(View(proto, self.folder), plan)
        model = _converted(lambda: ir.from_proto(proto), "read the rewritten model")
        _keep_meta(model, self._model)
        before = dict(_roots(self._model))
        for key, graph in _roots(model):
            _restore(graph, before.get(key))
        return model


def _converted(convert: Callable[[], _T], what: str) -> _T:
    try:
        return convert()
    except Exception as error:
        cause: BaseException = error  # the innermost: onnx-ir wraps an error once for each level it passes
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(f"onnx-ir cannot {what}: {type(cause).__name__}: {cause}") from error


def _roots(model: ir.Model) -> Iterator[tuple[tuple[str, ...], ir.Graph]]:
    """Yield the main graph and every function's, with a key that names it."""
    yield (), model.graph
    for function in model.functions.values():
        yield function.identifier(), function.graph


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    for _, graph in _roots(model):
        yield graph
        yield from graph.subgraphs()


def _folder(model: ir.Model, proto: ModelProto) -> Path | None:
    folders = {os.fspath(tensor.base_dir) for tensor in _tensors(model) if isinstance(tensor, ir.ExternalTensor)}
    if len(folders) != 1:
        return None
    folder = Path(folders.pop())
    try:
        check_external(proto, folder, "the model")
    except ModelError:  # onnx-ir lets models be worked on whose weights are elsewhere
        return None
    return folder


def _tensors(model: ir.Model) -> Iterator[object]:
    for graph in _graphs(model):
        yield from (value.const_value for value in graph.initializers.values())
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.value
                elif attribute.type == ir.AttributeType.TENSORS and attribute.value:
                    yield from attribute.value


def _restore(graph: ir.Graph, old: ir.Graph | None) -> None:
    """Give a graph the tensors and the meta of the one it was made from; values and nodes are found by name."""
    if old is not None:
        _keep_meta(graph, old)
        for value, before in zip(graph.inputs, old.inputs, strict=True):
            _keep_meta(value, before)
    initializers = old.initializers if old is not None else {}
    for name, value in graph.initializers.items():
        if name in initializers:
            value.const_value = initializers[name].const_value
            _keep_meta(value, initializers[name])
        elif value.const_value is not None:
            value.const_value = _detached(value.const_value)
    nodes = {value.name: node for node in old or () for value in node.outputs if value.name}
    for node in graph:
        _restore_node(node, next((nodes[value.name] for value in node.outputs if value.name in nodes), None))


def _restore_node(node: ir.Node, old: ir.Node | None) -> None:
    if old is not None:
        _keep_meta(node, old)
        for value, before in zip(node.outputs, old.outputs, strict=False):
            _keep_meta(value, before)
    same = old.attributes if old is not None and old.op_type == node.op_type else {}
    for name, attribute in list(node.attributes.items()):
        if not attribute.is_ref():
            _restore_attribute(node, attribute, same.get(name))


def _restore_attribute(node: ir.Node, attribute: ir.Attr, old: ir.Attr | None) -> None:
    if attribute.type == ir.AttributeType.GRAPH:
        _restore(attribute.value, old.value if old is not None else None)
    elif attribute.type == ir.AttributeType.GRAPHS:
        for index, graph in enumerate(attribute.value):
            _restore(graph, old.value[index] if old is not None else None)
    elif attribute.type in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS) and old is not None:
        node.attributes[attribute.name] = old
    elif attribute.type == ir.AttributeType.TENSOR:
        node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _detached(attribute.value))


def _keep_meta(new: _HasMeta, old: _HasMeta) -> None:
    if getattr(old, "_metadata", True):  # `meta` itself would make an empty store for every value there is
        new.meta.update(old.meta)


def _detached(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return the tensor in a message of its own: one inside a ModelProto keeps all of that in memory."""
    if not isinstance(tensor, ir.serde.TensorProtoTensor):
        return tensor
    proto = TensorProto()
    proto.CopyFrom(tensor.raw)
    return ir.serde.TensorProtoTensor(proto)
