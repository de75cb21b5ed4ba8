"""(site, what it becomes) -> an edit's body and names: write a form into a graph.

    Max(x, alpha * x), alpha = 0.2  ->  y_mul = Mul(onnxact_0.2, x);  y = Max(x, y_mul)

Each constant becomes an initializer, equal ones shared; in a local function, and below IR version 4, where an
initializer would have to be an input, a Constant node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto

from onnxact.model import schema
from onnxact.model.edit import Attribute, Body, BodyNode, NewConstant
from onnxact.model.naming import Names
from onnxact.rewrite.after import After
from onnxact.rewrite.compile import Step, X, steps_of
from onnxact.rewrite.site import Reference, Site
from onnxact.rewrite.target.layout import Writing

_IR_WITH_FREE_INITIALIZERS = 4


class Constants:
    """The constants of one plan; equal ones in the same scope are one."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._made: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}
        self.made: list[NewConstant] = []

    def name(self, site: Site, value: NDArray[Any], writing: Writing | None = None) -> str:
        """Return the name of a constant of this value that the site can use, written as a target has it."""
        shared, node, declared = (writing.shared, writing.nodes, writing.declared) if writing else (True, False, False)
        scope = site.scope
        key = (scope.path, value.dtype.str + value.dtype.name, value.shape, value.tobytes())
        if key not in self._made or not shared:
            wish = f"onnxact_{_short(value)}"
            as_node = node or scope.is_function or scope.view.model.ir_version < _IR_WITH_FREE_INITIALIZERS
            before = min(site.nodes) if as_node else None
            new = NewConstant(scope.path, self._names.fresh(wish), value, before, declared=declared)
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


class _Recipe(NamedTuple):
    """What sites of one kind in one scope share. The names of an edit: `constants`, x, the output + each ending."""

    body: Body
    constants: tuple[str, ...]
    endings: tuple[str, ...]
    unit: bool
    """Whether scalar constants have shape [1]; None of them do where there is no constant."""
    keeping: Body | None
    """Where one node that reads x alone takes the place of another: the same for every site, and needs no names."""


class Emitter:
    """Writes forms into one model. What sites of one kind share is worked out once."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.constants = Constants(names)
        self._recipes: dict[After, _Recipe] = {}

    def emit(self, site: Site, after: After) -> tuple[Body, list[str]]:
        """Return the body, and the names of what it reads (x last) and of what it makes; none where the inputs stay."""
        recipe = self._recipes.get(after)
        if recipe is None or (recipe.constants and not _fits(recipe, site, after)):
            recipe = self._recipes[after] = self._compiled(site, after)
        if recipe.keeping is not None and site.kind.unary:
            return recipe.keeping, []
        return recipe.body, [*recipe.constants, site.input, *self.names.fresh_all(site.output, recipe.endings)]

    def _compiled(self, site: Site, after: After) -> _Recipe:
        unit = _has_dimensions(site)
        opset, dtype, writing = site.scope.opset, site.dtype or "float32", after.writing
        steps = steps_of(after.expr, opset, dtype, after.parameters, unit=unit, writing=writing)
        steps = steps if after.around is None else after.around.wrapped(steps)
        named = [self._named(site, step.operands, writing) for step in steps]
        names = tuple(dict.fromkeys(operand for operands in named for operand in operands if isinstance(operand, str)))
        place: dict[Any, int] = {name: position for position, name in enumerate((*names, X))}
        nodes = [
            BodyNode(
                step.op,
                tuple(place[o] if o in place else len(place) + o for o in operands),
                _attributes(step),
                step.makes,
            )
            for step, operands in zip(steps, named, strict=True)
        ]
        keeping = Body((nodes[0]._replace(inputs=None),), 0) if len(nodes) == 1 and named[0] == (X,) else None
        endings = _distinct(f"_{step.label}" for step in steps[:-1])
        elsewhere = after.around is not None and bool(schema.plain(site.scope.nodes[site.root].domain))
        return _Recipe(Body(tuple(nodes), len(place), elsewhere), names, endings, unit, keeping)

    def _named(self, site: Site, operands: tuple[Any, ...], writing: Writing | None) -> tuple[Any, ...]:
        named = [self._operand(site, operand, writing) for operand in operands]
        while named and isinstance(named[-1], str) and not named[-1]:
            named.pop()
        return tuple(named)

    def _operand(self, site: Site, operand: Any, writing: Writing | None) -> Any:
        if isinstance(operand, np.ndarray):
            return self.constants.name(site, operand, writing)
        if isinstance(operand, Reference):
            return self.constants.reference(site, operand.attribute)
        return operand


def _distinct(endings: Iterable[str]) -> tuple[str, ...]:
    """Return the endings with what occurs again numbered, as `Names` would: _mul, _abs, _mul_2."""
    found: list[str] = []
    counts: Counter[str] = Counter()
    for ending in endings:
        counts[ending] += 1
        found.append(f"{ending}_{counts[ending]}" if counts[ending] > 1 else ending)
    return tuple(found)


def _fits(recipe: _Recipe, site: Site, after: After) -> bool:
    """Tell whether another site can be written by the recipe: its names are those of this scope, not of one site."""
    if after.around is not None or (after.writing is not None and not after.writing.shared):
        return False
    return after.writing is not None or _has_dimensions(site) == recipe.unit


def _has_dimensions(site: Site) -> bool:
    """Tell whether x is known to have a dimension, so that scalar constants can have shape [1]."""
    return bool(site.kind.scope.shape(site.input))


def _attributes(step: Step) -> list[Attribute]:
    found: list[Attribute] = []
    for attribute in step.attributes:
        if isinstance(attribute, AttributeProto):
            found.append(attribute)
            continue
        name, value = attribute
        if isinstance(value, Reference):
            found.append(AttributeProto(name=name, type=AttributeProto.FLOAT, ref_attr_name=value.attribute))
        else:
            found.append((name, value))
    return found
