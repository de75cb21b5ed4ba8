"""Two models that differ on some inputs -> what is needed to look into it: graphs, alignment, observed runs, sites."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from onnx import ModelProto, inliner

from onnxact.check.activations import Activations
from onnxact.check.alignment import Alignment, align
from onnxact.check.fingerprint import Indexed
from onnxact.check.inputs import Feed
from onnxact.check.observing import Observed
from onnxact.check.subject import Subject
from onnxact.check.verdict import Run


@dataclass(frozen=True)
class Case:
    """Two models that differ, and where: the inputs, the provider, whether optimisation is on.

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
