"""(before, after, sites that are the same) -> what else is not the same in the two models, whatever its names.

From every output back, through nodes that are the same: what these read or hold that is not the same, the constants
that have other values, and where nodes themselves are others, all those up to what both models compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import NodeProto

from onnxact.check.digests import ScopeDigests, Sites, is_identity, output_names, said
from onnxact.check.subject import Subject
from onnxact.model.scope import Scope
from onnxact.model.view import View

Place = tuple[Scope, int]
"""A node: its scope, and its position there."""


@dataclass(frozen=True)
class Touched:
    """A node that is the same in both models, but not what it reads, by position, or holds, by attribute."""

    places: tuple[Place, Place]
    inputs: frozenset[int]
    bodies: frozenset[str]


@dataclass(frozen=True)
class Changes:
    """`touched`: from the inputs on. `others`: the nodes of each model of which the other has no like."""

    touched: tuple[Touched, ...] = ()
    others: tuple[tuple[Place, ...], tuple[Place, ...]] = ((), ())


def changes(subjects: tuple[Subject, Subject], views: tuple[View, View], sites: tuple[Sites, Sites]) -> Changes:
    """Compare two models with the same outputs. `sites` are those of each model that stand for their inputs."""
    first, second = (
        ScopeDigests(view, subject.folder, own) for view, subject, own in zip(views, subjects, sites, strict=True)
    )
    walk = _Walk((first, second))
    walk.run()
    return Changes(tuple(walk.touched.values())[::-1], (tuple(walk.others[0].values()), tuple(walk.others[1].values())))


_Value = tuple[Scope, str]
_Pair = tuple[_Value, _Value]


class _Walk:
    """Follows both models from their outputs to their inputs at the same time."""

    def __init__(self, digests: tuple[ScopeDigests, ScopeDigests]) -> None:
        self.digests = digests
        self.touched: dict[tuple[str, int, str, int], Touched] = {}
        self.others: tuple[dict[tuple[str, int], Place], dict[tuple[str, int], Place]] = ({}, {})
        self.shared = digests[0].everything() & digests[1].everything()

    def run(self) -> None:
        """Find everything."""
        mains = tuple(item.view.main for item in self.digests)
        pending = list(_results(mains[0], mains[1]))
        seen: set[tuple[str, str, str, str]] = set()
        while pending:
            pair = pending.pop()
            key = (pair[0][0].path, pair[0][1], pair[1][0].path, pair[1][1])
            if key not in seen and self._differs(pair):
                seen.add(key)
                pending += self._behind(pair)

    def _differs(self, pair: _Pair) -> bool:
        first, second = (item.of(*value) for item, value in zip(self.digests, pair, strict=True))
        return first != second

    def _behind(self, pair: _Pair) -> list[_Pair]:
        """The values to compare next: those that like sites or like nodes read."""
        values = [_resolved(item, value) for item, value in zip(self.digests, pair, strict=True)]
        sites = [item.sites.get((scope.path, name)) for item, (scope, name) in zip(self.digests, values, strict=True)]
        if sites[0] is not None and sites[1] is not None and sites[0][1] == sites[1][1]:
            return [((values[0][0], sites[0][0]), (values[1][0], sites[1][0]))]
        places = [maker(*value) for value in values]
        if places[0] is not None and places[1] is not None and self._alike(places[0], places[1]):
            return list(self._through(places[0], places[1]))
        for side, value in enumerate(values):
            self._take(side, value)
        return []

    def _alike(self, first: Place, second: Place) -> bool:
        """Whether two nodes are the same but for what they read and hold."""
        one, other = (scope.nodes[index] for scope, index in (first, second))
        if one.op_type != other.op_type or [bool(name) for name in one.input] != [bool(name) for name in other.input]:
            return False
        if said(first[0], one) != said(second[0], other):
            return False
        bodies, others = _bodies(first), _bodies(second)
        functions = [item.function(node) for item, node in zip(self.digests, (one, other), strict=True)]
        inner = [*zip(bodies.values(), others.values(), strict=False), functions]
        counts = [[len(output_names(scope)) for scope in pair if scope is not None] for pair in inner]
        return bodies.keys() == others.keys() and all(len(set(count)) <= 1 and len(count) != 1 for count in counts)

    def _through(self, first: Place, second: Place) -> Iterator[_Pair]:
        one, other = (scope.nodes[index] for scope, index in (first, second))
        read = [((first[0], a), (second[0], b)) for a, b in zip(one.input, other.input, strict=True)]
        inputs = frozenset(at for at, pair in enumerate(read) if one.input[at] and self._differs(pair))
        held = {name: list(_results(body, _bodies(second)[name])) for name, body in _bodies(first).items()}
        bodies = frozenset(name for name, pairs in held.items() if any(map(self._differs, pairs)))
        key = (first[0].path, first[1], second[0].path, second[1])
        self.touched[key] = Touched((first, second), inputs, bodies)
        yield from (read[at] for at in inputs)
        yield from (pair for name in bodies for pair in held[name])
        functions = [item.function(node) for item, node in zip(self.digests, (one, other), strict=True)]
        if functions[0] is not None and functions[1] is not None:
            yield from _results(functions[0], functions[1])

    def _take(self, side: int, end: _Value) -> None:
        """All nodes that a value needs, with those in their bodies, up to values that both models compute."""
        pending, seen = [end], set()
        while pending:
            value = pending.pop()
            place = maker(*value)
            key = (value[0].path, value[1])
            if place is None or key in seen or self.digests[side].of(*value) in self.shared:
                continue
            seen.add(key)
            self._add(side, place)
            pending += ((place[0], name) for name in place[0].nodes[place[1]].input if name)
            pending += [(inner, name) for inner in self._below(side, place) for name in output_names(inner)]

    def _add(self, side: int, place: Place) -> None:
        self.others[side].setdefault((place[0].path, place[1]), place)

    def _below(self, side: int, place: Place) -> list[Scope]:
        function = self.digests[side].function(place[0].nodes[place[1]])
        return [*_bodies(place).values(), *([function] if function is not None else [])]


def maker(scope: Scope, name: str) -> Place | None:
    """The node that makes a value; None for one that is given."""
    owner = scope.owner(name)
    index = None if owner is None else owner.producers.get(name)
    return None if owner is None or index is None else (owner, index)


def _resolved(digests: ScopeDigests, value: _Value) -> _Value:
    """The value itself behind nodes that hand it on."""
    scope, name = value
    place = maker(scope, name)
    while place is not None and is_identity(_node(place)) and (place[0].path, name) not in digests.sites:
        scope, name = place[0], _node(place).input[0]
        place = maker(scope, name)
    return (place[0] if place is not None else scope), name


def _node(place: Place) -> NodeProto:
    return place[0].nodes[place[1]]


def _bodies(place: Place) -> Mapping[str, Scope]:
    scope, index = place
    if not scope.nodes[index].attribute:
        return {}
    return {attribute: body for (at, attribute), body in scope.children.items() if at == index}


def _results(first: Scope, second: Scope) -> Iterator[_Pair]:
    names = output_names(first), output_names(second)
    yield from (((first, one), (second, other)) for one, other in zip(*names, strict=False))
