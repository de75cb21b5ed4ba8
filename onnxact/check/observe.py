"""(model, groups of values) -> sessions that give those values as outputs, in chunks of bounded memory.

{site a: (x, y), site b: (y, z)}, budget 300 MB  ->  one session for both, or one after the other
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnxact.check.inputs import Feed
from onnxact.check.session import RunFailure, Session, open_session
from onnxact.check.subject import Subject

# The size that a dimension is taken to have where ONNX Runtime infers none.
_UNKNOWN_SIZE = 64
_BYTES = {"tensor(float)": 4, "tensor(float16)": 2, "tensor(bfloat16)": 2, "tensor(int32)": 4, "tensor(bool)": 1}
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"), (1, "bytes"))

Key = TypeVar("Key")
Groups = Mapping[Key, Sequence[str]]


@dataclass(frozen=True)
class Chunk(Generic[Key]):
    """Groups whose values fit the memory budget together, and the session that gives them, or why there is none."""

    keys: tuple[Key, ...]
    names: tuple[str, ...]
    session: Session | RunFailure | TooLarge


@dataclass(frozen=True)
class TooLarge:
    """The values of one group alone do not fit the memory budget."""

    count: int
    budget: int

    def __str__(self) -> str:
        sizes = f"take {_size(self.count)}, more than the memory budget of {_size(self.budget)}"
        return f"its values {sizes}; give at least {self.count:,} bytes (memory_budget, --memory-budget)"


def chunks(
    subject: Subject, groups: Groups[Key], feed: Feed, *, provider: str, memory_budget: int
) -> Iterator[Chunk[Key]]:
    """Sessions with optimisation off; one at a time is alive if the caller drops each before it asks for the next.

    The values of a group are given together. `feed` tells how large symbolic dimensions are. A group that alone exceeds
    `memory_budget` bytes is refused; what sizes ONNX Runtime does not infer are taken to be 64.
    """
    if not groups:
        return
    names = _names(groups)
    session = open_session(subject, provider, optimise=False, extra_outputs=names)
    if isinstance(session, RunFailure):
        yield from _halves(subject, groups, feed, session, provider=provider, memory_budget=memory_budget)
        return
    counts = _byte_counts(session, names, feed)
    sizes = {key: sum(counts[name] for name in dict.fromkeys(group)) for key, group in groups.items()}
    for key, size in sizes.items():
        if size > memory_budget:
            yield Chunk((key,), tuple(groups[key]), TooLarge(size, memory_budget))
    fitting = {key: group for key, group in groups.items() if sizes[key] <= memory_budget}
    parts = _parts(fitting, counts, memory_budget)
    if len(parts) == 1 and len(fitting) == len(groups):
        yield Chunk(tuple(groups), names, session)
        return
    del session
    for part in parts:
        names = _names(part)
        opened = open_session(subject, provider, optimise=False, extra_outputs=names)
        yield Chunk(tuple(part), names, opened)


def _names(groups: Groups[Key]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups.values() for name in group))


def _halves(
    subject: Subject, groups: Groups[Key], feed: Feed, failure: RunFailure, *, provider: str, memory_budget: int
) -> Iterator[Chunk[Key]]:
    """One value that ONNX Runtime does not give must not cost the others."""
    keys = list(groups)
    if len(keys) == 1:
        yield Chunk((keys[0],), tuple(groups[keys[0]]), failure)
        return
    middle = len(keys) // 2
    for part in (keys[:middle], keys[middle:]):
        half = {key: groups[key] for key in part}
        yield from chunks(subject, half, feed, provider=provider, memory_budget=memory_budget)


def _byte_counts(session: Session, names: Sequence[str], feed: Feed) -> dict[str, int]:
    symbols = _symbols(session, feed.values)
    values = {item.name: item for item in (*session.handle.get_inputs(), *session.handle.get_outputs())}
    return {name: _byte_count(values[name], symbols) for name in names}


def _byte_count(output: Any, symbols: Mapping[str, int]) -> int:
    sizes = [dim if isinstance(dim, int) else symbols.get(dim, _UNKNOWN_SIZE) for dim in output.shape or ()]
    return math.prod(sizes) * _BYTES.get(output.type, 8)


def _symbols(session: Session, values: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in session.handle.get_inputs():
        shape = getattr(values.get(item.name), "shape", ())
        found.update((dim, size) for dim, size in zip(item.shape, shape, strict=False) if isinstance(dim, str))
    return found


def _parts(groups: Groups[Key], counts: Mapping[str, int], budget: int) -> list[dict[Key, Sequence[str]]]:
    """In order, as many groups to a part as fit; a value that two of them share counts once."""
    parts: list[dict[Key, Sequence[str]]] = []
    held: set[str] = set()
    room = 0
    for key, group in groups.items():
        more = sum(counts[name] for name in set(group) - held)
        if not parts or more > room:
            parts.append({})
            held, room = set(), budget
            more = sum(counts[name] for name in set(group))
        parts[-1][key] = group
        held.update(group)
        room -= more
    return parts


def _size(count: int) -> str:
    unit, name = next(((unit, name) for unit, name in _UNITS if count >= unit), (1, "bytes"))
    return f"{math.ceil(10 * count / unit) / 10:g} {name}"
