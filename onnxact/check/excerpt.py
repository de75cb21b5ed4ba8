"""(model, site) -> the site with its neighbours as a model of its own, with the shapes that they have in the whole.

    ... Conv -> BatchNormalization -> PRelu -> Conv ...  ->  x -> Conv -> BatchNormalization -> PRelu -> Conv -> y

The neighbours are what a runtime may fuse with the site, or lay out together with it: what makes x, back to a product
of matrices or a convolution, and what reads y. What is read elsewhere is an output, so that nothing is fused here that
is not fused there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from onnxact.model.scope import Scope
from onnxact.model.view import View, subgraphs
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.contest import Place

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"})
"""Ops that nothing in front of is fused with them and an activation behind."""
DEPTH = 3
"""How many nodes it goes back at most."""
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


class Excerpt(NamedTuple):
    """A model, where the site is in it, and values for its inputs."""

    model: ModelProto
    place: Place
    inputs: dict[str, Any]


def excerpt(site: Site, sized: View) -> Excerpt | None:
    """Return the excerpt around a site of the main graph; None where it cannot be cut out.

    sized: the model with every shape as it is for the inputs that are fed.
    """
    scope = site.scope
    if scope is not scope.view.main:
        return None
    types = sized.main.declared
    chosen = {*site.nodes, *_makers(scope, site, types), *_readers(scope, site, types)}
    chosen.update(_constants(scope, chosen))
    order = sorted(chosen)
    nodes = [scope.nodes[index] for index in order]
    made = {name for node in nodes for name in node.output if name}
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    inputs = [name for name in read if name not in scope.initializers]
    if not all(_can_be_fed(types.get(name)) for name in inputs):
        return None
    model = _model(scope, nodes)
    outputs = list(_outputs(scope, chosen))
    model.graph.input.extend(_value(name, types[name]) for name in inputs)
    model.graph.output.extend(_value(name, types.get(name)) for name in outputs)
    model.graph.value_info.extend(_value(name, types[name]) for name in made.difference(outputs) if name in types)
    model.graph.initializer.extend(scope.initializers[name] for name in read if name in scope.initializers)
    rng = np.random.default_rng(0)
    return Excerpt(model, ("", order.index(site.root)), {name: _made_up(types[name], rng) for name in inputs})


def _model(scope: Scope, nodes: list[NodeProto]) -> ModelProto:
    """Return a model of these nodes without inputs and outputs; its initializers need be no inputs (IR version 4)."""
    whole = scope.view.model
    model = ModelProto(ir_version=max(whole.ir_version, 4))
    model.opset_import.extend(whole.opset_import)
    model.functions.extend(whole.functions)
    model.graph.name = "excerpt"
    model.graph.node.extend(nodes)
    return model


def _makers(scope: Scope, site: Site, types: dict[str, TypeProto]) -> Iterator[int]:
    """Yield the nodes that make x, back to a heavy one."""
    pending, seen = [(site.input, 1)], set(site.nodes)
    while pending:
        name, depth = pending.pop()
        index = scope.producers.get(name)
        if index is None or index in seen or not _can_be_cut(scope, index, types):
            continue
        seen.add(index)
        yield index
        if depth < DEPTH and scope.op_types[index].rpartition("::")[2] not in HEAVY:
            pending += [(one, depth + 1) for one in scope.nodes[index].input]


def _readers(scope: Scope, site: Site, types: dict[str, TypeProto]) -> Iterator[int]:
    """Yield the nodes that read y."""
    for index in scope.readers.get(site.output, ()):
        if index >= 0 and _can_be_cut(scope, index, types):
            yield index


def _can_be_cut(scope: Scope, index: int, types: dict[str, TypeProto]) -> bool:
    """Tell whether a node can stand in an excerpt: it has no bodies, and what it reads is constant or can be fed."""
    node = scope.nodes[index]
    if any(True for _ in subgraphs(node)):
        return False
    return all(_is_constant(scope, name) or _can_be_fed(types.get(name)) for name in node.input if name)


def _is_constant(scope: Scope, name: str) -> bool:
    return name in scope.initializers or scope.constant(name) is not None


def _can_be_fed(kind: TypeProto | None) -> bool:
    """Tell whether values can be made up: floating-point numbers of a known shape."""
    if kind is None or kind.tensor_type.elem_type not in _FLOATS or not kind.tensor_type.HasField("shape"):
        return False
    return all(dim.dim_value > 0 for dim in kind.tensor_type.shape.dim)


def _constants(scope: Scope, chosen: Iterable[int]) -> Iterator[int]:
    """Yield the nodes that make constants which others read (Constant, and Identity or Cast of one)."""
    pending = [name for index in chosen for name in scope.nodes[index].input if name]
    seen: set[int] = set(chosen)
    while pending:
        name = pending.pop()
        index = scope.producers.get(name)
        if index is not None and index not in seen and scope.constant(name) is not None:
            seen.add(index)
            yield index
            pending += scope.nodes[index].input


def _outputs(scope: Scope, chosen: set[int]) -> Iterator[str]:
    """Yield what leaves: what is read outside, and what nothing reads."""
    for index in sorted(chosen):
        for name in scope.nodes[index].output:
            readers = scope.readers.get(name, ())
            leaves = not readers or any(reader not in chosen for reader in readers)
            if name and leaves and not _is_constant(scope, name):
                yield name


def _value(name: str, kind: TypeProto | None) -> ValueInfoProto:
    value = ValueInfoProto(name=name)
    if kind is not None:
        value.type.CopyFrom(kind)
    return value


def _made_up(kind: TypeProto, rng: np.random.Generator) -> Any:
    shape = [dim.dim_value for dim in kind.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    return rng.standard_normal(shape, np.float32).astype(dtype)
