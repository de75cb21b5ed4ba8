"""(before, after, sites) -> whether two models are the same but for the nodes of those sites, or where they are not.

From every output back: the same nodes with the same attributes and constants, whatever their values are called; a site
stands for its input. Where that holds, the models are the same function if every site is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import AttributeProto, FunctionProto, NodeProto, SparseTensorProto, TensorProto

from onnxact.check.graph import constants
from onnxact.check.placing import computed_names
from onnxact.check.scopes import Stored
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.subject import Subject
from onnxact.check.weights import value_of
from onnxact.model.schema import plain
from onnxact.model.scope import Scope
from onnxact.model.view import View, subgraphs


@dataclass(frozen=True)
class Surroundings:
    """What is not the same outside the sites: the first thing in the structure, or constants, by their names before and
    after, where that is the same.
    """

    structure: str = ""
    constants: tuple[tuple[str, str], ...] = ()

    @property
    def difference(self) -> str:
        """The first difference in words; "" where there is none."""
        return self.structure or (f"the constant {self.constants[0][0]!r} is another one" if self.constants else "")


class DifferentError(Exception):
    """The first thing in the structure that is not the same, in words."""


def surroundings(
    before: Subject, after: Subject, views: tuple[View, View], sites: Sequence[SiteProbe], paths: Mapping[str, str]
) -> Surroundings:
    """Compare two models outside the sites.

    paths: scope path before -> scope path after. Names and documentation of nodes do not count, nor do names of values
    other than the inputs and outputs of the models, the order in which nodes stand, or what no output depends on.
    """
    if views[0] is views[1]:
        return Surroundings()
    walk = _Walk((before, after), views, sites, paths)
    try:
        walk.run()
    except DifferentError as found:
        return Surroundings(str(found))
    return Surroundings("", tuple(walk.differing))


class _Walk:
    """Follows both models from their outputs to their inputs at the same time."""

    def __init__(
        self,
        subjects: tuple[Subject, Subject],
        views: tuple[View, View],
        sites: Sequence[SiteProbe],
        paths: Mapping[str, str],
    ) -> None:
        self.subjects = subjects
        self.views = views
        self.paths = paths
        self.sites = {(probe.scope, probe.output): probe for probe in sites if not probe.only_in}
        self.seen: dict[tuple[str, str], str] = {}
        self.pending: list[tuple[Scope, Scope, str, str]] = []
        self.constants: dict[str, tuple[Mapping[str, Stored], Mapping[str, Stored]]] = {}
        self.differing: list[tuple[str, str]] = []

    def run(self) -> None:
        """Raise DifferentError at the first difference."""
        versions = [{k: v for k, v in view.main.opsets.items() if k in self._domains(view)} for view in self.views]
        _demand(versions[0] == versions[1], f"the operator sets are {versions[0]} before, {versions[1]} after")
        self._enter(*(view.main for view in self.views))
        while self.pending:
            self._value(*self.pending.pop())

    @staticmethod
    def _domains(view: View) -> set[str]:
        return {plain(node.domain) for scope in view.scopes for node in scope.nodes}

    def _enter(self, before: Scope, after: Scope) -> None:
        """Take up the outputs of a scope, once, after its inputs."""
        if (before.path, "") in self.seen:
            return
        self.seen[before.path, ""] = ""
        where = f" of {before.path}" if before.path else ""
        _demand(_given(before) == _given(after), f"the inputs{where} are not the same")
        outputs = [_output_names(scope) for scope in (before, after)]
        same = len(outputs[0]) == len(outputs[1]) and (bool(before.path) or outputs[0] == outputs[1])
        _demand(same, f"the outputs{where} are not the same")
        self.pending.extend((before, after, *names) for names in zip(*outputs, strict=True))

    def _value(self, before: Scope, after: Scope, name: str, other: str) -> None:
        first, second = before.owner(name), after.owner(other)
        if first is None or second is None:
            _demand(first is second and name == other, f"{name!r} is in one model only")
            return
        if (first.path, name) in self.seen:
            known = self.seen[first.path, name]
            if known != other:
                raise DifferentError(f"{name!r} is {known!r} after, and {other!r} as well")
            return
        self.seen[first.path, name] = other
        if (self.paths.get(first.path, "") if first.path else "") != second.path:
            raise DifferentError(f"{name!r} is in {first.path!r} before, in {second.path!r} after")
        probe = self.sites.get((first.path, name))
        if probe is not None and probe.names("after")[1] == other:
            self.pending.append((first, second, probe.input, probe.names("after")[0]))
            operands = computed_names(probe.before), computed_names(probe.after)
            if len(operands[0]) != len(operands[1]):
                raise DifferentError(f"a parameter of {probe} is computed in one model only")
            self.pending.extend((first, second, *names) for names in zip(*operands, strict=True))
            return
        stored = self._constants(first, second)
        ours, theirs = stored[0].get(name), stored[1].get(other)
        if ours is not None or theirs is not None:
            self._constant((name, other), ours, theirs)
        elif name in first.producers and other in second.producers:
            self._nodes(first, second, name, other)
        else:
            given = name in first.inputs and other in second.inputs
            _demand(given, f"{name!r} is computed in one model, given in the other")
            same = first.inputs[name] == second.inputs[other] if first.path else name == other
            _demand(same, f"{name!r} before is {other!r} after, which is another input")

    def _constants(self, first: Scope, second: Scope) -> tuple[Mapping[str, Stored], Mapping[str, Stored]]:
        if first.path not in self.constants:
            self.constants[first.path] = _stored(first), _stored(second)
        return self.constants[first.path]

    def _constant(self, names: tuple[str, str], first: Stored | None, second: Stored | None) -> None:
        if first is None or second is None:
            raise DifferentError(f"{names[0]!r} is a constant in one model only")
        folders = [subject.folder for subject in self.subjects]
        if first == second and not (_is_external(first) and folders[0] != folders[1]):
            return
        values = [_bits(item, folder) for item, folder in zip((first, second), folders, strict=True)]
        if values[0] is None or values[0] != values[1]:
            self.differing.append(names)

    def _nodes(self, first: Scope, second: Scope, name: str, other_name: str) -> None:
        indices = first.producers[name], second.producers[other_name]
        one, other = first.nodes[indices[0]], second.nodes[indices[1]]
        made = list(one.output).index(name) == list(other.output).index(other_name)
        if not (made and (one == other or _said(one) == _said(other))):
            raise DifferentError(f"the node that makes {name!r} is not the same ({one.op_type})")
        self.seen.update(((first.path, name), other) for name, other in zip(one.output, other.output, strict=True))
        read = zip(one.input, other.input, strict=True)
        self.pending.extend((first, second, name, other) for name, other in read if name)
        for attribute, _ in subgraphs(one):
            self._enter(first.children[indices[0], attribute], second.children[indices[1], attribute])
        key = (plain(one.domain), one.op_type, one.overload)
        ours, theirs = (view.functions.get(key) for view in self.views)
        if ours is not None and theirs is not None:
            self._enter(ours, theirs)
        else:
            _demand(ours is theirs, f"{one.op_type} is a function in one model only")


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DifferentError(otherwise)


def _given(scope: Scope) -> list[str]:
    """How many inputs a body or function has, and a function's attributes with their defaults; the inputs of the main
    graph are compared before.
    """
    graph = scope.graph
    count = str(len(scope.inputs))
    if isinstance(graph, FunctionProto):
        return [count, *graph.attribute, *(str(default) for default in graph.attribute_proto)]
    return [count] if scope.parent is not None else []


def _output_names(scope: Scope) -> list[str]:
    graph = scope.graph
    return list(graph.output) if isinstance(graph, FunctionProto) else [value.name for value in graph.output]


def _stored(scope: Scope) -> dict[str, Stored]:
    """Every constant of a scope by name, also those that a caller can override."""
    graph = scope.graph
    if isinstance(graph, FunctionProto):
        return {}
    return {**constants(graph), **{sparse.values.name: sparse for sparse in graph.sparse_initializer}}


def _said(node: NodeProto) -> tuple[object, ...]:
    """All that a node says of its computation but the names of values; of its bodies, which it has."""
    attributes = sorted(
        attribute.SerializeToString(deterministic=True)
        for attribute in node.attribute
        if attribute.type not in {AttributeProto.GRAPH, AttributeProto.GRAPHS}
    )
    bodies = tuple(name for name, _ in subgraphs(node))
    return node.op_type, plain(node.domain), node.overload, *_filled(node), *attributes, bodies


def _filled(node: NodeProto) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which of its inputs and outputs are not left out."""
    return tuple(map(bool, node.input)), tuple(map(bool, node.output))


def _is_external(stored: Stored | None) -> bool:
    return isinstance(stored, TensorProto) and stored.data_location == TensorProto.EXTERNAL


def _bits(stored: Stored | None, folder: Path | None) -> tuple[object, ...] | None:
    """Type, shape and bytes of a constant; None where they cannot be read."""
    if stored is None or isinstance(stored, SparseTensorProto):
        return None
    array = value_of(stored, folder)
    return None if array is None else (stored.data_type, array.shape, np.ascontiguousarray(array).tobytes())
