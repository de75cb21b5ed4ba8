"""(model, sites) -> every computation of each site, functions inlined: where it stands, and the names of its values.

site x -> y in function F, called twice   ->   x__1 -> y__1 and x__2 -> y__2 in the graph of the caller
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, helper, inliner

from onnxact.check.graph import subgraphs
from onnxact.check.providers import first_line
from onnxact.check.scopes import Chain, Level
from onnxact.check.site_evidence import Computed, Meaning, SiteProbe
from onnxact.check.subject import Subject
from onnxact.model.view import View

MARKER = "onnxact.site"
"""The domain of the nodes that mark where a site is, while functions are inlined."""


@dataclass(frozen=True)
class Instance:
    """One computation of a site: a site in a function has one for each call.

    `names` are those of the value that enters, the value that leaves, and of parameters that the model computes, as
    they are known in `chain`.
    """

    chain: Chain
    names: tuple[str, ...]

    @property
    def in_main_graph(self) -> bool:
        """Whether its values are values of the main graph."""
        return len(self.chain.levels) == 1


@dataclass(frozen=True)
class Placed:
    """The computations of every site in one model, or why they cannot be found.

    `marked` is the model with functions inlined and a marker in each place of the sites in `numbered`, the initializers
    of its main graph left out; None where every site is in the main graph.
    """

    subject: Subject
    instances: Mapping[SiteProbe, tuple[Instance, ...]]
    problems: Mapping[SiteProbe, str]
    marked: ModelProto | None = None
    numbered: tuple[SiteProbe, ...] = ()


def place(subject: Subject, sites: Sequence[SiteProbe], paths: Mapping[str, str], side: str) -> Placed:
    """Find the sites in one model. `paths`: scope path of a site -> its path in this model.

    `side` is "before" or "after", and says which meaning of a site counts here. A site in a function that nothing
    calls has no computation.
    """
    main = Level(subject.model.graph, scope=subject.view.main)
    found: dict[SiteProbe, tuple[Instance, ...]] = {}
    problems: dict[SiteProbe, str] = {}
    scoped: list[SiteProbe] = []
    for probe in sites:
        path = "" if not probe.scope else paths.get(probe.scope)
        if path is None:
            problems[probe] = f"there is no scope {probe.scope!r}"
        elif path:
            scoped.append(probe)
        elif missing := [name for name in _names(probe, side) if not main.declares(name)]:
            problems[probe] = f"the model has no value {missing[0]!r}"
        else:
            found[probe] = (Instance(Chain((main,)), _names(probe, side)),)
    if not scoped:
        return Placed(subject, found, problems)
    return _with_scoped(Placed(subject, found, problems), scoped, paths, side)


def _names(probe: SiteProbe, side: str) -> tuple[str, ...]:
    own, other = (probe.before, probe.after) if side == "before" else (probe.after, probe.before)
    return (*probe.names(side), *computed_names(own or other))


def computed_names(meaning: Meaning | None) -> tuple[str, ...]:
    """The values that the parameters are, where the model computes them, each once."""
    values = (value for _, value in meaning.parameters) if meaning is not None else ()
    return tuple(dict.fromkeys(value.name for value in values if isinstance(value, Computed)))


def _with_scoped(placed: Placed, scoped: Sequence[SiteProbe], paths: Mapping[str, str], side: str) -> Placed:
    model = _without_weights(placed.subject.model)
    scopes = View(model).by_path
    problems = dict(placed.problems)
    wanted: list[SiteProbe] = []
    for probe in scoped:
        scope, names = scopes.get(paths[probe.scope]), _names(probe, side)
        if scope is None:
            problems[probe] = f"there is no scope {probe.scope!r}"
            continue
        if missing := [name for name in names if scope.owner(name) is None]:
            problems[probe] = f"{scope.path} has no value {missing[0]!r}"
            continue
        made = [f"{MARKER}_{len(wanted)}_{position}" for position in range(len(names))]
        scope.graph.node.append(helper.make_node("Site", names, made, domain=MARKER, site=len(wanted)))
        wanted.append(probe)
    try:
        model = inliner.inline_local_functions(model) if model.functions else model
    except (RuntimeError, ValueError) as error:
        failed = {probe: f"its functions cannot be inlined: {first_line(error)}" for probe in wanted}
        return replace(placed, problems={**problems, **failed})
    instances: dict[SiteProbe, list[Instance]] = {probe: [] for probe in wanted}
    main = Level(placed.subject.model.graph, scope=placed.subject.view.main)
    for chain, node in markers(model.graph):
        instances[wanted[node.attribute[0].i]].append(Instance(_with_weights(chain, main), tuple(node.input)))
    stuck = {node.attribute[0].i for function in model.functions for node in _marker_nodes(function)}
    for number in stuck:
        problems[wanted[number]] = f"{wanted[number].scope} cannot be inlined (onnx.inliner leaves it as it is)"
    found = {probe: tuple(items) for probe, items in instances.items() if probe not in problems}
    return replace(
        placed, instances={**placed.instances, **found}, problems=problems, marked=model, numbered=tuple(wanted)
    )


def markers(graph: GraphProto, outer: Chain | None = None) -> Iterator[tuple[Chain, NodeProto]]:
    """Every marker below a graph, with where it stands, in the order of the nodes."""
    chain = Chain((Level(graph), *(outer.levels if outer else ())))
    for node in graph.node:
        if node.domain == MARKER:
            yield chain, node
        for body in subgraphs(node):
            yield from markers(body, chain)


def _marker_nodes(graph: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    for node in graph.node:
        if node.domain == MARKER:
            yield node
        for body in subgraphs(node):
            yield from _marker_nodes(body)


def _with_weights(chain: Chain, main: Level) -> Chain:
    """The chain with the initializers of the model itself, which the copy of its main graph lacks."""
    *inner, outermost = chain.levels
    return Chain((*inner, Level(outermost.graph, main)))


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy in which the initializers of the main graph are inputs, so that their names are taken."""
    copied = ModelProto(ir_version=model.ir_version)
    for field in ("opset_import", "functions"):
        getattr(copied, field).extend(getattr(model, field))
    graph = copied.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in inputs:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return copied
