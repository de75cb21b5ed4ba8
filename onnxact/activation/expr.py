"""The term language in which every form is written: `x`, parameters, literals, operators, primitive ops.

    (1 + alpha) / 2 * x + (1 - alpha) / 2 * Abs(x)

is ordinary Python; the operators build a tree of frozen, hashable nodes. Comparisons build conditions
(`alpha <= 1`), `&` joins them. `==` compares trees; the condition "equals" is `equals(a, b)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache


class Expr:
    """A term. Immutable and hashable, so that equal subterms are shared by whoever walks it."""

    __slots__ = ()

    def __add__(self, other: Operand) -> Call:
        return Call("Add", (self, term(other)))

    def __radd__(self, other: Operand) -> Call:
        return Call("Add", (term(other), self))

    def __sub__(self, other: Operand) -> Call:
        return Call("Sub", (self, term(other)))

    def __rsub__(self, other: Operand) -> Call:
        return Call("Sub", (term(other), self))

    def __mul__(self, other: Operand) -> Call:
        return Call("Mul", (self, term(other)))

    def __rmul__(self, other: Operand) -> Call:
        return Call("Mul", (term(other), self))

    def __truediv__(self, other: Operand) -> Call:
        return Call("Div", (self, term(other)))

    def __rtruediv__(self, other: Operand) -> Call:
        return Call("Div", (term(other), self))

    def __neg__(self) -> Call:
        return Call("Neg", (self,))

    def __lt__(self, other: Operand) -> Call:
        return Call("Less", (self, term(other)))

    def __gt__(self, other: Operand) -> Call:
        return Call("Greater", (self, term(other)))

    def __le__(self, other: Operand) -> Call:
        return Call("LessOrEqual", (self, term(other)))

    def __ge__(self, other: Operand) -> Call:
        return Call("GreaterOrEqual", (self, term(other)))

    def __and__(self, other: Expr) -> Call:
        return Call("And", (self, other))


@dataclass(frozen=True, slots=True)
class Variable(Expr):
    """A tensor that enters the term. `x` is the activation's input; `y` occurs only in rewrites of binary ops."""

    name: str


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    """A number (or, for a slope, a tensor) that is fixed when the model is written."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """A number, held in double precision, or the text of a string attribute."""

    value: float | str


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A primitive op applied to terms; `op` is its ONNX name."""

    op: str
    args: tuple[Expr, ...]
    _hash: int = field(init=False, repr=False, compare=False)
    """Worked out once: terms are looked up far more often than they are made."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args)))

    def __hash__(self) -> int:
        return self._hash


Operand = Expr | float | int | str
x = Variable("x")
y = Variable("y")
RANDOM = frozenset({"RandomNormal"})
"""Ops that give another value at every call, whatever their operands."""
TRUE = Literal(1.0)


def term(operand: Operand) -> Expr:
    """Return `operand` as a term: numbers become literals."""
    if isinstance(operand, Expr):
        return operand
    return Literal(operand if isinstance(operand, str) else float(operand))


def equals(left: Operand, right: Operand) -> Call:
    """Return the condition that two parameter terms have the same value."""
    return Call("Equal", (term(left), term(right)))


@cache
def varies(expr: Expr) -> bool:
    """Tell whether `expr` depends on a variable, so that it cannot be folded into a constant."""
    if isinstance(expr, Call):
        return expr.op in RANDOM or any(map(varies, expr.args))
    return isinstance(expr, Variable)


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield every subterm, operands before what uses them."""
    if isinstance(expr, Call):
        for arg in expr.args:
            yield from walk(arg)
    yield expr


@cache
def ops(expr: Expr) -> frozenset[str]:
    """Return the ops that computing `expr` takes at run time (what folds into constants takes none)."""
    return frozenset(e.op for e in walk(expr) if isinstance(e, Call) and varies(e))


@cache
def size(expr: Expr) -> int:
    """Return the number of ONNX nodes of `expr`; equal subterms are computed once."""
    return len({e for e in walk(expr) if isinstance(e, Call) and varies(e)})


@cache
def parameters(expr: Expr) -> tuple[str, ...]:
    """Return the names of the parameters in `expr`, in order of appearance."""
    return tuple(dict.fromkeys(e.name for e in walk(expr) if isinstance(e, Parameter)))


def substitute(expr: Expr, replacements: Mapping[Expr, Expr]) -> Expr:
    """Return `expr` with every subterm that is a key of `replacements` replaced by its value."""
    if expr in replacements:
        return replacements[expr]
    if not isinstance(expr, Call):
        return expr
    return Call(expr.op, tuple(substitute(arg, replacements) for arg in expr.args))


_INFIX = {
    "Add": ("+", 3), "Sub": ("-", 3), "Mul": ("*", 4), "Div": ("/", 4), "Less": ("<", 2), "Greater": (">", 2),
    "LessOrEqual": ("<=", 2), "GreaterOrEqual": (">=", 2), "Equal": ("=", 2), "And": ("and", 1),
}  # fmt: skip


def text(expr: Expr, binding: int = 0) -> str:
    """Return `expr` in mathematical notation; `binding` is the precedence of what surrounds it."""
    if isinstance(expr, Literal):
        return f'"{expr.value}"' if isinstance(expr.value, str) else f"{expr.value:.10g}"
    if not isinstance(expr, Call):
        return str(getattr(expr, "name", expr))
    if expr.op == "Neg":
        return _parenthesised(f"-{text(expr.args[0], 5)}", binding > 4)
    if expr.op not in _INFIX:
        return f"{expr.op}({', '.join(text(arg) for arg in expr.args)})"
    sign, level = _INFIX[expr.op]
    left, right = expr.args
    return _parenthesised(f"{text(left, level)} {sign} {text(right, level + 1)}", binding > level)


def _parenthesised(inner: str, needed: bool) -> str:
    return f"({inner})" if needed else inner
