"""(function, module) -> the places in it where an activation is computed, or another function called that may do so.

Statements are gone through in order, so that the number of channels is known where the code alone tells it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn

from onnxact.torch.classes import Meaning
from onnxact.torch.editing import KEPT, Edit, input_of, span
from onnxact.torch.functionals import METHODS, NAMES, UNKNOWN, Functional, find_functional, meaning_of
from onnxact.torch.lookalikes import Lookalike, chooses_positive, is_zero, keeps_shape, masks_positive, maximum_of
from onnxact.torch.names import Bound, Names, bound_names
from onnxact.torch.source import Definition
from onnxact.torch.widths import NOTHING, Width, Widths

_INPUTS = ("input", "self")


class Slot(NamedTuple):
    """A submodule, or a function kept as an attribute, by where the module has it."""

    owner: nn.Module
    name: str


class Opaque(NamedTuple):
    """Compiled code or a gradient written by hand, into which no module can be put."""

    value: Any


class Place(NamedTuple):
    """An expression of a function, and what it stands for.

    A Meaning is an activation that is no attribute of a module, a Slot one that is, a function what can be rewritten in
    turn; a text says why an expression that looks like an activation cannot be told. `edit` is how something else can
    take its place, without its name. `width`: of the input. `arguments`: the widths of a called function's arguments.
    """

    what: Meaning | Slot | Bound | FunctionType | Opaque | Lookalike | str
    edit: Edit
    line: int
    text: str
    width: Width = NOTHING
    arguments: tuple[Width, ...] = ()


class Reader(ast.NodeVisitor):
    """Goes through one function; `places` is what it finds."""

    def __init__(self, names: Names, definition: Definition, widths: Mapping[str, Width]) -> None:
        self.names = names
        self.places: list[Place] = []
        self.hidden: frozenset[str] = frozenset()
        self.call: ast.Call | None = None
        self.widths = Widths(self._value, widths)
        for part in definition.body if isinstance(definition.body, list) else [definition.body]:
            self.visit(part)

    def visit(self, node: ast.AST) -> None:
        """Go through a node, unless it was left as it is on purpose."""
        if not hasattr(node, KEPT):
            super().visit(node)

    def _value(self, node: ast.expr) -> Any:
        return self.names.value(node, self.hidden)

    def _named(self, what: Any, node: ast.expr) -> None:
        """Note an expression that stands for something that can be called."""
        call = self.call if self.call is not None and self.call.func is node else None
        self._add(what, Edit(span(node), ""), node, tuple(map(self.widths.of, call.args)) if call else ())

    def _called(self, what: Any, node: ast.Call, how: Any = "call", *, method: bool = False) -> None:
        """Note a call of an activation."""
        inputs = [node.func.value] if method and isinstance(node.func, ast.Attribute) else node.args[:1]
        self._add(what, Edit(span(node), "", how, method), node.func, tuple(map(self.widths.of, inputs)))

    def _add(self, what: Any, edit: Edit, written: ast.expr, arguments: tuple[Width, ...]) -> None:
        if self.names.itself in self.hidden:
            what = f"it stands in a function that has a variable {self.names.itself} of its own"
        width = arguments[0] if arguments else NOTHING
        self.places.append(Place(what, edit, written.lineno, ast.unparse(written), width, arguments))

    # Statements

    def visit_Assign(self, node: ast.Assign) -> None:
        """Go through an assignment, and note what the variable holds."""
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Go through an assignment with a type."""
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            self.widths.forget(frozenset(n.id for n in ast.walk(target) if isinstance(n, ast.Name)))
        else:
            self.widths.assign(target, self.widths.of(value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """Go through `name := value`."""
        self.visit(node.value)
        self.widths.assign(node.target, self.widths.of(node.value))

    def visit_If(self, node: ast.If) -> None:
        """Go through both branches; what they leave different is not known afterwards."""
        self.visit(node.test)
        before = dict(self.widths.known)
        self._all(node.body)
        after, self.widths.known = self.widths.known, before
        self._all(node.orelse)
        self.widths.agree(after)

    def visit_For(self, node: ast.For | ast.AsyncFor | ast.While | ast.Try) -> None:
        """Go through statements that run any number of times, or not to their end."""
        changed = bound_names(node)
        if isinstance(node, (ast.For, ast.AsyncFor)):
            self.visit(node.iter)
        self.widths.forget(changed)
        skipped = (node.iter, node.target) if isinstance(node, (ast.For, ast.AsyncFor)) else ()
        for part in ast.iter_child_nodes(node):
            if part not in skipped:
                self.visit(part)
        self.widths.forget(changed)

    visit_AsyncFor = visit_While = visit_Try = visit_For  # noqa: N815 - names that ast.NodeVisitor gives

    def _all(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    # Inner scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        """Go through an inner function, whose own variables are its own."""
        hidden, known = self.hidden, dict(self.widths.known)
        inner = bound_names(node)
        self.hidden = hidden | inner
        self.widths.forget(inner)
        for part in ast.iter_child_nodes(node):
            self.visit(part)
        self.hidden, self.widths.known = hidden, known

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    # Expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        """Go through a comparison: what it compares, such as functions, is left alone."""
        for part in (node.left, *node.comparators):
            if self._value(part) is UNKNOWN:
                self.visit(part)

    def visit_Call(self, node: ast.Call) -> None:
        """Go through a call: arguments first, as they are worked out first."""
        function = self._value(node.func)
        if any(function is asking for asking in (isinstance, hasattr, type)):
            return
        if (made := meaning_of(self._value(node))) is not None:
            self._named(made, node)
            return
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(part)
        if self._maximum(node, function) or self._choice(node, function):
            return
        functional = find_functional(function)
        if self._in_container(node.func) and meaning_of(function) is not None:
            return
        if functional is not None and not (self._slot(node.func) and len(node.args) == 1 and not node.keywords):
            self._functional(functional, node, node.args[1:])
        elif function is UNKNOWN and isinstance(node.func, ast.Attribute) and self._is_tensor(node.func.value):
            self._method(node, node.func)
        else:
            outer, self.call = self.call, node
            self.visit(node.func)
            self.call = outer

    def _maximum(self, node: ast.Call, function: Any) -> bool:
        """Note torch.maximum(x, 0) and its like, which is ReLU."""
        operands = maximum_of(node, function)
        zero = next((at for at, operand in enumerate(operands) if is_zero(operand, self._value)), None)
        if zero is None:
            return False
        same = zero == 1 and keeps_shape(operands[1], operands[0], self._value)
        method = len(node.args) == 1
        what = Meaning("relu") if same else Lookalike("relu", "it is a maximum with 0; write torch.relu(x)")
        self._called(what, node, "guarded" if same else "call", method=method)
        return True

    def _choice(self, node: ast.Call, function: Any) -> bool:
        """Note torch.where(x > 0, x, 0)."""
        found = function is torch.where and chooses_positive(node, self._value)
        if found:
            self._called(Lookalike("relu", "it chooses x above 0, and 0 elsewhere; write torch.relu(x)"), node)
        return found

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Note x * (x > 0)."""
        self.generic_visit(node)
        if masks_positive(node, self._value):
            self._add(
                Lookalike("relu", "it is x where x > 0, and 0 elsewhere; write torch.relu(x)"),
                Edit(span(node), ""),
                node,
                (),
            )

    def _is_tensor(self, node: ast.expr) -> bool:
        value = self._value(node)
        return value is UNKNOWN or isinstance(value, torch.Tensor)

    def _method(self, node: ast.Call, function: ast.Attribute) -> None:
        """Note x.relu(); with more arguments than a tensor's method takes, it is another object's."""
        functional = METHODS.get(function.attr)
        order = [name for name in functional.arguments if name] if functional else []
        self.visit(function.value)
        if functional is not None and len(node.args) + len(node.keywords) <= len(order):
            self._functional(functional, node, node.args, method=True)
        elif function.attr in NAMES:
            self._called(f"only a run tells what {ast.unparse(function)} is", node)

    def _functional(self, called: Functional, node: ast.Call, given: list[ast.expr], *, method: bool = False) -> None:
        named = {str(keyword.arg): keyword.value for keyword in node.keywords}
        written_out = (method or input_of(node) is not None) and not any(isinstance(a, ast.Starred) for a in given)
        if not written_out or "None" in named:
            self._called("its arguments are not written out", node)
            return
        if "out" in named:
            self._called("it writes into out=", node)
            return
        written = called.written(given, {name: value for name, value in named.items() if name not in _INPUTS})
        if written is None:
            self._called("it is called with arguments that torch.nn's class does not have", node)
            return
        arguments = {name: self._value(value) for name, value in written.items()}
        in_place = arguments.pop("inplace", False)
        meaning = called.meaning(arguments, in_place=in_place is True)
        how = "guarded" if called.guarded else "flagged" if in_place is UNKNOWN else "call"
        self._called(meaning or "with these arguments it is no activation of the table", node, how, method=method)

    def visit_Attribute(self, node: ast.Attribute | ast.Name | ast.Subscript) -> None:
        """Note what a name stands for; where that is not known, what it is an attribute or item of."""
        value = self._value(node) if isinstance(node.ctx, ast.Load) else UNKNOWN
        slot = self._slot(node)
        meaning = meaning_of(value)
        if slot is not None:
            self._named(slot, node)
        elif meaning is None and isinstance(value, (Bound, FunctionType)):
            self._named(value, node)
        elif value is UNKNOWN and (opaque := self._opaque(node)) is not None:
            self._named(Opaque(opaque), node)
        elif value is UNKNOWN:
            self.generic_visit(node)
        elif isinstance(value, torch.jit.ScriptFunction):
            self._named(Opaque(value), node)
        elif meaning is not None and not self._in_container(node):
            self._named(meaning, node)

    visit_Name = visit_Subscript = visit_Attribute  # noqa: N815

    def _slot(self, node: ast.expr) -> Slot | None:
        """Return where a module has what an expression stands for, if that is a module or an activation's function."""
        if isinstance(node, ast.Subscript):
            owner, key = self._value(node.value), self._value(node.slice)
            if not isinstance(owner, nn.Module) or self._value(node) is UNKNOWN:
                return None
            return Slot(owner, list(owner._modules)[key] if isinstance(key, int) else str(key))
        if not isinstance(node, ast.Attribute):
            return None
        owner, name = self._value(node.value), self.names.mangled(node.attr)
        if not isinstance(owner, nn.Module):
            return None
        kept = name in vars(owner) and meaning_of(vars(owner)[name]) is not None
        return Slot(owner, name) if kept or owner._modules.get(name) is not None else None

    def _opaque(self, node: ast.expr) -> Any:
        """Return the class of a gradient written by hand, for the function that applies it."""
        owner = self._value(node.value) if isinstance(node, ast.Attribute) and node.attr == "apply" else None
        return owner if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) else None

    def _in_container(self, node: ast.expr) -> bool:
        """Tell whether it is an item of a list or dict that a module has, in which items are replaced."""
        return (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Attribute)
            and isinstance(self._value(node.value.value), nn.Module)
        )
