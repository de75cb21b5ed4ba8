"""(before, after) -> what a caller of the model would notice: inputs and outputs lost, added, reordered, retyped.

x: float[1, 3] before, float[N, 3] after: nothing. float[1, 4] after: "input 'x' was of shape [1, 3], is [1, 4]".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import GraphProto, ModelProto, ValueInfoProto

from onnxact.check.graph import UNDECLARED, declared_shape, overridable_inputs, required_inputs, type_text
from onnxact.check.region import producer_indices, reads

_OVERRIDABLE_FROM = 4


def interface_differences(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """One sentence a difference; nothing where a caller sees the same names, order and element types.

    The declared shapes of inputs must not contradict each other; those of outputs may (see interface_notes). Inputs
    with a default value may come and go below IR version 4, where every initializer has to be an input; so may the
    default of an input that nothing reads any longer, which is what ONNX Runtime leaves in the models that it saves.
    """
    first, second = before.graph, after.graph
    unread = set(unread_inputs(before, after))
    found = [
        *_differences("input", required_inputs(first), _without(required_inputs(second), unread)),
        *_differences("output", list(first.output), list(second.output)),
        *(_lost_defaults(first, second) if min(before.ir_version, after.ir_version) >= _OVERRIDABLE_FROM else ()),
        *_reshaped("input", required_inputs(first), required_inputs(second)),
    ]
    return tuple(found)


def interface_notes(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """What is not the same and no difference: outputs whose declared shapes contradict each other (one declaration is
    wrong, what comes out is compared), and inputs that have a default value in one model only.
    """
    first, second = before.graph, after.graph
    declared = (f"declared otherwise: {text}" for text in _reshaped("output", first.output, second.output))
    old, new = overridable_inputs(first), overridable_inputs(second)
    unread = unread_inputs(before, after)
    before_only, after_only = _only_in(first, second), _only_in(second, first)
    stories = {
        "that had a default value are no inputs after": [name for name in old if name in before_only],
        "with a default value are new": [name for name in new if name in after_only],
        "had a default value, which is lost: a caller has to give something, although nothing reads it": unread,
    }
    return (*declared, *(f"inputs {text}: {_some(names)}" for text, names in stories.items() if names))


def _only_in(one: GraphProto, other: GraphProto) -> set[str]:
    return {value.name for value in one.input} - {value.name for value in other.input}


def unread_inputs(before: ModelProto, after: ModelProto) -> list[str]:
    """The inputs without a default that nothing reads and that had one before."""
    had = set(overridable_inputs(before.graph))
    lost = [value.name for value in required_inputs(after.graph) if value.name in had]
    if not lost:
        return []
    read = {name for node in after.graph.node for name in reads(node)} | {value.name for value in after.graph.output}
    return [name for name in lost if name not in read]


def defaults_read_by_one(before: ModelProto, after: ModelProto) -> Iterator[str]:
    """Why a caller who gives an input with a default gets something else: only one model's outputs depend on it.

    Below IR version 4 no default can be replaced.
    """
    common = sorted(set(overridable_inputs(before.graph)) & set(overridable_inputs(after.graph)))
    if common and min(before.ir_version, after.ir_version) >= _OVERRIDABLE_FROM:
        needed = [_needed(model.graph) for model in (before, after)]
        for name in (name for name in common if (name in needed[0]) != (name in needed[1])):
            side = "before" if name in needed[0] else "after"
            yield f"input {name!r}, which has a default, is read by the model {side} only"


def _needed(graph: GraphProto) -> set[str]:
    """The values that some output depends on."""
    made_by = producer_indices(graph.node)
    found: set[str] = set()
    pending = [value.name for value in graph.output]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += reads(graph.node[made_by[name]]) if name in made_by else ()
    return found


def _without(values: Sequence[ValueInfoProto], names: set[str]) -> list[ValueInfoProto]:
    return [value for value in values if value.name not in names]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _differences(kind: str, before: Sequence[ValueInfoProto], after: Sequence[ValueInfoProto]) -> Iterator[str]:
    old, new = [value.name for value in before], [value.name for value in after]
    yield from (f"{kind} {name!r} is lost" for name in old if name not in new)
    yield from (f"{kind} {name!r} is new" for name in new if name not in old)
    if old != new and sorted(old) == sorted(new):
        yield f"{kind}s are in another order: {', '.join(old)} before, {', '.join(new)} after"
    types = {value.name: type_text(value.type) for value in after}
    for value in before:
        was, becomes = type_text(value.type), types.get(value.name, UNDECLARED)
        if was != becomes and UNDECLARED not in {was, becomes}:
            yield f"{kind} {value.name!r} was {was}, is {becomes}"


def _reshaped(kind: str, before: Sequence[ValueInfoProto], after: Sequence[ValueInfoProto]) -> Iterator[str]:
    shapes = {value.name: _shape(value) for value in after}
    for value in before:
        was, becomes = _shape(value), shapes.get(value.name)
        if was is not None and becomes is not None and _contradict(was, becomes):
            yield f"{kind} {value.name!r} was of shape {_text(was)}, is {_text(becomes)}"


def _shape(value: ValueInfoProto) -> tuple[int | str, ...] | None:
    return declared_shape(value.type.tensor_type) if value.type.HasField("tensor_type") else None


def _contradict(one: Sequence[int | str], other: Sequence[int | str]) -> bool:
    if len(one) != len(other):
        return True
    sizes = zip(one, other, strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)


def _text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(size or '?') for size in shape)}]"


def _lost_defaults(before: GraphProto, after: GraphProto) -> Iterator[str]:
    known = {value.name for value in after.input}
    lost = [name for name in overridable_inputs(before) if name not in known]
    yield from (f"input {name!r}, which had a default value, is lost" for name in lost)
