"""(graph before, graph after) -> which value of one is which value of the other.

In this order: the inputs and outputs of the models, which have equal names; values computed in the same way from the
inputs (by digest); equal names, where names can be trusted; layers with the same weights; the same structure with other
weights; the neighbours of what is aligned, through nodes of the same op.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxact.check.fingerprint import Digests, Indexed, op_of


@dataclass(frozen=True)
class Aligned:
    """A value before and after. `identical`: computed in the same way from the same inputs and weights."""

    before: str
    after: str
    identical: bool = False


@dataclass(frozen=True)
class Alignment:
    """The pairs in the topological order of `before`, and how many computed values have no counterpart."""

    pairs: tuple[Aligned, ...]
    unaligned: int

    def to_after(self) -> dict[str, str]:
        """Name before -> name after."""
        return {pair.before: pair.after for pair in self.pairs}

    def to_before(self) -> dict[str, str]:
        """Name after -> name before."""
        return {pair.after: pair.before for pair in self.pairs}


def align(before: Indexed, after: Indexed) -> Alignment:
    """Pair the values of two models with the same inputs and outputs; each value is in at most one pair."""
    pairing = _Pairing(before, after)
    pairing.by_outputs()
    exact = before.digests(weights=True), after.digests(weights=True)
    pairing.by_digest(exact, several=True)
    loose = before.digests(weights=False), after.digests(weights=False)
    if pairing.names_hold(loose):
        pairing.by_name()
    pairing.by_digest((before.layers(weights=True), after.layers(weights=True)), several=False)
    pairing.by_digest(loose, several=False)
    pairing.by_neighbours()
    pairing.by_digest((before.layers(weights=False), after.layers(weights=False)), several=False)
    pairing.by_neighbours()
    equal = {name for name, digest in exact[0].items() if exact[1].get(pairing.found.get(name, "")) == digest}
    pairs = [Aligned(name, pairing.found[name], name in equal) for name in before.computed if name in pairing.found]
    return Alignment(tuple(pairs), len(before.computed) + len(after.computed) - 2 * len(pairs))


class _Pairing:
    """What is paired so far: name before -> name after, and back."""

    def __init__(self, before: Indexed, after: Indexed) -> None:
        self.before, self.after = before, after
        self.found: dict[str, str] = {}
        self.back: dict[str, str] = {}
        for value in before.graph.input:
            if any(value.name == other.name for other in after.graph.input):
                self.add(value.name, value.name)

    def add(self, before: str, after: str) -> bool:
        """Pair two values of the same sort, if neither is paired."""
        if before in self.found or after in self.back or self._sort(before, 0) != self._sort(after, 1):
            return False
        self.found[before], self.back[after] = after, before
        return True

    def by_digest(self, digests: tuple[Digests, Digests], *, several: bool) -> None:
        """Values of one digest: of equal names first, then in order, or only where there is one on each side."""
        before, after = (_classes(digest, graph.computed) for digest, graph in zip(digests, self._graphs, strict=True))
        for digest, names in before.items():
            others = after.get(digest, [])
            open_names = [name for name in names if name not in self.found]
            open_others = [name for name in others if name not in self.back]
            if several:
                same = [name for name in open_names if name in open_others]
                rest = (name for name in open_others if name not in same)
                for name, other in [
                    *zip(same, same, strict=True),
                    *zip(_without(open_names, same), rest, strict=False),
                ]:
                    self.add(name, other)
            elif len(open_names) == len(open_others) == 1:
                self.add(open_names[0], open_others[0])

    def names_hold(self, loose: tuple[Digests, Digests]) -> bool:
        """Whether equal names mean equal values: for most of the values whose place in the structure is unmistakable.

        A model that was exported again has numbers for names, each of them meaning something else.
        """
        before, after = (_classes(digest, graph.computed) for digest, graph in zip(loose, self._graphs, strict=True))
        unique = {
            names[0]: after[digest][0]
            for digest, names in before.items()
            if len(names) == len(after.get(digest, ())) == 1
        }
        kept = sum(name == other for name, other in unique.items())
        return 2 * kept >= len(unique)

    def by_name(self) -> None:
        """Values of equal names that are made by the same op, or read by the same op in the same place."""
        names = set(self.after.computed)
        for name in self.before.computed:
            if name in names and self._alike(name):
                self.add(name, name)

    def by_outputs(self) -> None:
        """The outputs of the models."""
        names = {value.name for value in self.after.graph.output}
        for value in self.before.graph.output:
            if value.name in names:
                self.add(value.name, value.name)

    def by_neighbours(self) -> None:
        """From what is aligned to what the same op makes of it, or makes it from, until nothing is left."""
        pending = list(self.found.items())
        while pending:
            pair = pending.pop()
            for name, other in [*self._behind(*pair), *self._ahead(*pair)]:
                if self.add(name, other):
                    pending.append((name, other))

    @property
    def _graphs(self) -> tuple[Indexed, Indexed]:
        return self.before, self.after

    def _sort(self, name: str, side: int) -> str:
        graph = self._graphs[side]
        return "computed" if name in graph.made_by and name not in graph.constants else "given"

    def _alike(self, name: str) -> bool:
        makers = [graph.nodes[graph.made_by[name]] for graph in self._graphs]
        if op_of(makers[0]) == op_of(makers[1]):
            return True
        readers = [
            {(op_of(graph.nodes[index]), position) for index, position in graph.readers.get(name, ())}
            for graph in self._graphs
        ]
        is_output = all(name in {value.name for value in graph.graph.output} for graph in self._graphs)
        return is_output or bool(readers[0] & readers[1])

    def _behind(self, before: str, after: str) -> Iterator[tuple[str, str]]:
        """The inputs of the nodes that make two aligned values, if these are of one op."""
        if before in self.before.made_by and after in self.after.made_by:
            one = self.before.nodes[self.before.made_by[before]]
            other = self.after.nodes[self.after.made_by[after]]
            if op_of(one) == op_of(other) and len(one.input) == len(other.input):
                yield from zip(one.input, other.input, strict=True)

    def _ahead(self, before: str, after: str) -> Iterator[tuple[str, str]]:
        """The outputs of nodes that read two aligned values in the same place, where one such node is left of an op."""
        nodes = [self._open_readers(before, 0), self._open_readers(after, 1)]
        for key, indices in nodes[0].items():
            others = nodes[1].get(key, [])
            if len(indices) == len(others) == 1:
                one, other = self.before.nodes[indices[0]], self.after.nodes[others[0]]
                yield from zip(one.output, other.output, strict=False)

    def _open_readers(self, name: str, side: int) -> dict[tuple[str, int], list[int]]:
        graph, paired = self._graphs[side], (self.found, self.back)[side]
        found: dict[tuple[str, int], list[int]] = {}
        for index, position in graph.readers.get(name, ()):
            node = graph.nodes[index]
            if not all(output in paired for output in node.output):
                found.setdefault((op_of(node), position), []).append(index)
        return found


def _classes(digests: Digests, names: Sequence[str]) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {}
    for name in names:
        if name in digests:
            found.setdefault(digests[name], []).append(name)
    return found


def _without(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    return [name for name in names if name not in taken]
