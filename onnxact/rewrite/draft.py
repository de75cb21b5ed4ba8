"""Sites and what they become -> a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from onnx import NodeProto

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.model import provenance, schema
from onnxact.model.constants import PASSES_CONSTANTS
from onnxact.model.edit import Body, BodyNode, Edit, Plan, Restored, Skip
from onnxact.model.naming import Names
from onnxact.model.provenance import Provenance, Tree
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.emit import Emitter
from onnxact.rewrite.expansion import full_name
from onnxact.rewrite.obstacle import version_obstacle
from onnxact.rewrite.site import Kind, Parameters, Site, plain, storable


class Change(NamedTuple):
    """One site before and after."""

    site: Site
    after: After

    @property
    def activation(self) -> str:
        """The activation it becomes."""
        return self.after.activation

    @property
    def form(self) -> str:
        """The form in which it is written."""
        return self.after.form

    @property
    def parameters(self) -> Parameters:
        """The parameters it gets."""
        return self.after.parameters

    @property
    def exact(self) -> bool | None:
        """Whether the result has the same bits; None where the meaning changes."""
        return self.after.exact

    @property
    def note(self) -> str:
        """What a reader should know about the choice."""
        return self.after.note

    @property
    def warning(self) -> str:
        """What a reader must know; empty for nothing."""
        return self.after.warning

    @property
    def error(self) -> float:
        """How far the form is from the activation over the reals; 0 where it is the same function."""
        form = ACTIVATIONS[self.activation].forms.get(self.form.partition("[")[0])
        return form.error if form is not None else 0.0

    @property
    def is_elementwise(self) -> bool:
        """Whether from input to output it is the activation, before and after: a fused node computes more."""
        forms = ACTIVATIONS[self.activation].forms if self.activation == self.site.activation else None
        named = (self.site.form.partition("[")[0], self.form.partition("[")[0])
        return forms is None or all(form in forms for form in named)

    def describe(self) -> dict[str, Any]:
        """Return the change as plain data, as DESIGN's JSON schema has it."""
        before = self.site.describe()
        described = {key: before[key] for key in ("scope", "node", "input", "output", "dtype")}
        described["before"] = {key: before[key] for key in ("activation", "form", "params")}
        params = {name: plain(value) for name, value in self.parameters.items()}
        described["after"] = {"activation": self.activation, "form": self.form, "params": params}
        if self.exact is not None:
            described["exact"] = self.exact
        if self.note:
            described["note"] = self.note
        if self.after.warning:
            described["warning"] = self.after.warning
        return described


@dataclass(frozen=True)
class Draft:
    """What a verb decided: the plan for the model, and what each edit means in terms of activations."""

    plan: Plan
    sites: Sequence[Site]
    afters: Sequence[After]
    others: Sequence[Site] = ()
    """Fused nodes without an activation that are taken apart, or put together again."""
    left: Sequence[Skip] = ()
    """The skips of what a target cannot run."""
    looked_at: int = 0
    """For a target: how many activations are selected."""
    passed_over: int = 0
    """For a target: how many that it does not run, or of which nothing is known, are not selected."""
    remarks: Sequence[str] = ()
    """What else there is to say about the model and a target."""

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The edits as changes of activations, made when they are asked for."""
        return tuple(map(Change, self.sites, self.afters))


class _Alike(NamedTuple):
    """An edit that like sites share: its number, and its lists of roots and names, which grow."""

    number: int
    roots: list[int]
    names: list[Sequence[str]]


class Drafter:
    """Collects replacements and turns them into one plan. The view is only read."""

    def __init__(self, view: View) -> None:
        self.emitter = Emitter(Names(view))
        self.edits: list[Edit] = []
        self.sites: list[Site] = []
        self.afters: list[After] = []
        self.others: list[Site] = []
        self.skips: list[Skip] = []
        self._losing: list[tuple[int, Site]] = []
        """Sites that read something else than before and leave no record of what, with the number of their edit."""
        self._obstacles: dict[After, str] = {}
        self._alike: dict[tuple[Body, str | None], _Alike] = {}

    def skip(self, site: Site, reason: str) -> None:
        """Leave a site alone."""
        self.skips.append(Skip(site.scope.path, site.node, reason))

    def write(self, site: Site, after: After, metadata: str | None = None) -> None:
        """Replace the site's nodes by those that compute what it becomes, or skip it where they cannot stand there."""
        reason = self._obstacles.get(after)
        if reason is None:
            reason = self._obstacles[after] = version_obstacle(site, after.expr)
        if reason:
            self.skip(site, reason)
            return
        body, names = self.emitter.emit(site, after)
        alike = self._alike.get((body, metadata)) or self._begin(site, after, body, metadata)
        alike.roots.append(site.root)
        if names:
            site = Site(site.kind, site.root, site.inner, names[body.first - 1])
            alike.names.append(names)
            if not metadata:
                self._losing.append((alike.number, site))
        self._keep(site, after)

    def _begin(self, site: Site, after: After, body: Body, metadata: str | None) -> _Alike:
        """Add an edit without sites: for this one and, where nothing in it is this one's own, for those like it."""
        alike = _Alike(len(self.edits), [], [])
        edit = Edit(site.scope.path, alike.roots, body, alike.names, site.inner, (), metadata, bool(metadata))
        if after.writing is not None and after.writing.declared:
            edit = edit._replace(declared=site.scope.view.inferred(site.scope.path).get(site.output))
        elif not site.inner:
            self._alike[body, metadata] = alike
        self.edits.append(edit)
        return alike

    def restore(self, site: Site, after: After, before: Provenance) -> None:
        """Replace the site's nodes by those that stood there before, and drop its provenance."""
        op, tree = before.op, before.tree
        names = (site.input, *op.input) if tree is None else _reading(op.input, tree, site)
        root = BodyNode(op.op_type, tuple(range(len(names))), list(op.attribute), domain=schema.plain(op.domain))
        body, earlier = Body((root,), len(names)), provenance.text(op)
        self._losing.append((len(self.edits), site))
        edit = Edit(site.scope.path, [site.root], body, [names], site.inner, (), earlier)
        if tree is not None:
            inner = tuple(
                Restored(_node_again(n, tree, site), at) for n, at in zip(tree.nodes, tree.positions, strict=False)
            )
            edit = edit._replace(restored=inner, root_position=tree.positions[-1])
        self.edits.append(edit)
        self._keep(site, after)

    def _keep(self, site: Site, after: After) -> None:
        if after.activation:
            self.sites.append(site)
            self.afters.append(after)
        else:
            self.others.append(site)

    def finish(self, left: Sequence[Skip] = ()) -> Draft:
        """Return the draft. Constants that only replaced nodes read go with them, where nothing records the node."""
        if self._losing:
            self._drop_dead_constants()
        plan = Plan(tuple(self.edits), tuple(self.skips), tuple(self.emitter.constants.made))
        return Draft(plan, self.sites, self.afters, self.others, left)

    def _drop_dead_constants(self) -> None:
        """Name in each edit the constants that nothing reads any more, each once."""
        gone: dict[str, set[int]] = {}
        for _, site in self._losing:
            gone.setdefault(site.scope.path, set()).update(site.nodes)
        kept = {name for edit in self.edits for names in edit.names for name in names}
        kept.update(name for edit in self.edits for node, _ in edit.restored for name in node.input)
        seen: dict[str, set[str]] = {path: set() for path in gone}
        for number, site in self._losing:
            scope, path = site.scope, site.scope.path
            names = dict.fromkeys(n for index in site.nodes for n in scope.nodes[index].input)
            dead = [name for name in names if name not in seen[path] and _unread(scope, name, gone[path], kept)]
            ends = tuple(_with_origins(scope, dead, gone[path], seen[path], kept))
            if ends:
                edit = self.edits[number]
                self.edits[number] = edit._replace(dead_constants=(*edit.dead_constants, *ends))


def _unread(scope: Scope, name: str, nodes: set[int], kept: set[str]) -> bool:
    """Tell whether a name is a constant of this scope that no node outside `nodes` reads."""
    if not name or name in kept or name in scope.inputs or not scope.declares(name):
        return False
    index = scope.producers.get(name)
    made = index is not None and index not in nodes
    is_constant = name in scope.initializers or (made and _is_constant(scope, index or 0, name))
    return is_constant and all(reader in nodes for reader in scope.readers.get(name, ()))


def _is_constant(scope: Scope, index: int, name: str) -> bool:
    return scope.nodes[index].op_type == "Constant" or scope.constant(name) is not None


def _with_origins(scope: Scope, dead: list[str], nodes: set[int], seen: set[str], kept: set[str]) -> Iterable[str]:
    """Yield dead constants, and those that only they were made from (a Constant behind a Cast)."""
    pending = list(reversed(dead))
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        index = scope.producers.get(name)
        if index is not None and scope.nodes[index].op_type in PASSES_CONSTANTS:
            nodes.add(index)
            pending += [origin for origin in scope.nodes[index].input if _unread(scope, origin, nodes, kept)]


class Recorder:
    """Writes the provenance of sites that are about to be decomposed; equal nodes share a text."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, Kind], str] = {}

    def text(self, site: Site, form: str) -> str:
        """Return the metadata text for a site that becomes `form`."""
        node = site.scope.nodes[site.root]
        if site.inner or site.form != "op":
            return provenance.encode_tree(site.activation, form, node, _tree(site))
        if not site.kind.unary or node.metadata_props or (node.attribute and not site.kind.parameters):
            return provenance.encode(site.activation, form, node)
        key = (form, site.kind)
        if key not in self._texts:
            self._texts[key] = provenance.encode(site.activation, form, node)
        return self._texts[key]


def _tree(site: Site) -> Tree:
    nodes = tuple(site.scope.nodes[index] for index in site.inner)
    parameters = {name: storable(value) for name, value in site.parameters.items()}
    fused = site.form == full_name(site.scope.nodes[site.root])
    return Tree(site.form, "" if fused else site.input, nodes, (*site.inner, site.root), parameters)


def _reading(inputs: Iterable[str], tree: Tree, site: Site) -> tuple[str, ...]:
    """Return the inputs of a node with x under the name that it has now."""
    return tuple(site.input if name and name == tree.input else name for name in inputs)


def _node_again(node: NodeProto, tree: Tree, site: Site) -> NodeProto:
    if tree.input == site.input:
        return node
    again = NodeProto()
    again.CopyFrom(node)
    again.input[:] = _reading(node.input, tree, site)
    return again
