"""Two models on one set of inputs -> what is needed to compare them inside: graphs, alignment, observed runs, sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnx import ModelProto, inliner

from onnxact.check.activations import Activations
from onnxact.check.alignment import Aligned, Alignment, align
from onnxact.check.fingerprint import Indexed
from onnxact.check.inputs import Feed
from onnxact.check.observing import Observed
from onnxact.check.session import Outputs, RunFailure
from onnxact.check.subject import Subject
from onnxact.check.verdict import Run


@dataclass(frozen=True)
class Case:
    """Two models, and how they are run: the inputs, the provider, whether optimisation is on.

    `exact`: any difference counts, not only one beyond the default tolerance of its type.
    """

    before: Subject
    after: Subject
    feed: Feed
    run: Run
    exact: bool
    memory_budget: int

    @cached_property
    def subjects(self) -> tuple[Subject, Subject]:
        """Both models with their local functions inlined, so that the values inside have names."""
        return _inlined(self.before), _inlined(self.after)

    @cached_property
    def graphs(self) -> tuple[Indexed, Indexed]:
        """Both main graphs."""
        before, after = self.subjects
        return Indexed(before.model.graph, before.folder), Indexed(after.model.graph, after.folder)

    @cached_property
    def alignment(self) -> Alignment:
        """Which value is which."""
        return align(*self.graphs)

    @cached_property
    def observed(self) -> tuple[Observed, Observed]:
        """Both models, ready to be observed."""
        before, after = (
            Observed(subject, self.run.provider, self.run.optimise, self.feed.values) for subject in self.subjects
        )
        return before, after

    def held_together(self, pairs: Sequence[Aligned]) -> tuple[list[list[Aligned]], tuple[str, ...]]:
        """The pairs in order, in groups of which both models' values fit the budget; and those that are too large."""
        sizes = self.observed[0].sizes([pair.before for pair in pairs]) if pairs else {}
        room = self.memory_budget // 2
        too_large = tuple(pair.before for pair in pairs if sizes.get(pair.before, 0) > room)
        groups: list[list[Aligned]] = []
        left = 0
        for pair in pairs:
            if pair.before in sizes and pair.before not in too_large:
                if not groups or sizes[pair.before] > left:
                    groups.append([])
                    left = room
                groups[-1].append(pair)
                left -= sizes[pair.before]
        return groups, too_large

    def both(self, pairs: Sequence[Aligned]) -> tuple[Outputs, Outputs] | RunFailure:
        """The values of these pairs in both models."""
        before, after = self.observed
        one = before.values([pair.before for pair in pairs])
        if isinstance(one, RunFailure):
            return one
        other = after.values([pair.after for pair in pairs])
        return other if isinstance(other, RunFailure) else (one, other)

    @cached_property
    def activations(self) -> tuple[Activations, Activations]:
        """The sites of both models."""
        before, after = self.subjects
        return Activations(before), Activations(after)


def _inlined(subject: Subject) -> Subject:
    if not subject.model.functions:
        return subject
    model = ModelProto()
    model.ParseFromString(inliner.inline_local_functions(subject.model).SerializeToString())
    return replace(subject, model=model, path=None)
