"""(before, after) -> what a caller of the model would notice: inputs and outputs lost, added, reordered, retyped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import GraphProto, ModelProto, ValueInfoProto

from onnxact.check.graph import UNDECLARED, overridable_inputs, required_inputs, type_text


def interface_differences(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """One sentence a difference; nothing where a caller sees the same names, order and element types.

    Inputs with a default value may come and go below IR version 4, where every initializer has to be an input.
    """
    first, second = before.graph, after.graph
    found = [
        *_differences("input", required_inputs(first), required_inputs(second)),
        *_differences("output", list(first.output), list(second.output)),
        *(_lost_defaults(first, second) if min(before.ir_version, after.ir_version) >= 4 else ()),
    ]
    return tuple(found)


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


def _lost_defaults(before: GraphProto, after: GraphProto) -> Iterator[str]:
    known = {value.name for value in after.input}
    lost = [name for name in overridable_inputs(before) if name not in known]
    yield from (f"input {name!r}, which had a default value, is lost" for name in lost)
