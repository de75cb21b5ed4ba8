"""(definition, edits) -> the definition in which calls of activations are calls of attributes of the module.

F.relu(self.conv(x))          ->   self.leaky_relu(self.conv(x))
x.relu()                      ->   self.leaky_relu(x)
lengths.clamp(min=0)          ->   (lambda input: self.leaky_relu(input) if input.is_floating_point()
                                    else input.clamp(min=0))(lengths)
map(F.relu, features)         ->   map(self.leaky_relu, features)
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from onnxact.torch.source import Definition

Span: TypeAlias = tuple[str, int, int, int, int]
"""Which expression of a definition: its type, first line and column, last line and column."""
OWNER = "_onnxact_module"
"""The parameter through which a function that is no method is given the module."""
KEPT = "_onnxact_kept"
"""An attribute of expressions that were left as they are on purpose."""
_INPUT = "input"


@dataclass(frozen=True)
class Edit:
    """One expression, and the attribute of the module that takes its place.

    how: "name" puts the attribute itself there. "call" calls it with the input of the call that stood there. "guarded"
    does so if that input holds floating-point numbers. "flagged" does so and leaves the result in the input if the
    call's argument `inplace` is true. method: whether the input is the object whose method was called.
    """

    span: Span
    name: str
    how: Literal["name", "call", "guarded", "flagged"] = "name"
    method: bool = False


def span(node: ast.expr) -> Span:
    """Return where an expression stands."""
    return (type(node).__name__, node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)


def first_parameter(definition: Definition) -> str:
    """Return the name of the first positional parameter, "" for none."""
    arguments = [*definition.args.posonlyargs, *definition.args.args]
    return arguments[0].arg if arguments else ""


def input_of(call: ast.Call) -> ast.expr | None:
    """Return the input of a function's call: its first argument, or the one called input."""
    if call.args:
        return None if isinstance(call.args[0], ast.Starred) else call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg in ("input", "self")), None)


def edited(definition: Definition, passes: tuple[tuple[Edit, ...], ...], *, bound: bool) -> Definition:
    """Return a copy with all edits made, each pass on the result of the last.

    bound: whether the first parameter is the module; else one is added in front of all others.
    """
    tree = deepcopy(definition)
    if not bound:
        (tree.args.posonlyargs or tree.args.args).insert(0, ast.arg(OWNER))
    for edits in passes:
        editor = _Editor({edit.span: edit for edit in edits}, first_parameter(tree))
        tree = ast.fix_missing_locations(editor.visit(tree))
        if editor.open:
            raise AssertionError(f"nothing stands at {list(editor.open)}")
    return tree


class _Editor(ast.NodeTransformer):
    """Makes edits, those inside the inputs of others included."""

    def __init__(self, edits: Mapping[Span, Edit], owner: str) -> None:
        self.open = dict(edits)
        self.owner = owner

    def visit(self, node: ast.AST) -> Any:
        """Return what stands in the place of a node."""
        edit = self.open.pop(span(node), None) if isinstance(node, ast.expr) and not hasattr(node, KEPT) else None
        new = self.generic_visit(node)
        if edit is None or not isinstance(new, ast.expr):
            return new
        return ast.copy_location(_replacement(new, edit, self.owner), node)


def _replacement(node: ast.expr, edit: Edit, owner: str) -> ast.expr:
    attribute = ast.Attribute(_name(owner), edit.name, ast.Load())
    if edit.how == "name" or not isinstance(node, ast.Call):
        return attribute
    receiver = node.func.value if edit.method and isinstance(node.func, ast.Attribute) else None
    argument = receiver or input_of(node)
    assert argument is not None, ast.unparse(node)
    if edit.how == "call":
        return _called(attribute, argument)
    there = _called(attribute, _name(_INPUT))
    if edit.how == "guarded":
        floating = _called(ast.Attribute(_name(_INPUT), "is_floating_point", ast.Load()))
        body = ast.IfExp(floating, there, _kept(node, method=edit.method))
    else:
        body = ast.IfExp(_flag(node), _copied(attribute), there)
    parameter = ast.arguments(posonlyargs=[], args=[ast.arg(_INPUT)], kwonlyargs=[], kw_defaults=[], defaults=[])
    return _called(ast.Lambda(parameter, body), argument)


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _called(function: ast.expr, *arguments: ast.expr) -> ast.expr:
    return ast.Call(function, list(arguments), [])


def _kept(call: ast.Call, *, method: bool) -> ast.expr:
    """Return the call as it stood there, with the lambda's parameter for its input."""
    as_it_was = deepcopy(call)
    if method and isinstance(as_it_was.func, ast.Attribute):
        as_it_was.func.value = _name(_INPUT)
    elif as_it_was.args:
        as_it_was.args[0] = _name(_INPUT)
    else:
        as_it_was.keywords = [k for k in as_it_was.keywords if k.arg not in ("input", "self")]
        as_it_was.args = [_name(_INPUT)]
    for part in ast.walk(as_it_was):
        setattr(part, KEPT, True)
    return as_it_was


def _flag(call: ast.Call) -> ast.expr:
    """Return the argument `inplace`, which is the last one where it is not named."""
    return next((keyword.value for keyword in call.keywords if keyword.arg == "inplace"), call.args[-1])


def _copied(attribute: ast.expr) -> ast.expr:
    """Return input.copy_(attribute(input.clone())): the gradient of the attribute may need its input."""
    clone = _called(ast.Attribute(_name(_INPUT), "clone", ast.Load()))
    return _called(ast.Attribute(_name(_INPUT), "copy_", ast.Load()), _called(attribute, clone))
