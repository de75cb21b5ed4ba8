"""(the first value that differs) -> what is not the same there: parameters, activation, weights, attributes, inputs.

LeakyRelu(alpha=0.2) before, LeakyRelu(alpha=0.201) after  ->  "alpha of leaky_relu is 0.2 before, 0.201 after"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, NodeProto, helper

from onnxact.check.activations import in_words
from onnxact.check.diagnosis import Cause, Divergence
from onnxact.check.distance import distance, is_floating, unequal
from onnxact.check.fingerprint import attributes_of, op_of
from onnxact.check.symptoms import Symptoms
from onnxact.check.weights import value_of
from onnxact.rewrite.site import Bound, Site, Tensor, plain

Array = npt.NDArray[Any]


def at_origin(symptoms: Symptoms) -> Iterator[Cause]:
    """What differs where the difference is made; where it is made nowhere, that it adds up."""
    found = symptoms.divergence
    if found is None:
        return
    if not found.is_origin:
        yield _accumulated(found)
        return
    if found.inside:
        text = f"the body of {found.node_before} differs: {found.inside}"
        yield Cause("body", text, {"node": str(found.node_before), "where": found.inside})
    sites = [item.at(name) for item, name in zip(symptoms.case.activations, _names(found), strict=True)]
    if any(sites):
        yield from _activation_causes(found, sites[0], sites[1])
    else:
        yield from _node_causes(symptoms, found)


def _names(found: Divergence) -> tuple[str, str]:
    return found.value.before, found.value.after


def _accumulated(found: Divergence) -> Cause:
    node, names = str(found.node_before), [item.name for item in found.inputs if item.differing]
    if not names:
        text = f"{node} agrees on its own, and so do its inputs: it is made where nodes run fused, or in parallel"
        return Cause("not repeated", text, {"node": node})
    entering = "; ".join(str(item) for item in found.inputs if item.differing)
    text = f"no single node: on the same inputs {node} agrees, what enters it differs already ({entering})"
    return Cause("accumulation", text, {"node": node, "inputs": names})


def _activation_causes(found: Divergence, before: Site | None, after: Site | None) -> Iterator[Cause]:
    one, other = in_words(before), in_words(after)
    data = {"value": found.value.name, "before": one, "after": other}
    if before is None or after is None or before.activation != after.activation:
        one, other = one or f"made by {found.node_before}", other or f"made by {found.node_after}"
        text = f"{found.value.name!r} is {one} before, {other} after" + (
            "" if before and after else ", in no known form"
        )
        yield Cause("activation", text, data)
        return
    changed = False
    for name in {**before.parameters, **after.parameters}:
        cause = _parameter_cause(found, before, after, name)
        if cause is not None:
            changed = True
            yield Cause("parameter", cause.text, {**data, **cause.data})
    if not changed and before.form != after.form and not found.value.nan:
        far = found.own.max_abs if found.own is not None else found.value.max_abs
        text = (
            f"another form of {before.activation} at {found.value.name!r}: {one} before, {other} after, {far:.3g} apart"
        )
        yield Cause("form", text, {**data, "max_abs": far})


def _parameter_cause(found: Divergence, before: Site, after: Site, name: str) -> Cause | None:
    """How one parameter of the same activation differs; numbers that are the same float32 are the same."""
    old, new = before.parameters.get(name), after.parameters.get(name)
    place = f"{name} of {before.activation} at {found.value.name!r}"
    data = {"parameter": name, "was": _shown(old), "is": _shown(new)}
    one, other = _numbers(old), _numbers(new)
    if one is None or other is None:
        same = type(old) is type(new) and _shown(old) == _shown(new)
        return None if same else Cause("parameter", f"{place} is {_shown(old)} before, {_shown(new)} after", data)
    if one.size == other.size == 1:
        old, new = float(one.reshape(())), float(other.reshape(()))
        text = f"{place} is {old:.9g} before, {new:.9g} after"
        return None if np.float32(old) == np.float32(new) else Cause("parameter", text, {**data, "was": old, "is": new})
    if one.shape != other.shape:
        return Cause("parameter", f"{place} is of shape {list(one.shape)} before, {list(other.shape)} after", data)
    at = np.argwhere(one != other)
    if not len(at):
        return None
    index = tuple(int(item) for item in at[0])
    values = f"{one[index]:.9g} before, {other[index]:.9g} after at {list(index)}"
    return Cause(
        "parameter", f"{place} differs in {len(at)} of {one.size} elements: {values}", {**data, "index": list(index)}
    )


def _numbers(value: Bound | None) -> npt.NDArray[np.float64] | None:
    """A parameter that is a number or a constant tensor, as an array."""
    if isinstance(value, Tensor):
        return np.asarray(value.value, np.float64)
    return np.asarray(value, np.float64) if isinstance(value, float) else None


def _shown(value: Bound | None) -> Any:
    return None if value is None else plain(value)


def _node_causes(symptoms: Symptoms, found: Divergence) -> Iterator[Cause]:
    graphs = symptoms.case.graphs
    nodes = [graph.nodes[graph.made_by[name]] for graph, name in zip(graphs, _names(found), strict=True)]
    one, other = nodes
    if op_of(one) != op_of(other):
        text = f"{found.value.name!r} is made by {found.node_before} before, by {found.node_after} after"
        yield Cause("op", text, {"before": op_of(one), "after": op_of(other)})
        return
    yield from _attribute_causes(found, one, other)
    yield from _weight_causes(symptoms, found, one, other)
    yield from _exchanged_inputs(symptoms, found, one, other)


def _attribute_causes(found: Divergence, one: NodeProto, other: NodeProto) -> Iterator[Cause]:
    before, after = attributes_of(one), attributes_of(other)
    bodies = {item.name for node in (one, other) for item in node.attribute if item.type == AttributeProto.GRAPH}
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    for name in sorted(changed - bodies):
        old, new = _attribute(one, name), _attribute(other, name)
        text = f"attribute {name} of {found.node_before} is {old} before, {new} after"
        yield Cause("attribute", text, {"attribute": name, "before": old, "after": new})


def _attribute(node: NodeProto, name: str) -> str:
    value = next((item for item in node.attribute if item.name == name), None)
    if value is None:
        return "its default"
    plain = helper.get_attribute_value(value)
    return plain.decode(errors="replace") if isinstance(plain, bytes) else str(plain)[:80].replace("\n", " ")


def _weight_causes(symptoms: Symptoms, found: Divergence, one: NodeProto, other: NodeProto) -> Iterator[Cause]:
    """Constants at the same place of both nodes."""
    before, after = symptoms.case.graphs
    for first, second in zip(one.input, other.input, strict=False):
        if first in before.constants and second in after.constants:
            one_value = value_of(before.constants[first], before.folder)
            other_value = value_of(after.constants[second], after.folder)
            if one_value is None or other_value is None:
                continue
            cause = _weight_cause(found, first, one_value, other_value)
            if cause is not None:
                yield cause


def _weight_cause(found: Divergence, name: str, before: Array, after: Array) -> Cause | None:
    place = f"the constant {name!r} of {found.node_before}"
    if before.dtype != after.dtype or before.shape != after.shape:
        kinds = [f"{array.dtype}{list(array.shape)}" for array in (before, after)]
        return Cause("weights", f"{place} is {kinds[0]} before, {kinds[1]} after", {"constant": name})
    at = unequal(before, after) if not is_floating(before) else np.array([distance(before, after).worst_at])
    apart = distance(before, after).differing if is_floating(before) else at.size
    if not apart:
        return None
    index = tuple(int(item) for item in np.unravel_index(int(at[0]), before.shape))
    old, new = before[index], after[index]
    sign = ", its sign" if is_floating(before) and old == -new else ""
    text = f"{place} differs in {apart} of {before.size} elements: {old} before, {new} after at {list(index)}{sign}"
    return Cause(
        "weights", text, {"constant": name, "differing": int(apart), "index": list(index), "elements": before.size}
    )


def _exchanged_inputs(symptoms: Symptoms, found: Divergence, one: NodeProto, other: NodeProto) -> Iterator[Cause]:
    to_after = symptoms.case.alignment.to_after()
    expected = [to_after.get(name, name) for name in one.input]
    if expected != list(other.input) and sorted(expected) == sorted(other.input):
        text = f"{found.node_before} reads the same values in another order: {', '.join(other.input)} after"
        yield Cause("inputs exchanged", text, {"before": list(one.input), "after": list(other.input)})
    elif len(expected) == len(other.input) and all(name in symptoms.case.graphs[1].made_by for name in other.input):
        odd = [(name, new) for name, want, new in zip(one.input, expected, other.input, strict=True) if want != new]
        for name, new in odd:
            text = f"{found.node_before} reads {name!r} before, {new!r} after, which is another value"
            yield Cause("input", text, {"before": name, "after": new})
