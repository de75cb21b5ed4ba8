"""Calls of local functions -> the element types that each function is called with.

y = my.Act(x);  q = Mul(y, y);  z = my.Act(q)   with x of float32   ->   my.Act is called with float32 alone

What a call passes may come from another call of the same function, so the types are found as a fixed point: those that
are passed for certain first, then those that follow from them, until nothing is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnx import FunctionProto, NodeProto

from onnxact.model.schema import plain

if TYPE_CHECKING:
    from onnxact.model.scope import Scope
    from onnxact.model.view import View

PENDING = -1
"""The element type of a value that follows from one that is not found yet."""


class Calls:
    """The calls of a model's local functions, and what they pass."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._settled = False
        self._passed: dict[tuple[int, int], set[int]] = {}
        self._of: dict[int, list[tuple[Scope, NodeProto]]] = {id(s.graph): [] for s in view.functions.values()}
        for scope in view.scopes if view.functions else ():
            for node in scope.nodes:
                called = view.functions.get((plain(node.domain), node.op_type, node.overload))
                if called is not None:
                    self._of[id(called.graph)].append((scope, node))

    def of(self, function: FunctionProto) -> list[tuple[Scope, NodeProto]]:
        """Return every node that calls a function, with its scope."""
        return self._of.get(id(function), [])

    def uncalled(self, function: FunctionProto) -> FunctionProto | None:
        """Return the function that nothing calls where no call of this one is ever reached; None where one is."""
        pending, seen, last = [function], {id(function)}, function
        while pending:
            last = pending.pop()
            for scope, _ in self.of(last):
                caller = scope.root.graph
                if not isinstance(caller, FunctionProto):
                    return None
                if id(caller) not in seen:
                    seen.add(id(caller))
                    pending.append(caller)
        return last

    def argument_type(self, function: FunctionProto, position: int) -> int:
        """Return the element type that every call passes, 0 where they differ; PENDING while they are being found."""
        types = self.argument_types(function, position)
        if not types and not self._settled:
            return PENDING
        return next(iter(types)) if len(types) == 1 else 0

    def argument_types(self, function: FunctionProto, position: int) -> frozenset[int]:
        """Return the element types that calls pass, 0 among them where one is not known."""
        if not self._settled and not self._passed:
            self._settle()
        return frozenset(self._passed.get((id(function), position), ()))

    def _settle(self) -> None:
        """Find what is passed, in rounds; what a round worked out may be wrong by the next, and is forgotten."""
        self._passed = {(id(scope.graph), position): set() for scope in self._functions() for position in _range(scope)}
        growing = True
        while growing:
            self._forget()
            growing = self._grows()
        self._settled = True
        self._forget()

    def _functions(self) -> Iterator[Scope]:
        return iter(self._view.functions.values())

    def _grows(self) -> bool:
        before = sum(map(len, self._passed.values()))
        for scope in self._functions():
            for position in _range(scope):
                types = {_passed(*call, position) for call in self._of[id(scope.graph)]}
                self._passed[id(scope.graph), position] |= types - {PENDING}
        return sum(map(len, self._passed.values())) > before

    def _forget(self) -> None:
        for scope in self._view.scopes:
            scope.types.forget()


def _range(function: Scope) -> range:
    return range(len(function.inputs))


def _passed(scope: Scope, node: NodeProto, position: int) -> int:
    return scope.types.elem_type(node.input[position]) if position < len(node.input) else 0
