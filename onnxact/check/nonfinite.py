"""(two models that differ) -> NaN, infinities and numbers out of range: where they begin, and at which op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.diagnosis import Cause
from onnxact.check.distance import is_floating
from onnxact.check.fingerprint import Indexed, op_of
from onnxact.check.observing import Observed
from onnxact.check.session import RunFailure
from onnxact.check.symptoms import Symptoms
from onnxact.check.verdict import OutputEvidence

Array = npt.NDArray[Any]

# Largest finite and smallest normal magnitude (IEEE 754 binary16; bfloat16 has the exponents of binary32).
_RANGES = {"float16": (65504.0, 2.0**-14), "bfloat16": (3.3895313892515355e38, 2.0**-126)}
_SIDES = ("before", "after")
# One in so many elements below the normal numbers is worth telling.
_FEW = 16


def nan_rules(symptoms: Symptoms) -> Iterator[Cause]:
    """NaN enters the first value that differs on both sides, and leaves it on one: ops have rules of their own."""
    found = symptoms.divergence
    if found is None or not found.value.nan:
        return
    for pair in found.inputs:
        values = _observed(symptoms, [(pair.before, pair.after), (found.value.before, found.value.after)])
        if values is None:
            continue
        (entering, left), (_, right) = values
        if entering.shape != left.shape or not is_floating(entering):
            continue
        enters = np.isnan(entering)
        alone = np.isnan(left) != np.isnan(right)
        if alone.any() and bool(np.all(enters[alone])):
            at = np.unravel_index(int(np.argmax(alone)), left.shape)
            made = [float(side[at]) for side in (left, right)]
            rules = f"{found.node_before} before makes {made[0]:g} of it, {found.node_after} after {made[1]:g}"
            text = f"NaN enters {found.value.name!r} from {pair.name!r}: {rules}; ops have different rules for NaN"
            data = {"value": found.value.name, "from": pair.name, "before": made[0], "after": made[1]}
            yield Cause("nan rule", text, data)


def first_nan(symptoms: Symptoms) -> Iterator[Cause]:
    """Where NaN begins in a model whose output has it where the other's has not; not where it begins in both."""
    if not any("NaN on one side" in item.reason for item in symptoms.failing):
        return
    case = symptoms.case
    before, after = (_first_nan(symptoms, side) for side in range(2))
    if before is not None and case.alignment.to_after().get(before) == after:
        return
    for side, name in enumerate((before, after)):
        cause = None if name is None else _nan_cause(symptoms, side, name)
        if cause is not None:
            yield cause


def _first_nan(symptoms: Symptoms, side: int) -> str | None:
    case = symptoms.case
    return _first(symptoms, case.observed[side], case.graphs[side], lambda array: bool(np.isnan(array).any()))


def _nan_cause(symptoms: Symptoms, side: int, name: str) -> Cause | None:
    """The node that makes NaN of what is not; None where it came with the inputs."""
    graph, model, feed = symptoms.case.graphs[side], symptoms.case.observed[side], symptoms.case.feed.values
    node = graph.nodes[graph.made_by[name]]
    values = model.values([item for item in node.input if item in graph.made_by and item not in graph.constants])
    seen = {item: feed[item] for item in node.input if item in feed}
    seen.update({} if isinstance(values, RunFailure) else values)
    if any(_has_nan(value) for value in seen.values()):
        return None
    ranges = "; ".join(f"{item} in {_range(value)}" for item, value in seen.items() if isinstance(value, np.ndarray))
    label = repr(node.name) if node.name else f"#{graph.made_by[name]}"
    made = f"which makes {name!r} from {ranges or 'constants'}"
    text = f"NaN begins in the model {_SIDES[side]} at {op_of(node)} {label}, {made}"
    return Cause("nan", text, {"model": _SIDES[side], "value": name, "op": op_of(node), "node": node.name})


def half_range(symptoms: Symptoms) -> Iterator[Cause]:
    """float16 or bfloat16 values that overflow, or lose their digits below the smallest normal number, in one model."""
    case = symptoms.case
    if not any(_holds_half(graph) for graph in case.graphs):
        return
    for test, tell in ((_overflows, _overflow_text), (_is_subnormal, _subnormal_text)):
        names = [_first(symptoms, case.observed[side], case.graphs[side], test) for side in range(2)]
        if names[0] is not None and case.alignment.to_after().get(names[0]) == names[1]:
            continue
        for side, name in enumerate(names):
            values = None if name is None else case.observed[side].values([name])
            if name is not None and isinstance(values, dict):
                text = f"the model {_SIDES[side]} has {tell(values[name])} in {name!r}"
                yield Cause(
                    "float16 range", text, {"model": _SIDES[side], "value": name, "dtype": str(values[name].dtype)}
                )


def near_zero(symptoms: Symptoms) -> Iterator[Cause]:
    """A tolerance relative to numbers that are nearly zero."""
    for item in symptoms.failing:
        accepted = DEFAULT_RTOL.get(item.dtype, 0.0) * item.scale
        if item.tolerance == "given" and item.rtol and 0 < item.max_abs <= accepted and _is_small(item):
            least = max(other.least_atol for other in symptoms.outputs if other.name == item.name)
            sizes = f"differences of at most {item.max_abs:.3g} where the output is of size {item.scale:.3g}"
            text = f"output {item.name}: {sizes}, relative to numbers near zero; atol {least:.3g} would pass"
            yield Cause("near zero", text, {"output": item.name, "max_abs": item.max_abs, "least_atol": least})


def _is_small(item: OutputEvidence) -> bool:
    return isinstance(item.worst_before, float) and abs(item.worst_before) < item.scale / 16


def _observed(
    symptoms: Symptoms, pairs: Sequence[tuple[str, str]]
) -> tuple[tuple[Array, ...], tuple[Array, ...]] | None:
    """The values of these pairs before and after; None where one cannot be had as an array."""
    sides = []
    for side, model in enumerate(symptoms.case.observed):
        names = [pair[side] for pair in pairs]
        made = [name for name in names if name not in symptoms.case.feed.values]
        result = model.values(made)
        if isinstance(result, RunFailure):
            return None
        values = [result[name] if name in result else symptoms.case.feed.values[name] for name in names]
        if not all(isinstance(value, np.ndarray) for value in values):
            return None
        sides.append(tuple(values))
    return sides[0], sides[1]


def _first(symptoms: Symptoms, model: Observed, graph: Indexed, test: Callable[[Array], bool]) -> str | None:
    """The first computed value that passes, in topological order, as many at a time as fit the memory budget."""
    names = list(graph.computed)
    sizes = model.sizes(names)
    budget = symptoms.case.memory_budget
    group: list[str] = []
    for name in [*names, None]:
        full = name is None or sum(sizes[item] for item in group) + sizes.get(name, 0) > budget
        if group and full:
            values = model.values(group)
            if not isinstance(values, RunFailure):
                hit = next((item for item in group if is_floating(values[item]) and test(values[item])), None)
                if hit is not None:
                    return hit
            group = []
        if name is not None and sizes.get(name, budget + 1) <= budget:
            group.append(name)
    return None


def _holds_half(graph: Indexed) -> bool:
    declared = [*graph.graph.input, *graph.graph.output, *graph.graph.value_info]
    types = {value.type.tensor_type.elem_type for value in declared}
    types |= {tensor.data_type for tensor in graph.constants.values()}
    types |= {item.i for node in graph.nodes if node.op_type == "Cast" for item in node.attribute if item.name == "to"}
    return not types.isdisjoint({TensorProto.FLOAT16, TensorProto.BFLOAT16})


def _overflows(array: Array) -> bool:
    return array.dtype.name in _RANGES and bool(np.isinf(array).any())


def _overflow_text(array: Array) -> str:
    count, largest = int(np.count_nonzero(np.isinf(array))), _RANGES[array.dtype.name][0]
    return f"{count} infinite values of {array.dtype.name}, whose largest number is {largest:g},"


def _is_subnormal(array: Array) -> bool:
    return array.dtype.name in _RANGES and 0 < _subnormals(array) >= array.size / _FEW


def _subnormals(array: Array) -> int:
    magnitude = np.abs(array.astype(np.float64))
    return int(np.count_nonzero((magnitude > 0) & (magnitude < _RANGES[array.dtype.name][1])))


def _subnormal_text(array: Array) -> str:
    smallest = _RANGES[array.dtype.name][1]
    below = f"below {smallest:.3g}, the smallest normal {array.dtype.name}, where digits are lost,"
    return f"{_subnormals(array)} of {array.size} values {below}"


def _has_nan(value: Any) -> bool:
    return isinstance(value, np.ndarray) and is_floating(value) and bool(np.isnan(value).any())


def _range(value: Array) -> str:
    if not value.size or value.dtype.kind not in "fiub":
        return f"{value.dtype}{list(value.shape)}"
    return f"[{float(value.min()):.4g}, {float(value.max()):.4g}]"
