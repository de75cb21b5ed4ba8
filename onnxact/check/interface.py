"""(before, after) -> what a caller of the model would notice: inputs and outputs lost, added, reordered, retyped.

x: float[1, 3] before, float[N, 3] after: nothing. float[1, 4] after: "input 'x' was of shape [1, 3], is [1, 4]".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from onnx import GraphProto, ModelProto, ValueInfoProto

from onnxact.check.graph import UNDECLARED, declared_shape, initializer_names, type_text
from onnxact.check.region import producer_indices, reads

_OVERRIDABLE_FROM = 4


class Interface:
    """What callers see of two models."""

    def __init__(self, before: ModelProto, after: ModelProto) -> None:
        self.before = _Side(before)
        self.after = _Side(after)
        self._has_defaults = min(before.ir_version, after.ir_version) >= _OVERRIDABLE_FROM

    @cached_property
    def differences(self) -> tuple[str, ...]:
        """One sentence a difference; nothing where a caller sees the same names, order and element types.

        The declared shapes of inputs must not contradict each other; those of outputs may (see notes). Inputs with a
        default value may come and go below IR version 4, where every initializer has to be an input; so may the default
        of an input that nothing reads any longer, which is what ONNX Runtime leaves in the models that it saves.
        """
        first, second = self.before, self.after
        found = [
            *_differences("input", first.required, _without(second.required, set(self.unread))),
            *_differences("output", list(first.graph.output), list(second.graph.output)),
            *(_lost_defaults(first, second) if self._has_defaults else ()),
            *_reshaped("input", first.required, second.required),
        ]
        return tuple(found)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is not the same and no difference: outputs whose declared shapes contradict each other (one declaration
        is wrong, what comes out is compared), and inputs that have a default value in one model only.
        """
        first, second, lost = self.before, self.after, self.unread
        texts = _reshaped("output", first.graph.output, second.graph.output)
        stories = {
            "that had a default value are no inputs after": _without_names(first.overridable, second.names),
            "with a default value are new": _without_names(second.overridable, first.names),
            "had a default value, which is lost: a caller has to give something, although nothing reads it": lost,
        }
        lines = (f"inputs {text}: {_some(names)}" for text, names in stories.items() if names)
        return (*(f"declared otherwise: {text}" for text in texts), *lines)

    @cached_property
    def unread(self) -> list[str]:
        """The inputs without a default that nothing reads and that had one before."""
        had, graph = set(self.before.overridable), self.after.graph
        lost = [value.name for value in self.after.required if value.name in had]
        if not lost:
            return []
        read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
        return [name for name in lost if name not in read]

    def defaults_read_by_one(self) -> Iterator[str]:
        """Why a caller who gives an input with a default gets something else: only one model's outputs depend on it.

        Below IR version 4 no default can be replaced.
        """
        common = sorted({*self.before.overridable} & {*self.after.overridable})
        if common and self._has_defaults:
            needed = [_needed(side.graph) for side in (self.before, self.after)]
            for name in (name for name in common if (name in needed[0]) != (name in needed[1])):
                side = "before" if name in needed[0] else "after"
                yield f"input {name!r}, which has a default, is read by the model {side} only"


class _Side:
    """The inputs of one model: those that have to be given, and the names of those with a default value."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        stored = initializer_names(model.graph)
        self.names = {value.name for value in model.graph.input}
        self.required = [value for value in model.graph.input if value.name not in stored]
        self.overridable = [value.name for value in model.graph.input if value.name in stored]


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


def _without_names(names: Sequence[str], others: set[str]) -> list[str]:
    return [name for name in names if name not in others]


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


def _lost_defaults(before: _Side, after: _Side) -> Iterator[str]:
    lost = _without_names(before.overridable, after.names)
    yield from (f"input {name!r}, which had a default value, is lost" for name in lost)
