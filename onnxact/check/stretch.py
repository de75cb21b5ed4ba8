"""(a site known in one model only) -> the smallest part of both models around it between values of both.

before: x -> [FusedConv, Relu inside] -> y,   after: x -> [Conv] -> c -> [Relu] -> y   ->   the part from x to y

It is run on its own: where all of it works element by element, on special values and both sides of every kink; where
the other model has the same activation inside a fused node, on what enters it, in several magnitudes and both signs.
Other parts show nothing: a condition in them may hide another function from every input.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxact.check.alone import ELEM_TYPES, Alone, Expected, Trier
from onnxact.check.compare import compare
from onnxact.check.cutting import Part, cut
from onnxact.check.graph import required_inputs
from onnxact.check.inputs import Feed, is_float
from onnxact.check.knowledge import SIDES, Knowledge
from onnxact.check.meaning import meaning_of, same_function
from onnxact.check.observe import chunks
from onnxact.check.placing import place
from onnxact.check.region import between
from onnxact.check.session import RunFailure, Session, run_session
from onnxact.check.site_evidence import Meaning, SiteProbe
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run
from onnxact.rewrite.contrib import fused
from onnxact.rewrite.expansion import full_name

_FACTORS = (1.0, -1.0, 1e-3, -1e3, 1e3, 1e6, -1e6, 1e12)
_FEEDS = 2
_FURTHEST = 64
_PLAIN = {
    *("Conv", "Gemm", "MatMul", "Add", "Sum", "Mul", "BatchNormalization", "Transpose", "Reshape", "Squeeze"),
    *("Unsqueeze", "Flatten", "Identity", "Constant", "QuantizeLinear", "DequantizeLinear", "Cast"),
}
"""Ops around an activation that decide nothing by the values that they are given."""


@dataclass(frozen=True)
class Stretch:
    """The part around a site in both models, the activation of the site, and the fused node of the other model."""

    probe: SiteProbe
    parts: tuple[Part, Part]
    fused: str = ""

    @cached_property
    def ends(self) -> str:
        """From where to where, in words."""
        names = ", ".join(map(repr, self.parts[0].inputs)) or "nothing"
        return f"from {names} to {self.parts[0].output!r}"


@dataclass(frozen=True)
class Stretches:
    """What can be known of sites of the main graph that are a form of the table in one model only."""

    known: Knowledge
    provider: str
    feeds: tuple[Feed, ...]
    memory_budget: int

    def run(self) -> dict[SiteProbe, Alone]:
        """What the parts around the sites do on their own; nothing of a site around which there is no such part."""
        stretches = [
            stretch for probes in self._lonely for probe in probes if (stretch := self._around(probe)) is not None
        ]
        whole = [stretch for stretch in stretches if stretch.fused]
        found = {stretch.probe: self._alone(stretch) for stretch in stretches if not stretch.fused}
        return {**found, **self._swept(whole)}

    def _around(self, probe: SiteProbe) -> Stretch | None:
        side = _side(probe)
        pairing, graphs = self.known.pairing, self.known.pairing.graphs
        pairs = pairing.alignment.pairs
        own = {(pair.before, pair.after)[side]: pair for pair in pairs}
        end = own.get(next((name for name in self._onwards(side, probe.names(SIDES[side])[1]) if name in own), ""))
        if end is None:
            return None
        stops = [pair for pair in pairs if pair is not end]
        given = [value.name for value in required_inputs(graphs[0].graph)]
        before = cut(graphs[0], end.before, {pair.before for pair in stops}, given)
        after = cut(graphs[1], end.after, {pair.after for pair in stops}, given)
        to_after = {name: name for name in given} | pairing.alignment.to_after()
        if before.lacking or after.lacking or sorted(to_after[name] for name in before.inputs) != list(after.inputs):
            return None
        return Stretch(probe, (before, after), self._fused(probe, (before, after)))

    def _onwards(self, side: int, name: str) -> Iterator[str]:
        """A value and what is made from it, the nearest first."""
        graph, pending = self.known.pairing.graphs[side], [name]
        for current in pending:
            yield current
            if len(pending) < _FURTHEST:
                makers = (graph.nodes[index] for index, _ in graph.readers.get(current, ()))
                pending += [output for node in makers for output in node.output if output and output not in pending]

    def _fused(self, probe: SiteProbe, parts: tuple[Part, Part]) -> str:
        """The op of the nodes of the other model in which the activations are; "" where not all of them are in such
        nodes, or where anything else in the parts could decide something.
        """
        side = _side(probe)
        graph, (own, other) = parts[side].graph, (_carrying(part) for part in (parts[side], parts[1 - side]))
        meanings: list[Meaning | None] = []
        for lonely in self._lonely[side]:
            names = lonely.names(SIDES[side])
            inner = set(between(graph.nodes, graph.made_by, {names[0]}, names[1]))
            if graph.made_by[names[1]] in own:
                own -= inner
                meanings.append(lonely.before or lonely.after)
        holding = {index: self._meanings[1 - side][index] for index in other if index in self._meanings[1 - side]}
        rest = [(parts[side], index) for index in own] + [(parts[1 - side], index) for index in other - holding.keys()]
        if not _are_alike(meanings, holding.values()) or any(
            full_name(p.graph.nodes[i]) not in _PLAIN for p, i in rest
        ):
            return ""
        return " and ".join(dict.fromkeys(full_name(parts[1 - side].graph.nodes[index]) for index in holding))

    @cached_property
    def _lonely(self) -> tuple[list[SiteProbe], list[SiteProbe]]:
        """The sites by the model in which they are known; none of which running it on its own says something."""
        alone = self.known.alone
        probes = [
            probe for probe in self.known.probes if not probe.scope and (probe.before is None) != (probe.after is None)
        ]
        probes = [probe for probe in probes if probe not in alone or alone[probe].text.startswith("not run")]
        return [probe for probe in probes if _side(probe) == 0], [probe for probe in probes if _side(probe) == 1]

    @cached_property
    def _meanings(self) -> tuple[Mapping[int, Meaning], Mapping[int, Meaning]]:
        """Position of a fused node of the main graph -> what is fused into it."""
        first, second = (
            {
                item.site.root: meaning_of(item.site.activation, "", item.site.parameters, item.site.dtype)
                for item in fused(view)
                if item.site.activation and not item.site.scope.path
            }
            for view in self.known.pairing.views
        )
        return first, second

    def _alone(self, stretch: Stretch) -> Alone:
        """A part that works element by element, on its own."""
        before, after = stretch.parts
        if len(before.inputs) != 1 or self.known.dtype(stretch.probe) not in ELEM_TYPES:
            return _said(stretch, "not run: it has several inputs, or none that is a floating tensor")
        wide = SiteProbe("", "", before.inputs[0], before.output, stretch.probe.kinks)
        wide = replace(wide, after_input=after.inputs[0], after_output=after.output)
        placed = place(self.known.before, [wide], {}, "before"), place(self.known.after, [wide], {}, "after")
        expected = Expected(self.known.dtype(stretch.probe), ((None, None),))
        return _said(stretch, Trier(*placed, self.provider).run({wide: expected})[wide].text)

    def _swept(self, stretches: Sequence[Stretch]) -> dict[SiteProbe, Alone]:
        """Parts with a fused node, on what enters them in the model before."""
        groups = {stretch.probe: stretch.parts[0].inputs for stretch in stretches}
        by_probe = {stretch.probe: stretch for stretch in stretches}
        found: dict[SiteProbe, Alone] = {}
        feed = self.feeds[0]
        for chunk in chunks(
            self.known.before, groups, feed, provider=self.provider, memory_budget=self.memory_budget // 4
        ):
            for probe in chunk.keys:
                found[probe] = self._on_what_enters(by_probe[probe], chunk.session)
        return found

    def _on_what_enters(self, stretch: Stretch, session: Any) -> Alone:
        if not isinstance(session, Session):
            return _said(stretch, f"not run: {session}")
        texts = []
        for feed in self.feeds[:_FEEDS]:
            entering = run_session(session, feed.values, stretch.parts[0].inputs)
            if isinstance(entering, RunFailure):
                return _said(stretch, f"not run: {entering}")
            texts += list(self._compared(stretch, entering))
        different = next((text for text in texts if text), "")
        if different or not texts:
            return _said(stretch, different or "not run: nothing finite left it")
        return _said(stretch, "same", f"as {stretch.fused} on {len(texts)} sets of inputs")

    def _compared(self, stretch: Stretch, entering: Mapping[str, Any]) -> Iterator[str]:
        """For every magnitude whose results are finite: "" where both parts gave the same, else in what they differ."""
        renamed = self.known.pairing.alignment.to_after()
        subjects = self.known.before, self.known.after
        others = {renamed.get(name, name): value for name, value in entering.items()}
        opened = [
            part.open(subject, values, self.provider, optimise=False)
            for part, subject, values in zip(stretch.parts, subjects, (entering, others), strict=True)
        ]
        for factor in _FACTORS:
            given = [_times(values, factor) for values in (entering, others)]
            results = [_result(session, values) for session, values in zip(opened, given, strict=True)]
            problem = next((item for item in results if isinstance(item, str)), "")
            if problem:
                yield f"not run: {problem}"
                return
            if all(_is_finite(item) for item in results):
                yield _difference(results[0], results[1])
            if not any(is_float(value) for value in entering.values()):
                return


def _side(probe: SiteProbe) -> int:
    """The model in which a site is known."""
    return 1 if probe.before is None else 0


def _carrying(part: Part) -> set[int]:
    """The nodes of a part that depend on what enters it."""
    return set(between(part.graph.nodes, part.graph.made_by, set(part.inputs), part.output))


def _are_alike(meanings: Sequence[Meaning | None], others: Collection[Meaning]) -> bool:
    """Whether each activation of one model is one of the other."""
    left = list(others)
    for meaning in meanings:
        found = next((other for other in left if meaning is not None and same_function(meaning, other)), None)
        if found is None:
            return False
        left.remove(found)
    return bool(meanings) and not left


def _said(stretch: Stretch, text: str, how: str = "") -> Alone:
    """What was found of a part, as said of its site: only that it is the same says something of that."""
    if text in {"same", "identical"}:
        return Alone("same", notes=(f"the part around it, {stretch.ends}, is the same in both models {how}".rstrip(),))
    return Alone(text if text.startswith("not run") else f"not run: the part around it, {stretch.ends}, {text}")


def _times(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return {
            name: (value * np.asarray(factor, value.dtype)).astype(value.dtype) if is_float(value) else value
            for name, value in values.items()
        }


def _result(session: Session | RunFailure | str, values: Mapping[str, Any]) -> Any:
    """What a part gives; a text where it does not run."""
    if not isinstance(session, Session):
        return str(session)
    found = run_session(session, values)
    return str(found) if isinstance(found, RunFailure) else next(iter(found.values()))


def _is_finite(value: Any) -> bool:
    return not is_float(value) or bool(np.isfinite(value.astype(np.float64)).all())


def _difference(before: Any, after: Any) -> str:
    run = Run("", "", optimise=False)
    items = compare("it", run, before, after, tolerance=Tolerance(), noise={})
    return next((f"differs: {item.reason}" for item in items if item.outcome != "equivalent"), "")
