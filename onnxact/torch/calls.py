"""Plans what the code of modules becomes: calls of activations there are calls of new submodules.

A method is rewritten once, whoever calls it. A function that is no method becomes one, for each place that calls it
where the new activation learns.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FunctionType
from typing import Any

from torch import nn

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.torch import obstacles
from onnxact.torch.classes import Meaning
from onnxact.torch.editing import Edit
from onnxact.torch.functionals import names_of
from onnxact.torch.lookalikes import Lookalike
from onnxact.torch.names import Bound, Names, own_function
from onnxact.torch.places import Opaque, Place, Reader, Slot
from onnxact.torch.planning import New, Order, Plan, join, same
from onnxact.torch.reach import followed, may_activate, mentions
from onnxact.torch.report import Skip
from onnxact.torch.rewriting import (
    Method,
    definition_of,
    extended,
    innermost,
    method_of,
    methods_of,
    original_of,
    rewritten,
)
from onnxact.torch.source import Definition
from onnxact.torch.widths import Width


class Coder:
    """Reads the code of one module after the other; `finish` puts together what their classes become."""

    def __init__(self, order: Order, plan: Plan) -> None:
        self.tree, self.order, self.plan = plan.tree, order, plan
        self.names = names_of(order.source)
        self.read_ones: list[nn.Module] = []
        self.methods: dict[int, dict[str, Method]] = {}
        self.planned: dict[tuple[int, FunctionType], str] = {}
        """Functions that were planned for a module, with the name of the method that they become, "" for none."""
        self.trail: list[FunctionType] = []

    def read(self, module: nn.Module) -> None:
        """Plan what forward becomes, with all that it calls."""
        function = own_function(module, "forward")
        if function is None or not followed(function):
            return
        self.read_ones.append(module)
        if "forward" in vars(module):
            self._skip_if_mentioned(module, function, "its forward was replaced on this one object")
        else:
            self._method(module, "forward", function, ())

    def finish(self) -> None:
        """Plan the classes, and note what was not reached."""
        for module in self.read_ones:
            for name, function in _methods(module):
                if (id(module), function) not in self.planned and mentions(function, self.names):
                    self._note(module, function, f"forward does not call {name}", bound=True)
            for reason, function, bound in _around(module):
                if mentions(function, self.names):
                    self._note(module, function, reason, bound=bound)
        for module in self.tree.modules:
            if methods := self.methods.get(id(module)):
                self._derive(module, methods)

    def _derive(self, module: nn.Module, methods: dict[str, Method]) -> None:
        kind: Any = type(module)
        merged = {method.name: method for method in methods_of(kind)} | methods
        try:
            self.plan.classes.append((module, rewritten(original_of(kind), tuple(merged.values()))))
        except TypeError as error:  # __init_subclass__ or a metaclass wants more than a name and bases
            for new in [new for new in self.plan.new.values() if new.owner is module and new.function]:
                del self.plan.new[id(module), new.name]
                reason = f"no class can be derived from {kind.__name__}: {error}"
                self.plan.skips.append(
                    Skip(self.tree.path(module), new.written, reason, new.function, new.file, new.line)
                )

    # Functions

    def _method(self, module: nn.Module, name: str, function: FunctionType, arguments: Sequence[Width]) -> None:
        """Plan a method that keeps its name."""
        if (id(module), function) in self.planned:
            return
        self.planned[id(module), function] = name
        if edits := self._function(module, function, True, arguments):
            self.methods.setdefault(id(module), {})[name] = extended(name, function, edits, bound=True)

    def _function(
        self, module: nn.Module, function: FunctionType, bound: bool, arguments: Sequence[Width]
    ) -> tuple[Edit, ...]:
        """Return the edits of a function, having planned the submodules and methods that they name."""
        definition = definition_of(function)
        if isinstance(definition, str):
            self._skip_if_mentioned(module, function, definition)
            return ()
        names = Names(function, definition, module if bound else None)
        if bound and not names.itself:
            self._skip_if_mentioned(module, function, "its first parameter is assigned to")
            return ()
        reader = Reader(names, definition, _parameters(definition, arguments, bound=bound))
        self.trail.append(function)
        edits = [self._place(module, function, place) for place in reader.places]
        self.trail.pop()
        return tuple(edit for edit in edits if edit is not None)

    def _place(self, module: nn.Module, function: FunctionType, place: Place) -> Edit | None:
        """Return the edit of one place, None where it stays."""
        match place.what:
            case str() | Lookalike() | Opaque():
                if reason := self._reason(place):
                    self._skip(module, function, place, reason)
                return None
            case Meaning() as meaning:
                return self._site(module, function, place, meaning)
            case Slot() as slot:
                return self._slot(module, function, place, slot)
            case Bound() as called:
                return self._bound(module, function, place, called)
            case FunctionType() as helper:
                return self._helper(module, function, place, helper)
        raise AssertionError(place)

    def _reason(self, place: Place) -> str:
        """Return why a place that cannot be swapped is to be listed, "" where it has nothing of the activation."""
        match place.what:
            case Lookalike(activation, reason):
                return reason if activation == self.order.source else ""
            case Opaque(value):
                return obstacles.hidden_in(value, self.order.source)
            case str() as reason:
                return reason if place.text.removesuffix(".default").rpartition(".")[2] in self.names else ""
        raise AssertionError(place)

    def _site(self, module: nn.Module, function: FunctionType, place: Place, meaning: Meaning) -> Edit | None:
        source, reason = self.order.source, ""
        if meaning.activation == "clip" and len(meaning.parameters) < 2 and source in ("relu", "relu6"):
            reason = "its bounds are only known when it runs"
        elif meaning.activation != source:
            return None
        if reason := reason or same(self.order, meaning) or obstacles.parametrised(module):
            self._skip(module, function, place, reason)
            return None
        return self._new(module, function, place, New(module, self.order.target.activation, "", meaning, place.text))

    def _slot(self, module: nn.Module, function: FunctionType, place: Place, slot: Slot) -> Edit | None:
        """Plan a submodule of its own for each further place that calls one that is to learn."""
        planned = self.plan.new.get((id(slot.owner), slot.name))
        if planned is None or not self.order.target.learns:
            return None
        planned.calls += 1
        if planned.calls == 1:
            planned.width = place.width if planned.width.channels is None else planned.width
            return None
        new = New(module, slot.name, "", planned.before, planned.written, planned.replaces)
        return self._new(module, function, place, new)

    def _new(self, module: nn.Module, function: FunctionType, place: Place, new: New) -> Edit | None:
        new.name = self.tree.free(module, new.name)
        new.path = join(self.tree.path(module), new.name)
        new.function, new.file = _written(function)
        if not self.order.takes(new.path, new.function):
            self.plan.left.add((new.file, place.line))
            return None
        new.line, new.width, new.calls = place.line, place.width, 1
        self.plan.add(new)
        return replace(place.edit, name=new.name)

    def _bound(self, module: nn.Module, function: FunctionType, place: Place, called: Bound) -> Edit | None:
        """Plan a method that is called: under its own name, or where super() calls it, under another."""
        base: type[nn.Module] = getattr(nn, ACTIVATIONS[self.order.source].torch)
        if called.function is base.forward and isinstance(called.module, base):
            self._skip(module, function, place, f"{type(module).__name__} adds to torch.nn.{base.__name__}")
        if not followed(called.function) or not self.tree.has(called.module):
            return None
        if own_function(called.module, called.name) is called.function:
            self._method(called.module, called.name, called.function, place.arguments)
            return None
        name = f"{called.name}_of_{_class_name(called.function)}"
        return self._copy(module, place, called.function, name, bound=True)

    def _helper(self, module: nn.Module, function: FunctionType, place: Place, called: FunctionType) -> Edit | None:
        """Plan a method made of a function that is none."""
        if not followed(called) or not may_activate(called):
            return None
        if called in self.trail:
            self._skip_if_mentioned(module, called, f"{function.__qualname__} calls it again from inside it")
            return None
        name = called.__name__ if called.__name__.isidentifier() else "function"
        return self._copy(module, place, called, name, bound=False)

    def _copy(self, module: nn.Module, place: Place, called: FunctionType, base: str, *, bound: bool) -> Edit | None:
        key = (id(module), called)
        if key not in self.planned or (self.order.target.learns and not bound):
            self.planned[key] = ""
            if edits := self._function(module, called, bound, place.arguments):
                self.planned[key] = name = self.tree.free(module, base)
                self.methods.setdefault(id(module), {})[name] = extended(name, called, edits, bound=bound)
        return replace(place.edit, name=self.planned[key]) if self.planned[key] else None

    # What stays

    def _skip(self, module: nn.Module, function: FunctionType, place: Place, reason: str) -> None:
        qualified, file = _written(function)
        path = self.tree.path(module)
        self.plan.left.add((file, place.line))
        if self.order.takes(path, qualified):
            self.plan.skips.append(Skip(path, place.text, reason, qualified, file, place.line))

    def _skip_if_mentioned(self, module: nn.Module, function: FunctionType, reason: str) -> None:
        qualified, file = _written(function)
        path = self.tree.path(module)
        if mentions(function, self.names) and self.order.takes(path, qualified):
            line = innermost(function).__code__.co_firstlineno
            self.plan.skips.append(Skip(path, function.__name__, reason, qualified, file, line))

    def _note(self, module: nn.Module, function: FunctionType, reason: str, *, bound: bool) -> None:
        """Note the activations in a function that nothing which is rewritten calls."""
        definition = definition_of(function)
        if isinstance(definition, str):
            return
        for place in Reader(Names(function, definition, module if bound else None), definition, {}).places:
            if isinstance(place.what, Meaning) and place.what.activation == self.order.source:
                self._skip(module, function, place, reason)


def _methods(module: nn.Module) -> list[tuple[str, FunctionType]]:
    """Return the methods of a module's class that are written for it, without those with a meaning for Python."""
    names = [name for name in dir(type(module)) if not name.startswith("__")]
    found = ((name, inspect.getattr_static(type(module), name)) for name in names)
    return [(name, value) for name, value in found if isinstance(value, FunctionType) and followed(value)]


def _around(module: nn.Module) -> Iterator[tuple[str, FunctionType, bool]]:
    """Yield what PyTorch or Python runs around forward: hooks, properties, a __call__; and whether it is a method."""
    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        if isinstance(hook, FunctionType):
            yield "it is in a hook, which is no part of forward; call it there", hook, False
    for name in dir(type(module)):
        value = inspect.getattr_static(type(module), name, None)
        function = value.fget if isinstance(value, property) else value if name == "__call__" else None
        if isinstance(function, FunctionType) and followed(function):
            what = "a property" if isinstance(value, property) else "__call__"
            yield f"it is in {what}, which is not rewritten; call it in forward", function, True


def _parameters(definition: Definition, arguments: Sequence[Width], *, bound: bool) -> dict[str, Width]:
    names = [argument.arg for argument in (*definition.args.posonlyargs, *definition.args.args)]
    return dict(zip(names[1:] if bound else names, arguments, strict=False))


def _written(function: FunctionType) -> tuple[str, str]:
    """Return the qualified name of a function and its file, as it was written."""
    method = method_of(function)
    plain = innermost(method.function if method else function)
    return plain.__qualname__, plain.__code__.co_filename


def _class_name(function: FunctionType) -> str:
    return innermost(function).__qualname__.rpartition(".")[0].rpartition(".")[2] or "super"
