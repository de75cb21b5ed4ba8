"""integer graph input -> whether its size decides how much is computed: a shape, an index, the turns of a loop.

n -> Mul(n, 2) -> Range(0, here, 1): it does, so that n has to stay small although no reader bounds it.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from onnxact.check.graph import subgraphs
from onnxact.check.ranges import COMPARISONS, LIMITED
from onnxact.check.readers import Readers
from onnxact.check.steering import STEERED
from onnxact.model.schema import plain

_Value = tuple[str, bool]
"""A name, and whether it follows from a truth value, which is as large for a small number as for a large one."""

# What comes out does not grow with what goes in here: sizes, positions, signs.
_BOUNDED = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "Sign", "IsNaN", "IsInf", "OneHot"})
_AMOUNTS = frozenset(
    {
        *((f"{window}Window", 0) for window in ("Hann", "Hamming", "Blackman")),
        *(("Col2Im", position) for position in (1, 2)),
        ("DFT", 1),
    }
)


def decides_amounts(readers: Readers, name: str) -> bool:
    """Whether `name`, through whatever arithmetic, reaches an input that bounds its values, or what ends a loop.

    A local function that bounds values anywhere is taken to bound those that enter it, and so is an op of another
    domain than ONNX's own.
    """
    pending: list[_Value] = [(name, False)]
    seen = set(pending)
    while pending:
        value, is_truth = pending.pop()
        if value in readers.loop_conditions:
            return True
        readings = readers.scope.readers.get(value, ())
        if any(_bounds(readers, node, position, is_truth=is_truth) for node, position in readings):
            return True
        fresh = {item for reading in readings for item in _onward(*reading, is_truth=is_truth)}
        fresh.update((outer, is_truth) for outer in readers.scope.outside.get(value, ()))
        pending += fresh - seen
        seen |= fresh
    return False


def _bounds(readers: Readers, node: NodeProto, position: int, *, is_truth: bool) -> bool:
    if node.op_type == "Loop" and position == 1:
        return True
    if is_truth:
        return False
    function = readers.function(node)
    if function is not None:
        return any(_is_bound(inner.op_type, at) for inner in function.node for at in range(len(inner.input)))
    return bool(plain(node.domain)) or _is_bound(node.op_type, position)


def _is_bound(op_type: str, position: int) -> bool:
    place = (op_type, position)
    return place in LIMITED or place in STEERED or place in _AMOUNTS


def _onward(node: NodeProto, position: int, *, is_truth: bool) -> Iterator[_Value]:
    """The values that grow with this one, or are true or false by it."""
    if node.op_type in {"Loop", "Scan"}:
        yield from ((body.input[position].name, is_truth) for body in subgraphs(node) if position < len(body.input))
    elif is_truth or (node.op_type not in _BOUNDED and not (node.op_type == "Where" and position == 0)):
        becomes_truth = is_truth or node.op_type in COMPARISONS
        yield from ((output, becomes_truth) for output in node.output if output)
