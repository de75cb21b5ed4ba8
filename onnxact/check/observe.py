"""(model, names of main-graph values) -> sessions that give those values as outputs, in chunks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import GraphProto

from onnxact.check.graph import initializer_names
from onnxact.check.inputs import Feed
from onnxact.check.session import RunFailure, Session, open_session
from onnxact.check.subject import Subject

# The size that a dimension is taken to have where ONNX Runtime infers none.
_UNKNOWN_SIZE = 64
_BYTES = {"tensor(float)": 4, "tensor(float16)": 2, "tensor(bfloat16)": 2, "tensor(int32)": 4, "tensor(bool)": 1}


@dataclass(frozen=True)
class Chunk:
    """Values that fit the memory budget together, and the session that gives them, or why there is none."""

    names: tuple[str, ...]
    session: Session | RunFailure


def value_names(graph: GraphProto) -> set[str]:
    """Every name that has a value in the graph itself, bodies not counted."""
    produced = {output for node in graph.node for output in node.output if output}
    return produced | initializer_names(graph) | {value.name for value in graph.input}


def chunks(subject: Subject, names: Sequence[str], feed: Feed, *, provider: str, memory_budget: int) -> Iterator[Chunk]:
    """Sessions with optimisation off; one at a time is alive if the caller drops each before it asks for the next.

    `feed` tells how large symbolic dimensions are. A value that alone exceeds `memory_budget` gets a chunk of its own.
    """
    if not names:
        return
    session = open_session(subject, provider, optimise=False, extra_outputs=names)
    if isinstance(session, RunFailure):
        yield from _halves(subject, names, feed, session, provider=provider, memory_budget=memory_budget)
        return
    groups = _groups(_byte_counts(session, names, feed), memory_budget)
    if len(groups) == 1:
        yield Chunk(groups[0], session)
        return
    del session
    for group in groups:
        yield Chunk(group, open_session(subject, provider, optimise=False, extra_outputs=group))


def _halves(
    subject: Subject, names: Sequence[str], feed: Feed, failure: RunFailure, *, provider: str, memory_budget: int
) -> Iterator[Chunk]:
    """One value that ONNX Runtime does not give must not cost the others."""
    if len(names) == 1:
        yield Chunk(tuple(names), failure)
        return
    middle = len(names) // 2
    for part in (names[:middle], names[middle:]):
        yield from chunks(subject, part, feed, provider=provider, memory_budget=memory_budget)


def _byte_counts(session: Session, names: Sequence[str], feed: Feed) -> dict[str, int]:
    symbols = _symbols(session, feed.values)
    outputs = {item.name: item for item in session.handle.get_outputs()}
    return {name: _byte_count(outputs[name], symbols) for name in names}


def _byte_count(output: Any, symbols: Mapping[str, int]) -> int:
    sizes = [dim if isinstance(dim, int) else symbols.get(dim, _UNKNOWN_SIZE) for dim in output.shape]
    return math.prod(sizes) * _BYTES.get(output.type, 8)


def _symbols(session: Session, values: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in session.handle.get_inputs():
        shape = getattr(values.get(item.name), "shape", ())
        found.update((dim, size) for dim, size in zip(item.shape, shape, strict=False) if isinstance(dim, str))
    return found


def _groups(counts: Mapping[str, int], budget: int) -> list[tuple[str, ...]]:
    """In order, as many to a group as fit."""
    groups: list[list[str]] = []
    room = 0
    for name, count in counts.items():
        if not groups or count > room:
            groups.append([])
            room = budget
        groups[-1].append(name)
        room -= count
    return [tuple(group) for group in groups]
