"""declared dimensions, symbols and guesses -> concrete shapes.

[batch, 3, height, width] with height = 32 known from another input or from --input-shapes -> (2, 3, 32, 2).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import ValueInfoProto

from onnxact.check.graph import declared_shape
from onnxact.errors import UsageError

Shape = tuple[int, ...]

_LEAST = 2
"""Of sizes that are to tell things apart."""
_SMALL, _LARGE = 4, 32
"""Above the first, sizes are told apart as multiples; above the second they are not, for what that would cost."""


@dataclass(frozen=True)
class Guess:
    """Sizes for what a model leaves open: an open first dimension (mostly the batch), others, and a whole shape.

    `apart` 1 or 2: each symbol has another size, from there on upwards, and another one for 2 than for 1; `loose`: each
    dimension without a name, too. `small`: integer inputs stay small, whatever limits them.
    """

    first: int = 2
    other: int = 2
    shape: Shape = (2, 3)
    small: bool = False
    apart: int = 0
    loose: bool = False

    def __str__(self) -> str:
        return f"{self.other} (the first one {self.first}), or {list(self.shape)} where the rank is unknown"

    def size(self, axis: int, number: int, count: int) -> int:
        """The size of open dimension `number` of `count`. Large ones are multiples, since networks halve them."""
        if not self.apart:
            return self.other if axis else self.first
        base = self.other if axis else max(self.first, _LEAST)
        if base > _LARGE:
            return base
        if base > _SMALL:
            return base * (number + self.apart)
        return base + (number if self.apart == 1 else 2 * count - 1 - number)

    @property
    def whole(self) -> Shape:
        """The shape where not even the rank is known."""
        return tuple(size + 1 for size in self.shape) if self.apart > 1 else self.shape


DEFAULT = Guess()


@dataclass(frozen=True)
class Sizes:
    """What stands for the open dimensions of a model: the size of each symbol, and the shape of each graph input."""

    symbols: Mapping[str, int]
    shapes: Mapping[str, Shape]


UNKNOWN = Sizes({}, {})

# Tried in this order when a model does not run with the one before. Sizes that networks are built for: the powers of
# two for convolution strides and sequence lengths, then the usual image sizes.
GUESSES = (
    DEFAULT,
    Guess(1, 1, (1,)),
    Guess(2, 4, ()),
    Guess(1, 8, (1, 3, 8, 8)),
    Guess(2, 16, (2, 16)),
    Guess(1, 32, (1, 3, 32, 32)),
    Guess(1, 64, (1, 3, 64, 64)),
    Guess(1, 128, (1, 128)),
    Guess(1, 224, (1, 3, 224, 224)),
    Guess(1, 256, (1, 1, 28, 28)),
    Guess(1, 320, (1, 3, 320, 320)),
    Guess(1, 416, (1, 3, 416, 416)),
    Guess(1, 512, (1, 512)),
    Guess(1, 640, (1, 3, 640, 640)),
    Guess(16, 16, (16,)),
    Guess(64, 64, (1, 224, 224, 3)),
)

_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """["x:1,3,224,224", "n:"] -> {"x": (1, 3, 224, 224), "n": ()}: name, colon, sizes >= 1; names may hold colons.

    Raises UsageError for anything else, and for a name given twice.
    """
    shapes: dict[str, Shape] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        if not colon or not name:
            raise UsageError(f"input shape {text!r}: expected NAME:SIZE,SIZE,... such as x:1,3,224,224")
        if name in shapes:
            raise UsageError(f"input shape {text!r}: {name} is given twice")
        shapes[name] = _parse_sizes(sizes, text)
    return shapes


def guesses(inputs: Iterable[ValueInfoProto], shapes: Mapping[str, Shape]) -> tuple[Guess, ...]:
    """The guesses worth trying: only the first where every size is declared or given."""
    return GUESSES if any(is_open(value, shapes) for value in inputs) else (DEFAULT,)


def is_open(value: ValueInfoProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether a dimension or the rank of an input is neither declared nor given."""
    declared = _declared(value)
    return value.name not in shapes and (declared is None or any(isinstance(dim, str) for dim in declared))


def find_sizes(values: Sequence[ValueInfoProto], shapes: Mapping[str, Shape], guess: Guess) -> Sizes:
    """A size for every open dimension of the graph inputs `values`: from the shapes that are known, then a guess."""
    symbols = bind(values, shapes, guess)
    return Sizes(symbols, {v.name: shapes.get(v.name, concrete(v, symbols, guess)) for v in values})


def contradictions(values: Sequence[ValueInfoProto], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """Symbols that the known shapes give two sizes, one sentence each."""
    sizes: dict[str, tuple[int, str]] = {}
    for value in values:
        for dim, size in zip(_declared(value) or (), shapes.get(value.name, ()), strict=False):
            if isinstance(dim, str) and dim:
                first, name = sizes.setdefault(dim, (size, value.name))
                if first != size:
                    yield f"dimension {dim} is {first} in {name} and {size} in {value.name}"


def first_choices(guess: Guess) -> tuple[Guess, ...]:
    """What to try for a guess: sizes apart, those without a name too; of symbols only; all the same. Large ones at once
    as they are, since a second image costs as much as the first.
    """
    if guess.other > _LARGE:
        return (guess,)
    return (replace(guess, apart=1, loose=True), replace(guess, apart=1), guess)


def other_choices(guess: Guess) -> tuple[Guess, ...]:
    """Assignments with other sizes than those of a guess that runs: of everything, of the first dimension, or none."""
    further = replace(guess, first=guess.first + 1, apart=0)
    return (replace(guess, apart=2) if guess.apart else replace(guess, apart=1), further, replace(guess, apart=0))


def bind(values: Sequence[ValueInfoProto], shapes: Mapping[str, Shape], guess: Guess) -> dict[str, int]:
    """Symbol -> size: from the shapes that are known, then from `guess`. What has no name is called by its place."""
    sizes: dict[str, int] = {}
    for value in values:
        for dim, size in zip(_declared(value) or (), shapes.get(value.name, ()), strict=False):
            if isinstance(dim, str) and dim:
                sizes.setdefault(dim, size)
    found: dict[str, int] = {}
    for name, axis in _open(values, shapes, loose=guess.loose):
        if name not in sizes:
            found.setdefault(name, axis)
    sizes.update((name, guess.size(axis, number, len(found))) for number, (name, axis) in enumerate(found.items()))
    return sizes


def _open(values: Sequence[ValueInfoProto], shapes: Mapping[str, Shape], *, loose: bool) -> Iterator[tuple[str, int]]:
    """The open dimensions, by symbol or place, with their axes."""
    for value in values:
        for axis, dim in enumerate(_declared(value) or ()) if value.name not in shapes else ():
            if isinstance(dim, str) and (dim.isidentifier() or (loose and not dim)):
                yield dim or _place(value, axis), axis


def _place(value: ValueInfoProto, axis: int) -> str:
    return f"{value.name}:{axis}"


def concrete(value: ValueInfoProto, sizes: Mapping[str, int], guess: Guess) -> Shape:
    """The shape to feed; `guess.whole` where the rank is unknown."""
    declared = _declared(value)
    if declared is None:
        return guess.whole
    opens = [guess.first, *[guess.other] * len(declared)]
    called = [_place(value, axis) if dim == "" else dim for axis, dim in enumerate(declared)]
    return tuple(_size(dim, sizes, opens[axis]) for axis, dim in enumerate(called))


def mismatch(value: ValueInfoProto, shape: Shape) -> str | None:
    """Why `shape` contradicts the declared dimensions of `value`, None where it does not."""
    declared = _declared(value)
    if declared is None:
        return None
    fits = len(declared) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(declared, shape, strict=True)
    )
    return None if fits else f"the model declares [{', '.join(str(dim or '?') for dim in declared)}]"


def _parse_sizes(sizes: str, text: str) -> Shape:
    parts = [part.strip() for part in sizes.split(",")] if sizes.strip() else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"input shape {text!r}: {sizes!r} is not a list of sizes of at least 1, such as 1,3,224,224")
    return tuple(int(part) for part in parts)


def _declared(value: ValueInfoProto) -> tuple[int | str, ...] | None:
    kind = value.type
    while kind.WhichOneof("value") in {"sequence_type", "optional_type"}:
        kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
    return declared_shape(kind.tensor_type)


def _size(dim: int | str, sizes: Mapping[str, int], fallback: int) -> int:
    if isinstance(dim, int):
        return dim
    if dim in sizes:
        return sizes[dim]
    computed = _evaluate(dim, sizes)
    return fallback if computed is None or computed < 1 else computed


def _evaluate(text: str, sizes: Mapping[str, int]) -> int | None:
    """A symbol that is an expression of others, as exporters write them: `past_len + seq_len`, `2*s0`."""
    try:
        return _term(ast.parse(text, mode="eval").body, sizes)
    except (SyntaxError, KeyError, ZeroDivisionError, RecursionError, ValueError):
        return None


def _term(node: ast.expr, sizes: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_term(node.left, sizes), _term(node.right, sizes))
    raise ValueError("not a sum or product of symbols")
