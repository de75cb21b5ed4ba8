"""(inputs, sizes of outputs, memory budget) -> what is run together, so that the results held at a time fit.

Two sets of inputs, outputs of 40 MB, 256 MB: one batch. Outputs of 60 MB: one set of inputs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxact.check.compare import leaves
from onnxact.check.inputs import Feed, truths
from onnxact.errors import UsageError

# Held at a time: what `before` gave with optimisation off and on, and what it is compared with.
COPIES = 3
# A string in an array of objects, its characters included: a guess.
_STRING_BYTES = 64


@dataclass(frozen=True)
class Batch:
    """Inputs and outputs (None: all) whose results are held together."""

    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...] | None = None
    is_first: bool = True


def byte_count(value: Any) -> int:
    """The bytes of all tensors in an output."""
    arrays = (array for _, array in leaves("", value) if array is not None)
    return sum(array.size * _STRING_BYTES if array.dtype.kind == "O" else array.nbytes for array in arrays)


def demand_room(what: str, size: int, copies: int, budget: int) -> None:
    """Raise UsageError, with the value and its size, where `copies` of it do not fit the budget."""
    if size * copies > budget:
        several = f", and {copies} of it are held at a time" if copies > 1 else ""
        raise UsageError(
            f"memory budget of {budget:,} bytes: {what} takes {size:,} bytes{several}; "
            f"give at least {size * copies:,} (memory_budget, --memory-budget)"
        )


def plan_batches(feeds: Sequence[Feed], sizes: Mapping[str, int], budget: int) -> tuple[Batch, ...]:
    """As few batches as hold. Raises UsageError where one output alone does not fit.

    `sizes` are those of the first inputs; larger ones are taken to give as much more.
    """
    growth = _growth(feeds)
    sizes = {name: math.ceil(size * growth) for name, size in sizes.items()}
    for name, size in sizes.items():
        demand_room(f"output {name}", size, COPIES, budget)
    each = max(sum(sizes.values()) * COPIES, 1)
    together = budget // each
    if together:
        return tuple(Batch(tuple(feeds[at : at + together]), None, at == 0) for at in range(0, len(feeds), together))
    parts = [(feed, names) for feed in feeds for names in _groups(sizes, budget // COPIES)]
    return tuple(Batch((feed,), names, number == 0) for number, (feed, names) in enumerate(parts))


def largest(feeds: Sequence[Feed]) -> Feed:
    """The inputs with the most bytes."""
    return max(feeds, key=_bytes)


def _growth(feeds: Sequence[Feed]) -> float:
    return _bytes(largest(feeds)) / max(_bytes(feeds[0]), 1) if _bytes(feeds[0]) else 1.0


def _bytes(feed: Feed) -> int:
    return sum(byte_count(value) for value in feed.values.values())


def _groups(sizes: Mapping[str, int], room: int) -> list[tuple[str, ...]]:
    """The names in order, as many to a group as fit into `room` bytes."""
    groups: list[list[str]] = []
    left = 0
    for name, size in sizes.items():
        if not groups or size > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= size
    return [tuple(group) for group in groups]


def repeated(feeds: Sequence[Feed]) -> tuple[int, ...]:
    """The sets of inputs to run twice: the first of each combination of truth values, one of which may use chance."""
    seen = [truths(feed.values) for feed in feeds]
    return tuple(at for at, found in enumerate(seen) if found not in seen[:at])
