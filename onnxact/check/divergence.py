"""(before, after, inputs on which they differ) -> the first value that does, in topological order, and what makes it.

x -> [Conv] -> a -> [Relu | LeakyRelu] -> b -> ...: a is bit-equal, b is not, so it is the Relu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxact.check.activations import in_words
from onnxact.check.alignment import Aligned
from onnxact.check.bodies import first_difference
from onnxact.check.case import Case
from onnxact.check.cutting import Part, cut
from onnxact.check.diagnosis import Divergence, NodeNote, ValueEvidence
from onnxact.check.fingerprint import Indexed, op_of
from onnxact.check.session import Outputs, RunFailure
from onnxact.check.values import value_evidence

DEFAULT_BOUND = "the default tolerance of its type"
EQUAL_BOUND = "equal values"


@dataclass(frozen=True)
class _Search:
    """How far the search went, and what it found: beyond the bound, and at all."""

    beyond: ValueEvidence | None = None
    first: ValueEvidence | None = None
    compared: int = 0
    too_large: tuple[str, ...] = ()


def find_divergence(case: Case) -> Divergence | str:
    """The first value that differs beyond its bound, else the first that differs at all; or why none was found.

    Values are held as far as `memory_budget` allows. Values upstream of every change are not observed, unless nothing
    downstream differs.
    """
    pairs = case.alignment.pairs
    changed = [pair for pair in pairs if not pair.identical]
    found = _search(case, changed)
    if found.first is None and len(changed) < len(pairs):
        found = _search(case, [pair for pair in pairs if pair.identical])
    value = found.beyond or found.first
    if value is None:
        return f"no value was found to differ: {found.compared} of {len(pairs)} aligned ones were compared"
    bound = DEFAULT_BOUND if found.beyond is not None and not case.exact else EQUAL_BOUND
    described = _described(case, value, bound)
    return replace(
        described,
        compared=found.compared,
        aligned=len(pairs),
        unaligned=case.alignment.unaligned,
        too_large=found.too_large,
    )


def _search(case: Case, pairs: Sequence[Aligned]) -> _Search:
    """Observe the pairs in order, in groups that fit the budget, up to the first that is beyond its bound."""
    groups, too_large = case.held_together(pairs)
    found = _Search(too_large=too_large)
    for group in groups:
        values = case.both(group)
        if isinstance(values, RunFailure):
            continue
        found = _compared(case, group, *values, found)
        if found.beyond is not None:
            break
    return found


def _compared(case: Case, group: Sequence[Aligned], one: Outputs, other: Outputs, found: _Search) -> _Search:
    for pair in group:
        value = value_evidence(pair.before, pair.after, one[pair.before], other[pair.after], exact=case.exact)
        first = found.first or (value if value.differing or value.problem else None)
        found = replace(found, compared=found.compared + 1, first=first)
        if not value.agrees:
            return replace(found, beyond=value)
    return found


def _described(case: Case, value: ValueEvidence, bound: str) -> Divergence:
    """What makes the value, what enters there, and whether the difference is made there."""
    parts = [
        cut(graph, name, stops, case.feed.values)
        for graph, name, stops in zip(case.graphs, (value.before, value.after), _stops(case, value), strict=True)
    ]
    entering = _entering(case, parts)
    observed = _observed(case, entering)
    notes = [_note(graph, name) for graph, name in zip(case.graphs, (value.before, value.after), strict=True)]
    own, problem = _own(case, value, parts, entering, observed)
    return Divergence(
        run=str(case.run),
        value=value,
        bound=bound,
        node_before=notes[0],
        node_after=notes[1],
        site=_site(case, value),
        inputs=_inputs(entering, observed),
        own=own,
        own_problem=problem,
        inside=_inside(case, value),
        control=_control(case, value),
    )


def _stops(case: Case, value: ValueEvidence) -> tuple[set[str], set[str]]:
    """The aligned values, up to which a part is cut: all that are not the one in question."""
    pairs = [pair for pair in case.alignment.pairs if pair.before != value.before]
    return {pair.before for pair in pairs}, {pair.after for pair in pairs}


def _entering(case: Case, parts: Sequence[Part]) -> tuple[Aligned, ...]:
    """The values that enter the part of either model: inputs of the models under their one name."""
    to_after, to_before = case.alignment.to_after(), case.alignment.to_before()
    before = [Aligned(name, to_after.get(name, name)) for name in parts[0].inputs]
    after = [Aligned(to_before.get(name, name), name) for name in parts[1].inputs]
    return tuple(dict.fromkeys((*before, *after)))


def _observed(case: Case, entering: Sequence[Aligned]) -> tuple[Outputs, Outputs] | RunFailure:
    results = []
    for side, model in enumerate(case.observed):
        names = [(pair.before, pair.after)[side] for pair in entering]
        made = [name for name in names if name not in case.feed.values]
        result = model.values(made) if made else {}
        if isinstance(result, RunFailure):
            return result
        results.append({**{name: case.feed.values[name] for name in names if name not in made}, **result})
    return results[0], results[1]


def _inputs(entering: Sequence[Aligned], observed: tuple[Outputs, Outputs] | RunFailure) -> tuple[ValueEvidence, ...]:
    if isinstance(observed, RunFailure):
        return tuple(ValueEvidence(pair.before, pair.after, problem=str(observed)) for pair in entering)
    one, other = observed
    return tuple(value_evidence(pair.before, pair.after, one[pair.before], other[pair.after]) for pair in entering)


def _own(
    case: Case,
    value: ValueEvidence,
    parts: Sequence[Part],
    entering: Sequence[Aligned],
    observed: tuple[Outputs, Outputs] | RunFailure,
) -> tuple[ValueEvidence | None, str]:
    """Both parts on what enters that of `before`, and how far apart they are then."""
    if isinstance(observed, RunFailure):
        return None, f"not run on the same inputs: {observed}"
    given = {pair.before: observed[0][pair.before] for pair in entering}
    renamed = {pair.after: observed[0][pair.before] for pair in entering}
    results = []
    for subject, part, values in zip(case.subjects, parts, (given, renamed), strict=True):
        result = part.run(subject, values, case.run.provider, optimise=case.run.optimise)
        if isinstance(result, RunFailure | str):
            return None, f"not run on the same inputs: {result}"
        results.append(result)
    return value_evidence(value.before, value.after, *results, exact=case.exact), ""


def _note(graph: Indexed, name: str) -> NodeNote | None:
    if name not in graph.made_by:
        return None
    position = graph.made_by[name]
    node = graph.nodes[position]
    return NodeNote(node.name, op_of(node), position)


def _site(case: Case, value: ValueEvidence) -> str:
    before, after = (found.at(name) for found, name in zip(case.activations, (value.before, value.after), strict=True))
    if before is None and after is None:
        return ""
    node = (before or after).node or value.name  # type: ignore[union-attr]
    unknown = "no activation that is known"
    return f"site {node!r}: {in_words(before) or unknown} before, {in_words(after) or unknown} after"


def _inside(case: Case, value: ValueEvidence) -> str:
    nodes = [
        graph.nodes[graph.made_by[name]]
        for graph, name in zip(case.graphs, (value.before, value.after), strict=True)
        if name in graph.made_by
    ]
    return first_difference(*nodes) if len(nodes) == 2 else ""


def _control(case: Case, value: ValueEvidence) -> str:
    """Whether the models' outputs are the same bits when the value is observed as when nothing is."""
    changed = []
    for side, model, name in zip(("before", "after"), case.observed, (value.before, value.after), strict=True):
        own = [item.name for item in model.subject.model.graph.output]
        plain, observed = model.values(own), model.values([*own, *(() if name in own else (name,))])
        if isinstance(plain, RunFailure) or isinstance(observed, RunFailure):
            return "control: the outputs could not be observed again"
        changed += [
            f"{output} {side}" for output in own if value_evidence("", "", plain[output], observed[output]).differing
        ]
    if changed:
        return f"control: observing the value changes the outputs {', '.join(changed)}"
    return "control: observing the value changes no output"
