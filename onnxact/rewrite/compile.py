"""Expression -> steps: the nodes of a form before its values have names.

    Max(x, alpha * x), alpha = 0.2  ->  #0 = Mul(0.2, x);  #1 = Max(x, #0)

Parts without `x` are folded in double and rounded once to the tensor's dtype. A tensor that the model already has (a
slope) is used as it is. Equal subterms are computed once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxact.activation.expr import Call, Expr, Literal, Parameter, Variable, parameters, varies
from onnxact.activation.numeric import FLOATS, fold, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.edit import Makes
from onnxact.rewrite.site import Dynamic, Parameters, Reference, Tensor, known
from onnxact.rewrite.target.layout import Writing

X = Variable("x")
_CONDITIONS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And"}
_ELEM_TYPES = {name: elem_type for elem_type, name in schema.FLOAT_TYPES.items()}


class Step(NamedTuple):
    """One node before it has names. An operand is "" (left out), X, a step's number, an array, or a named value.

    An attribute is a name with a value, or an AttributeProto.
    """

    op: str
    operands: tuple[Any, ...]
    attributes: tuple[Any, ...]
    makes: Makes
    label: str


def steps_of(
    expr: Expr, opset: int, dtype: str, bound: Parameters, *, unit: bool, writing: Writing | None = None
) -> tuple[Step, ...]:
    """Return the steps that compute `expr`; `unit`: scalar constants have shape [1], right where x has a dimension.

    writing: how a target wants them instead.
    """
    return _Compiler(opset, dtype, bound, unit=unit, writing=writing).run(expr)


class _Compiler:
    """Turns one term into steps."""

    def __init__(self, opset: int, dtype: str, bound: Parameters, *, unit: bool, writing: Writing | None) -> None:
        self.opset = opset
        self.dtype = dtype
        self.bound = bound
        self.unit = unit
        self.writing = writing
        self.steps: list[Step] = []
        self.done: dict[Expr, Any] = {}

    def run(self, expr: Expr) -> tuple[Step, ...]:
        self.operand(expr)
        return tuple(self.steps)

    def operand(self, expr: Expr) -> Any:
        """Return what stands for `expr` among a node's inputs, adding the steps that compute it."""
        if expr not in self.done:
            self.done[expr] = self._make(expr)
        return self.done[expr]

    def _make(self, expr: Expr) -> Any:
        if isinstance(expr, Variable):
            return X
        if isinstance(expr, Parameter):
            return self._parameter(self.bound[expr.name])
        if not varies(expr) and self._is_known(expr):
            return self._constant(fold(expr, known(self._needed(expr)) or {}))
        if not isinstance(expr, Call):
            raise TypeError(f"{expr} cannot be written as a node")
        self.steps.append(self._call(expr))
        return len(self.steps) - 1

    def _needed(self, expr: Expr) -> Parameters:
        return {name: self.bound[name] for name in parameters(expr)}

    def _is_known(self, expr: Expr) -> bool:
        return known(self._needed(expr)) is not None

    def _parameter(self, value: Any) -> Any:
        if isinstance(value, (Tensor, Dynamic)) and value.name:
            return value.name
        if isinstance(value, Tensor):
            return rounded(value.value, FLOATS[self.dtype])
        return value if isinstance(value, Reference) else self._constant(value)

    def _constant(self, value: Any) -> NDArray[Any] | str:
        array = np.asarray(rounded(value, FLOATS[self.dtype]))
        return array.reshape(1) if self.unit and array.ndim == 0 else array

    def _call(self, expr: Call) -> Step:
        stated = schema.attributes(expr.op, self.opset)
        operands: list[Any] = []
        attributes: list[tuple[str, Any]] = []
        for name, arg in zip(PRIMITIVES[expr.op].operands, expr.args, strict=False):
            if name in stated:
                attributes += self._attribute(expr, name, arg)
            else:
                operand = "" if self._left_out(expr, arg) else self._input(expr.op, name, arg)
                operands.append(_without_dimensions(operand) if expr.op == "Clip" else operand)
        if expr.op == "Cast":
            attributes.append(("to", int(_ELEM_TYPES[self.dtype])))
        makes: Makes = "truth" if expr.op in _CONDITIONS else "value" if varies(expr) else "parameter"
        return Step(expr.op, tuple(operands), tuple(attributes), makes, expr.op.lower())

    def _input(self, op: str, name: str, arg: Expr) -> Any:
        """Return an operand that is an input of the node; a constant in the shape in which the target takes it."""
        if self.writing is None or varies(arg) or not self._is_known(arg):
            return self.operand(arg)
        if isinstance(arg, Parameter) and isinstance(self.bound[arg.name], Tensor) and self.writing.keeps(op, name):
            return self.operand(arg)
        value = np.asarray(rounded(fold(arg, known(self._needed(arg)) or {}), FLOATS[self.dtype]))
        laid_out = self.writing.laid_out(op, name, value)
        if laid_out is None:
            raise ValueError(f"{name} of {op} fits none of its layouts")
        return laid_out

    def _left_out(self, call: Call, arg: Expr) -> bool:
        """Tell whether an operand says nothing: Clip without a bound."""
        return call.op == "Clip" and not varies(arg) and self._is_known(arg) and self._infinite(arg)

    def _infinite(self, arg: Expr) -> bool:
        value = fold(arg, known(self._needed(arg)) or {})
        return not isinstance(value, str) and bool(np.all(np.isinf(value)))

    def _attribute(self, call: Call, name: str, arg: Expr) -> list[tuple[str, Any]]:
        if isinstance(arg, Literal) and isinstance(arg.value, str):
            return [(name, arg.value)]
        if isinstance(arg, Parameter) and isinstance(self.bound[arg.name], Reference):
            return [(name, self.bound[arg.name])]
        if self._left_out(call, arg):
            return []
        value = np.asarray(fold(arg, known(self._needed(arg)) or {}), np.float64)
        return [(name, float(np.float32(value.reshape(-1)[0])))]


def _without_dimensions(operand: Any) -> Any:
    """Return a constant as Clip takes its bounds: "must be a scalar (tensor of empty shape)" (ONNX Clip-13)."""
    return operand.reshape(()) if isinstance(operand, np.ndarray) and operand.size == 1 else operand
