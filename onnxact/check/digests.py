"""(model, sites) -> a digest of every value in every scope: values with equal digests are computed in the same way.

Names do not count. A site that is the same on its own in both models has one digest in both, whatever its nodes are;
what enters a body or a local function is known by its place; a shape is known by the inputs that its tensor depends on,
since what is computed from those in another way mostly has the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from onnx import AttributeProto, FunctionProto, NodeProto

from onnxact.check.fingerprint import digest, tensor_digest
from onnxact.check.graph import constants
from onnxact.check.region import reads, topological
from onnxact.model.schema import plain, schema
from onnxact.model.scope import Scope
from onnxact.model.view import View

_MEASURES = frozenset({"Shape", "Size"})
Sites = Mapping[tuple[str, str], tuple[str, str]]
"""(scope path, output) -> the value that enters the site, and what tells the site from others in both models."""


class ScopeDigests:
    """One model. `folder` is where its external data lie."""

    def __init__(self, view: View, folder: Path | None, sites: Sites) -> None:
        self.view = view
        self.folder = folder
        self.sites = sites
        self._by_path: dict[str, dict[str, bytes]] = {}
        self._origins: dict[str, dict[str, frozenset[bytes]]] = {}
        self._fill(view.main, 0)

    def of(self, scope: Scope, name: str) -> bytes:
        """The digest of a value as a scope knows it; of one that nothing makes, its name."""
        return _looked_up(self._by_path, scope, name) or b"nothing makes " + name.encode()

    def everything(self) -> frozenset[bytes]:
        """The digests of all values."""
        return frozenset(found for known in self._by_path.values() for found in known.values())

    def function(self, node: NodeProto) -> Scope | None:
        """The local function that a node calls."""
        return self.view.functions.get((plain(node.domain), node.op_type, node.overload))

    def _fill(self, scope: Scope, depth: int) -> None:
        known = self._by_path[scope.path] = {
            name: digest(b"input", name.encode() if scope is self.view.main else b"%d %d" % (depth, position))
            for name, position in scope.inputs.items()
        }
        self._origins[scope.path] = {name: frozenset((known[name],)) for name in scope.inputs}
        known.update(self._stored(scope))
        for index in topological(scope.nodes, scope.producers):
            node = scope.nodes[index]
            if any(name and name not in known for name in node.output):
                self._add(scope, index, depth, known)

    def _stored(self, scope: Scope) -> Iterator[tuple[str, bytes]]:
        graph = scope.graph
        if isinstance(graph, FunctionProto):
            return
        yield from ((name, tensor_digest(item, self.folder, weights=True)) for name, item in constants(graph).items())
        for item in graph.sparse_initializer:
            yield item.values.name, digest(b"sparse", item.SerializeToString(deterministic=True))

    def _add(self, scope: Scope, index: int, depth: int, known: dict[str, bytes]) -> None:
        node = scope.nodes[index]
        whole = self._node(scope, index, depth)
        origins = self._origins_of(scope, reads(node))
        if node.op_type in _MEASURES and not plain(node.domain):
            whole = digest(said(scope, node), *sorted(origins))
        self._origins[scope.path].update((name, origins) for name in node.output)
        for position, name in enumerate(node.output):
            site = self.sites.get((scope.path, name))
            if site is not None:
                known[name] = digest(b"site", site[1].encode(), self.of(scope, site[0]))
            elif is_identity(node):
                known[name] = self.of(scope, node.input[0])
            elif name:
                known[name] = digest(whole, bytes([position % 256]))

    def _origins_of(self, scope: Scope, names: Iterator[str]) -> frozenset[bytes]:
        """The inputs of the model, or of the body or function, that values depend on."""
        found: frozenset[bytes] = frozenset()
        for name in names:
            more = _looked_up(self._origins, scope, name)
            found = found if more is None or more <= found else found | more
        return found

    def _node(self, scope: Scope, index: int, depth: int) -> bytes:
        node = scope.nodes[index]
        parts = [said(scope, node), *(self.of(scope, name) if name else b"" for name in node.input)]
        for (at, attribute), body in scope.children.items() if node.attribute else ():
            if at == index:
                self._fill(body, depth + 1)
                parts += [attribute.encode(), *self.results(body)]
        function = self.function(node)
        if function is not None:
            if function.path not in self._by_path:
                self._fill(function, 0)
            parts += self.results(function)
        return digest(*parts)

    def results(self, scope: Scope) -> list[bytes]:
        """The digests of what a body or function gives."""
        return [self.of(scope, name) for name in output_names(scope)]


_Found = TypeVar("_Found")


def _looked_up(tables: Mapping[str, Mapping[str, _Found]], scope: Scope, name: str) -> _Found | None:
    """What the tables by scope path say of a name, the innermost first."""
    level: Scope | None = scope
    while level is not None:
        found = tables.get(level.path, {}).get(name)
        if found is not None:
            return found
        level = level.parent
    return None


def said(scope: Scope, node: NodeProto) -> bytes:
    """All that a node says of its computation itself: its op, as of the version that counts, and its attributes."""
    domain = plain(node.domain)
    known = schema(node.op_type, scope.opset) if not domain else None
    version = known.since_version if known is not None else scope.opsets.get(domain, 0)
    return digest(node.op_type.encode(), domain.encode(), node.overload.encode(), b"%d" % version, *_attributes(node))


def output_names(scope: Scope) -> list[str]:
    """What a scope gives, in order."""
    graph = scope.graph
    return list(graph.output) if isinstance(graph, FunctionProto) else [value.name for value in graph.output]


def is_identity(node: NodeProto) -> bool:
    """Whether a node hands on its input as it is."""
    return node.op_type == "Identity" and not plain(node.domain)


def _attributes(node: NodeProto) -> list[bytes]:
    bodies = {AttributeProto.GRAPH, AttributeProto.GRAPHS}
    return sorted(_plain(item) for item in node.attribute if item.type not in bodies)


def _plain(item: AttributeProto) -> bytes:
    if not item.doc_string:
        return item.SerializeToString(deterministic=True)
    copied = AttributeProto()
    copied.CopyFrom(item)
    copied.ClearField("doc_string")
    return copied.SerializeToString(deterministic=True)
