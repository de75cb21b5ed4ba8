"""Expression -> nodes: write a form into a graph.

    Max(x, alpha * x), alpha = 0.2  ->  y_mul = Mul(0.2, x);  y = Max(x, y_mul)

Parts without `x` are folded in double and rounded once to the tensor's dtype. Each becomes an initializer, equal ones
shared; in a local function, and below IR version 4, where an initializer would have to be an input, a Constant node.
A tensor that the model already has (a slope) is used as it is. Equal subterms are computed once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto

from onnxact.activation.expr import Call, Expr, Literal, Parameter, Variable, ops, parameters, varies, walk
from onnxact.activation.numeric import FLOATS, fold, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.edit import Makes, NewConstant, NewNode
from onnxact.model.naming import Names
from onnxact.rewrite.after import After
from onnxact.rewrite.site import Dynamic, Parameters, Reference, Site, Tensor, known

_IR_WITH_FREE_INITIALIZERS = 4
_CONSTANT_BY_REFERENCE = 12
"""Constant takes `value_float`, which can refer to a function's attribute, from this opset."""
_CONDITIONS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And"}
ELEM_TYPES = {name: elem_type for elem_type, name in schema.FLOAT_TYPES.items()}


class Emitted(NamedTuple):
    """The nodes of one site: `new` ones in order, and what the site's last node becomes."""

    new: tuple[NewNode, ...]
    replacement: NewNode


class Constants:
    """The constants of one plan; equal ones in the same scope are one."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._made: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
        self.made: list[NewConstant] = []

    def name(self, site: Site, value: NDArray[Any]) -> str:
        """Return the name of a constant of this value that the site can use."""
        scope = site.scope
        key = (scope.path, value.dtype.str + value.dtype.name, value.shape, value.tobytes())
        if key not in self._made:
            wish = f"onnxact_{_short(value)}"
            as_node = scope.is_function or scope.view.model.ir_version < _IR_WITH_FREE_INITIALIZERS
            new = NewConstant(scope.path, self._names.fresh(wish), value, min(site.nodes) if as_node else None)
            self._made[key] = new.name
            self.made.append(new)
        return self._made[key]

    def reference(self, site: Site, attribute: str) -> str:
        """Return the name of a constant that takes the value of the enclosing function's attribute."""
        key = (site.scope.path, attribute, (), b"")
        if key not in self._made:
            name = self._names.fresh(f"onnxact_{attribute}")
            self.made.append(NewConstant(site.scope.path, name, np.zeros(()), min(site.nodes), attribute))
            self._made[key] = name
        return self._made[key]


def _short(value: NDArray[Any]) -> str:
    return f"{float(value.reshape(-1)[0]):.6g}" if value.size == 1 else "x".join(map(str, value.shape))


class _Step(NamedTuple):
    """One node before it has names. An operand is "" (left out), x, a step, an array, or a named value."""

    op: str
    operands: tuple[Any, ...]
    attributes: tuple[tuple[str, Any], ...]
    makes: Makes
    label: str


class _Recipe(NamedTuple):
    """The steps of a form with its constants named: everything that sites of one kind in one scope share."""

    steps: tuple[_Step, ...]
    attributes: tuple[list[tuple[str, Any] | AttributeProto], ...]
    unit: bool
    has_constants: bool
    alone: Emitted | None
    """What is written where one node that reads x alone takes the place of another: the same for every site."""


_X = Variable("x")


class Emitter:
    """Writes forms into one model. What sites of one kind share is worked out once."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.constants = Constants(names)
        self._recipes: dict[After, _Recipe] = {}

    def emit(self, site: Site, after: After) -> Emitted:
        """Return the nodes that compute what the site becomes, of its input into its output."""
        recipe = self._recipes.get(after)
        if recipe is None or (recipe.has_constants and self._unit(site) != recipe.unit):
            recipe = self._recipes[after] = self._compiled(site, after.expr, after.parameters)
        if recipe.alone is not None and site.kind.unary:
            return recipe.alone
        value, output, fresh = site.input, site.output, self.names.fresh
        outputs: list[str] = []
        new: list[NewNode] = []
        for step, attributes in zip(recipe.steps[:-1], recipe.attributes, strict=False):
            name = fresh(f"{output}_{step.label}")
            new.append(NewNode(step.op, _inputs(step.operands, value, outputs), (name,), name, attributes, step.makes))
            outputs.append(name)
        last = recipe.steps[-1]
        replacement = NewNode(last.op, _inputs(last.operands, value, outputs), (), "", recipe.attributes[-1])
        return Emitted(tuple(new), replacement)

    def _unit(self, site: Site) -> bool:
        """Tell whether scalar constants have shape [1] here: where x is known to have a dimension."""
        return bool(site.kind.scope.shape(site.input))

    def _compiled(self, site: Site, expr: Expr, bound: Parameters) -> _Recipe:
        steps = _Compiler(site.scope.opset, site.dtype or "float32", bound, unit=False).run(expr)
        constants = any(isinstance(operand, np.ndarray) for step in steps for operand in step.operands)
        unit = constants and self._unit(site)
        if unit:
            steps = _Compiler(site.scope.opset, site.dtype or "float32", bound, unit=True).run(expr)
        named = tuple(step._replace(operands=self._named(site, step.operands)) for step in steps)
        attributes = tuple(map(_attributes, steps))
        in_place = len(named) == 1 and named[0].operands == (_X,)
        alone = Emitted((), NewNode(named[0].op, None, (), "", attributes[0])) if in_place else None
        return _Recipe(named, attributes, unit, constants, alone)

    def _named(self, site: Site, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        named = [self._operand(site, operand) for operand in operands]
        while named and isinstance(named[-1], str) and not named[-1]:
            named.pop()
        return tuple(named)

    def _operand(self, site: Site, operand: Any) -> Any:
        if isinstance(operand, np.ndarray):
            return self.constants.name(site, operand)
        if isinstance(operand, Reference):
            return self.constants.reference(site, operand.attribute)
        return operand


def _inputs(operands: tuple[Any, ...], value: str, outputs: list[str]) -> tuple[str, ...]:
    return tuple([o if o.__class__ is str else value if o is _X else outputs[o] for o in operands])


def _attributes(step: _Step) -> list[tuple[str, Any] | AttributeProto]:
    found: list[tuple[str, Any] | AttributeProto] = []
    for name, value in step.attributes:
        if isinstance(value, Reference):
            found.append(AttributeProto(name=name, type=AttributeProto.FLOAT, ref_attr_name=value.attribute))
        else:
            found.append((name, value))
    return found


class _Compiler:
    """Turns one term into steps; `unit`: scalar constants have shape [1], which is right where x has a dimension."""

    def __init__(self, opset: int, dtype: str, bound: Parameters, *, unit: bool) -> None:
        self.opset = opset
        self.dtype = dtype
        self.bound = bound
        self.unit = unit
        self.steps: list[_Step] = []
        self.done: dict[Expr, Any] = {}

    def run(self, expr: Expr) -> tuple[_Step, ...]:
        self.operand(expr)
        return tuple(self.steps)

    def operand(self, expr: Expr) -> Any:
        """Return what stands for `expr` among a node's inputs, adding the steps that compute it."""
        if expr not in self.done:
            self.done[expr] = self._make(expr)
        return self.done[expr]

    def _make(self, expr: Expr) -> Any:
        if isinstance(expr, Variable):
            return _X
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

    def _call(self, expr: Call) -> _Step:
        stated = schema.attributes(expr.op, self.opset)
        operands: list[Any] = []
        attributes: list[tuple[str, Any]] = []
        for name, arg in zip(PRIMITIVES[expr.op].operands, expr.args, strict=False):
            if name in stated:
                attributes += self._attribute(expr, name, arg)
            else:
                operand = "" if self._left_out(expr, arg) else self.operand(arg)
                operands.append(_without_dimensions(operand) if expr.op == "Clip" else operand)
        if expr.op == "Cast":
            attributes.append(("to", int(ELEM_TYPES[self.dtype])))
        makes: Makes = "truth" if expr.op in _CONDITIONS else "value" if varies(expr) else "parameter"
        return _Step(expr.op, tuple(operands), tuple(attributes), makes, expr.op.lower())

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


def attribute_obstacle(expr: Expr, bound: Parameters, opset: int, dtype: str) -> str:
    """Return why a parameter cannot be written where the op wants an attribute; empty where it can."""
    for call in walk(expr):
        if not isinstance(call, Call) or not varies(call):
            continue
        stated = schema.attributes(call.op, opset)
        for name, arg in zip(PRIMITIVES[call.op].operands, call.args, strict=False):
            if name in stated and not varies(arg):
                obstacle = _obstacle(call.op, name, arg, bound) or _rounding(call.op, name, arg, bound, dtype)
                if obstacle:
                    return obstacle
    return ""


def _obstacle(op: str, name: str, arg: Expr, bound: Parameters) -> str:
    values = [bound[parameter] for parameter in parameters(arg)]
    if any(isinstance(value, Dynamic) for value in values):
        return f"{op}'s {name} is an attribute, and the parameter is computed when the model runs"
    if any(isinstance(value, Reference) for value in values) and not isinstance(arg, Parameter):
        return f"{op}'s {name} is an attribute, and the parameter comes from the function's caller"
    return ""


def _rounding(op: str, name: str, arg: Expr, bound: Parameters, dtype: str) -> str:
    """Return which double an attribute, which is float32, cannot hold; empty for none."""
    values = known({parameter: bound[parameter] for parameter in parameters(arg)}) if dtype == "float64" else None
    for value in (values or {}).values():
        wide = np.asarray(value, np.float64)
        lost = wide[np.isfinite(wide) & (wide.astype(np.float32) != wide)]
        if lost.size:
            return f"{op}'s {name} is a float32 attribute, and {float(lost[0])!r} is no float32 number"
    return ""


def version_obstacle(site: Site, expr: Expr) -> str:
    """Return which op a function cannot be given; empty for none.

    Where a function imports another opset than the model, onnx.checker wants every op in it to be the same in both
    (onnx/checker.cc, check_model_local_functions).
    """
    mine, models = site.scope.opset, site.scope.view.main.opset
    if mine == models or not site.scope.root.is_function:
        return ""
    for op in sorted(ops(expr) | ({"Constant"} if _takes_constants(expr, mine) else set())):
        here, there = schema.schema(op, mine), schema.schema(op, models)
        if here is None or there is None or here.since_version != there.since_version:
            return f"the function imports opset {mine} and the model {models}, in which {op} is not the same"
    return ""


def _takes_constants(expr: Expr, opset: int) -> bool:
    calls = [call for call in walk(expr) if isinstance(call, Call) and varies(call)]
    return any(
        name not in schema.attributes(call.op, opset) and not varies(arg)
        for call in calls
        for name, arg in zip(PRIMITIVES[call.op].operands, call.args, strict=False)
    )


def reference_obstacle(expr: Expr, bound: Parameters, opset: int, dtype: str) -> str:
    """Return why a function's attribute cannot become an operand; empty where it can."""
    references = [value for name in parameters(expr) if isinstance(value := bound[name], Reference)]
    if not references:
        return ""
    if missing := [reference.attribute for reference in references if not reference.always]:
        return f"the parameter is attribute {missing[0]!r} of the function, which not every call of it states"
    if dtype != "float32":
        return f"the parameter is an attribute of the function, and only float32 can take its value, not {dtype}"
    if opset < _CONSTANT_BY_REFERENCE:
        return "the parameter is an attribute of the function, whose value a Constant can take from opset 12"
    return ""
