"""Nodes of com.microsoft.nchwc -> the standard nodes that compute the same, all of a scope at once.

    ReorderInput > nchwc::Conv(activation = "Relu") > ReorderOutput   ->   Conv > Relu

What only moves values between layouts falls away; where a value has other readers, an Identity keeps its name.

Sources: onnxruntime, core/optimizer/nchwc_transformer.cc and core/graph/contrib_ops/nchwc_schema_defs.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, NodeProto, helper

from onnxact.model import schema
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.blocked.region import DOMAIN, Region, UnclearError, region_of
from onnxact.rewrite.blocked.weights import Restored, Unblocked, unblock
from onnxact.rewrite.expansion import Expansion, Fused, attributes_of, full_name, kept, named, step, too_new
from onnxact.rewrite.site import Kind, Site

_REORDERS = ("ReorderInput", "ReorderOutput")
_NOTHING = Expansion("", {})
_TO_CHANNELS_LAST, _FROM_CHANNELS_LAST = [0, 2, 3, 1], [0, 3, 1, 2]


class Apart(NamedTuple):
    """What becomes of the nodes in blocks of a model, and what there is to say about it."""

    found: list[Fused]
    remarks: list[str]
    values: dict[str, list[str]]
    """Scope -> the values in blocks, which are others in the layout of ONNX."""


def is_blocked(node: NodeProto) -> bool:
    """Tell whether a node works in blocks of channels."""
    return node.domain == DOMAIN


def blocked_activations(view: View) -> Iterator[Site]:
    """Yield the activations inside the convolutions in blocks, without a look at their weights."""
    for scope in view.scopes:
        for index, op in enumerate(scope.op_types if DOMAIN in scope.opsets and not scope.frozen else ()):
            if op == f"{DOMAIN}::Conv" and attributes_of(scope.nodes[index]).get("activation"):
                found = _activation(scope.nodes[index])
                if not isinstance(found, str):
                    yield _site(scope, index, found)


def apart(view: View) -> Apart:
    """Return every node in blocks with what it comes down to; where one cannot be taken apart, none of its scope is."""
    result = Apart([], [], {})
    for scope in view.scopes:
        if not scope.frozen and any(op.startswith(f"{DOMAIN}::") for op in set(scope.op_types)):
            _take_apart(scope, result)
    return result


def _take_apart(scope: Scope, result: Apart) -> None:
    try:
        region = region_of(scope)
        unblocked = unblock(region)
        result.found.extend(_Writer(region, unblocked).fused())
    except (UnclearError, KeyError, IndexError, ValueError) as error:
        reason = str(error) if isinstance(error, UnclearError) else "it is not as ONNX Runtime writes it"
        result.found.extend(_refused(scope, reason))
        return
    result.values[scope.path] = list(region.parents)
    if unblocked.assumed:
        result.remarks.append(
            "the file does not say whether its weights lie in blocks of 8 or of 16 channels; they were read in blocks "
            f"of {unblocked.assumed}, as ONNX Runtime has them on this machine: if it was saved on one with others, it "
            "computes something else here, and so does the result"
        )


def _refused(scope: Scope, reason: str) -> Iterator[Fused]:
    for index, op in enumerate(scope.op_types):
        if op.startswith(f"{DOMAIN}::"):
            found = _activation(scope.nodes[index]) if op.endswith("::Conv") else _NOTHING
            site = _site(scope, index, _NOTHING if isinstance(found, str) else found)
            yield Fused(site, None, f"it works in blocks of channels, and {reason}")


def _site(scope: Scope, index: int, found: Expansion, root: int | None = None, inner: tuple[int, ...] = ()) -> Site:
    """Return the site of the node at `index`, which another one behind it may end."""
    kind = Kind(scope, found.activation, full_name(scope.nodes[index]), found.parameters, "float32")
    return Site(kind, index if root is None else root, inner)


def _activation(node: NodeProto) -> Expansion | str:
    params = list(attributes_of(node).get("activation_params", ()))
    return named(node, lambda position, _: params[position] if position < len(params) else None)


class _Writer:
    """Writes the nodes of one region."""

    def __init__(self, region: Region, unblocked: Unblocked) -> None:
        self.region = region
        self.scope = region.scope
        self.restored = unblocked.restored
        self.dropped: set[int] = set()
        """ReorderInputs that are gone already, each with the first node that reads it."""

    def fused(self) -> Iterator[Fused]:
        """Yield every node that is replaced. A node and the ReorderOutput behind it are one."""
        scope = self.scope
        for index, op in enumerate(scope.op_types):
            node = scope.nodes[index]
            if index in self.region.reshapes:
                yield self._as(index, Expansion("", {}, (step("Identity", (node.input[0],)),)))
            elif not op.startswith(f"{DOMAIN}::") or self._falls_away(index):
                continue
            elif node.op_type in _REORDERS:
                yield self._as(index, self._moved(node))
            else:
                yield self._computing(index, node)

    def _computing(self, index: int, node: NodeProto) -> Fused:
        found = self._expansion(index, node)
        if isinstance(found, str):
            raise UnclearError(found)
        if reason := too_new(found, full_name(node), self.scope.opset):
            raise UnclearError(reason)
        return self._as(index, found)

    def _as(self, index: int, found: Expansion) -> Fused:
        behind = self._reorder_behind(index)
        inner = (*self._reorders_before(index), *((index,) if behind is not None else ()))
        return Fused(_site(self.scope, index, found, behind, tuple(sorted(inner))), found)

    def _reorder_behind(self, index: int) -> int | None:
        """Return the ReorderOutput that is all that reads a node in blocks; None where there is more, or another."""
        node = self.scope.nodes[index]
        readers = self.scope.readers.get(node.output[0], ())
        if node.domain != DOMAIN or node.op_type in _REORDERS or len(readers) != 1:
            return None
        reader = self.scope.nodes[readers[0]]
        return readers[0] if reader.op_type == "ReorderOutput" and not _last(reader) else None

    def _falls_away(self, index: int) -> bool:
        """Tell whether a reorder goes with the node that it stands before or behind."""
        node = self.scope.nodes[index]
        if node.op_type == "ReorderInput":
            return self._is_passed(index)
        maker = self.scope.producers.get(node.input[0], -1)
        return node.op_type == "ReorderOutput" and maker >= 0 and self._reorder_behind(maker) == index

    def _is_passed(self, index: int) -> bool:
        """Tell whether those that read a ReorderInput can all read what it reads instead."""
        node = self.scope.nodes[index]
        readers = [self.scope.nodes[reader] for reader in self.scope.readers.get(node.output[0], ())]
        plain = [reader for reader in readers if reader.domain == DOMAIN and reader.op_type not in _REORDERS]
        return not _last(node) and len(plain) == len(readers) > 0

    def _reorders_before(self, index: int) -> Iterator[int]:
        """Yield the reorders that only stand before a node, each once."""
        for name in self.scope.nodes[index].input:
            maker = self.scope.producers.get(name, -1)
            is_reorder = maker >= 0 and self.scope.op_types[maker] == f"{DOMAIN}::ReorderInput"
            if is_reorder and maker not in self.dropped and self._is_passed(maker):
                self.dropped.add(maker)
                yield maker

    def _source(self, name: str) -> str:
        """Return a value as the standard node reads it."""
        maker = self.scope.producers.get(name, -1)
        if maker >= 0 and self.scope.op_types[maker] == f"{DOMAIN}::ReorderInput" and self._is_passed(maker):
            return self.scope.nodes[maker].input[0]
        return name

    def _moved(self, node: NodeProto) -> Expansion:
        """Return what a reorder that stays is: nothing, or where channels are last on one side, a Transpose."""
        if not _last(node):
            return Expansion("", {}, (step("Identity", (node.input[0],)),))
        order = _TO_CHANNELS_LAST if node.op_type == "ReorderOutput" else _FROM_CHANNELS_LAST
        return Expansion("", {}, (step("Transpose", (node.input[0],), (helper.make_attribute("perm", order),)),))

    def _expansion(self, index: int, node: NodeProto) -> Expansion | str:
        if node.op_type == "Conv":
            return self._convolution(node, self.restored[index])
        if node.op_type == "Upsample":
            return self._resized(node)
        attributes = tuple(kept(node)) if node.op_type.startswith("Global") else self._pooling(node)
        if isinstance(attributes, str):
            return attributes
        return Expansion("", {}, (step(node.op_type, (self._source(node.input[0]),), attributes),))

    def _convolution(self, node: NodeProto, restored: Restored) -> Expansion | str:
        found = _activation(node)
        if isinstance(found, str):
            return found
        attributes = (*kept(node, "group"), helper.make_attribute("group", restored.group))
        bias = () if restored.bias is None else (restored.bias,)
        steps = [step("Conv", (self._source(node.input[0]), restored.weights, *bias), attributes)]
        if len(node.input) > 3 and node.input[3]:
            steps.append(step("Add", (0, node.input[3])))
        return found._replace(before=tuple(steps))

    def _pooling(self, node: NodeProto) -> tuple[AttributeProto, ...] | str:
        """Return the attributes that the standard op has at this opset; what it lacks must say nothing."""
        allowed = schema.attributes(node.op_type, self.scope.opset)
        for stated in node.attribute:
            value = helper.get_attribute_value(stated)
            if stated.name not in allowed and np.any(np.asarray(value) != (1 if stated.name == "dilations" else 0)):
                return f"{node.op_type} of opset {self.scope.opset} has no {stated.name}"
        return tuple(stated for stated in node.attribute if stated.name in allowed)

    def _resized(self, node: NodeProto) -> Expansion | str:
        stated, opset = attributes_of(node), self.scope.opset
        mode = stated.get("mode", b"nearest").decode()
        transformed = stated.get("coordinate_transformation_mode", b"asymmetric").decode()
        scales = np.asarray(stated["scales"], np.float32)
        if opset < _RESIZE_WITH_MODES:
            if transformed != "asymmetric" or opset < _UPSAMPLE_WITH_INPUT:
                return (
                    f"Upsample in blocks ({mode}, {transformed}) comes down to Resize of opset 11, and this is {opset}"
                )
            op = "Resize" if opset >= _RESIZE else "Upsample"
            return Expansion("", {}, (step(op, (self._source(node.input[0]), scales), (("mode", mode),)),))
        how: list[Any] = [("mode", mode), ("coordinate_transformation_mode", transformed)]
        how += [("nearest_mode", "floor")] if mode == "nearest" else []
        operands = (self._source(node.input[0]), np.zeros(0, np.float32), scales)
        return Expansion("", {}, (step("Resize", operands, tuple(how)),))


_UPSAMPLE_WITH_INPUT, _RESIZE, _RESIZE_WITH_MODES = 9, 10, 11
"""The opsets from which Upsample takes its scales as an input, Resize is there, and Resize has all modes."""


def _last(node: NodeProto) -> bool:
    return bool(attributes_of(node).get("channels_last", 0))
