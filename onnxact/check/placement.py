"""(session, sites) -> which provider executed which node, as ONNX Runtime says itself; by site.

ONNX Runtime tells by node name (1.24 and later: its assignment info; before: its profile of a run), so that the model
is given to it with every node named uniquely. Nodes that it makes itself have no name: casts, and the body of an op
for which the provider has no kernel.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from onnx import ModelProto

from onnxact.check.providers import short_name
from onnxact.check.region import between
from onnxact.check.site_evidence import SiteProbe
from onnxact.model.view import View

Counts = tuple[tuple[str, int], ...]
SIDES = ("before", "after")
_KERNEL_TIME = "_kernel_time"
_INLINED = "_inlfunc_"


class PlacedNode(NamedTuple):
    """A node by its name, which may be "", and its op. ONNX Runtime's own objects tell the same, slowly."""

    name: str
    op_type: str


Groups = Mapping[str, Sequence[PlacedNode]]
"""Short provider name -> the nodes that it was given."""


@dataclass(frozen=True)
class Placement:
    """(node name, op type, short provider name) of every node that a session runs; names may be ""."""

    nodes: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, groups: Groups) -> Placement:
        """What ONNX Runtime tells; it holds nothing of the session."""
        return cls(tuple((node.name, node.op_type, provider) for provider, nodes in groups.items() for node in nodes))

    @property
    def counts(self) -> Counts:
        """How many nodes each provider was given."""
        return tuple(sorted(Counter(provider for _, _, provider in self.nodes).items()))

    def ops(self, provider: str) -> dict[str, int]:
        """Op type -> how many nodes of it this provider was given."""
        return dict(sorted(Counter(op for _, op, given in self.nodes if given == provider).items()))


@dataclass(frozen=True)
class SitePlacement:
    """Where a site ran, with optimisation off: how many of its nodes on which provider, in both models.

    `provider` is the one asked for. `unclear` says what could not be found out; empty where all is known.
    """

    site: SiteProbe
    provider: str
    before: Counts = ()
    after: Counts = ()
    unclear: str = ""

    @property
    def fell_back(self) -> bool:
        """Whether a node of the site in `after` ran elsewhere."""
        return any(name != self.provider for name, _ in self.after)

    def __str__(self) -> str:
        return f"{self.site}: before {_text(self.before)}, after {_text(self.after)}"


def assigned(handle: Any) -> Groups | None:
    """What ONNX Runtime gave to which provider; None where it does not tell (before 1.24)."""
    if not hasattr(handle, "get_provider_graph_assignment_info"):
        return None
    groups: dict[str, list[PlacedNode]] = {}
    for part in handle.get_provider_graph_assignment_info():
        groups.setdefault(part.ep_name, []).extend(part.get_nodes())
    return {short_name(name): nodes for name, nodes in groups.items()}


def profiled(path: str | Path) -> Placement:
    """What ran where, from the profile that a session wrote (a JSON list of events)."""
    events = json.loads(Path(path).read_text(encoding="utf-8"))
    nodes = {
        (event["name"].removesuffix(_KERNEL_TIME), event["args"]["op_name"], short_name(event["args"]["provider"]))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME) and event["args"].get("provider")
    }
    return Placement(tuple(sorted(nodes)))


# Scope path -> the names of its nodes, in order.
NodeNames = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Whereabouts:
    """Where the nodes of a model ran, and the names by which they are looked up there."""

    placement: Placement
    names: NodeNames


def with_unique_names(model: ModelProto) -> tuple[ModelProto, NodeNames]:
    """A copy in which no two nodes share a name, and the names. Names that are unique stay."""
    copied = ModelProto()
    copied.CopyFrom(model)
    scopes = View(copied).scopes
    taken = Counter(node.name for scope in scopes for node in scope.nodes)
    names: dict[str, list[str]] = {}
    number = 0
    for path, nodes in [(scope.path, scope.nodes) for scope in scopes]:
        for node in nodes:
            while not node.name or taken[node.name] > 1:
                number += 1
                fresh = f"{node.op_type}_{number}_of_all"
                if fresh not in taken:
                    node.name = fresh
                    taken[fresh] = 1
        names[path] = [node.name for node in nodes]
    return copied, names


def place_sites(
    views: tuple[View, View],
    found: tuple[Whereabouts, Whereabouts],
    sites: Sequence[SiteProbe],
    provider: str,
) -> tuple[SitePlacement, ...]:
    """Each site with the providers that its nodes ran on, before and after."""
    lookups = [_Lookup(*what) for what in zip(views, SIDES, found, strict=True)]
    return tuple(_placed(probe, provider, lookups) for probe in sites)


def place_sites_on_cpu(views: tuple[View, View], sites: Sequence[SiteProbe]) -> tuple[SitePlacement, ...]:
    """The same for sessions that have no provider but the CPU: where a site's nodes are, they ran there."""
    lookups = [_Nodes(view, side) for view, side in zip(views, SIDES, strict=True)]
    placed = []
    for probe in sites:
        found = [lookup.of(probe) for lookup in lookups]
        before, after = ((("cpu", len(nodes)),) if nodes else () for nodes in found)
        unclear = next((lookup.missing(probe) for lookup, nodes in zip(lookups, found, strict=True) if not nodes), "")
        placed.append(SitePlacement(probe, "cpu", before, after, unclear))
    return tuple(placed)


class _Nodes:
    """Finds the nodes of a site in the model "before" or "after", by scope and position."""

    def __init__(self, view: View, side: str) -> None:
        self.side = side
        self.scopes = view.by_path
        self.owners = {
            body.path: (scope.path, index) for scope in view.scopes for (index, _), body in scope.children.items()
        }

    def of(self, probe: SiteProbe) -> list[int]:
        """The positions of the nodes from the site's input to its output; nothing where they are not there."""
        scope = self.scopes.get(probe.scope)
        entering, leaving = probe.names(self.side)
        return [] if scope is None else between(scope.nodes, scope.producers, {entering}, leaving)

    def missing(self, probe: SiteProbe) -> str:
        """Why nothing was found; "" where nothing is to be."""
        if probe.only_in not in {"", self.side}:
            return ""
        entering, leaving = probe.names(self.side)
        return f"no nodes lead from {entering!r} to {leaving!r} in the model {self.side}"


class _Lookup:
    """Finds the providers of a site's nodes."""

    def __init__(self, view: View, side: str, where: Whereabouts) -> None:
        self.nodes = _Nodes(view, side)
        self.names = where.names
        self.by_name = {name: provider for name, _, provider in where.placement.nodes if name}
        self.nameless = {provider for name, _, provider in where.placement.nodes if not name}
        self.all = {provider for _, _, provider in where.placement.nodes}

    def counts(self, probe: SiteProbe) -> tuple[Counts, str]:
        """The counts by provider, and what is unclear."""
        names = [self.names[probe.scope][index] for index in self.nodes.of(probe)]
        if not names:
            return (), self.nodes.missing(probe)
        found = [self._providers(name) or self._owners(probe.scope) for name in names]
        unclear = [name for name, providers in zip(names, found, strict=True) if not providers]
        counted = Counter(provider for providers in found for provider in providers)
        return tuple(sorted(counted.items())), _unclear(unclear, self.nameless)

    def _providers(self, name: str) -> Collection[str]:
        """Where a node ran: in a function once a call, under longer names; without its name if it was expanded.

        A profile has no node of this name where a provider compiled it together with others.
        """
        if name in self.by_name:
            return [self.by_name[name]]
        calls = [
            provider
            for full, provider in self.by_name.items()
            if full.startswith(_INLINED) and full.endswith(f"_{name}")
        ]
        return calls or next((places for places in (self.all, self.nameless) if len(places) == 1), ())

    def _owners(self, scope: str) -> Collection[str]:
        """Where the node ran that holds a body: a provider that takes it whole does not list what is inside."""
        while scope in self.nodes.owners:
            scope, index = self.nodes.owners[scope]
            found = self._providers(self.names[scope][index])
            if found:
                return found
        return ()


def _placed(probe: SiteProbe, provider: str, lookups: Sequence[_Lookup]) -> SitePlacement:
    (before, unclear_before), (after, unclear_after) = (lookup.counts(probe) for lookup in lookups)
    return SitePlacement(probe, provider, before, after, unclear_after or unclear_before)


def _unclear(names: Sequence[str], nameless: Collection[str]) -> str:
    if not names:
        return ""
    where = f"nodes without names, which ran on {', '.join(sorted(nameless))}" if nameless else "no node of that name"
    return f"where {', '.join(names)} ran cannot be told: ONNX Runtime has {where}"


def _text(counts: Counts) -> str:
    return ", ".join(f"{provider} {count}" for provider, count in counts) or "unknown"
