"""(model, ort:PROVIDER) -> in which form each site is fastest here, of the forms with the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from onnxact.check.contest import Contest
from onnxact.check.standings import Standing, Timing, wishes_of
from onnxact.check.timing import Stopwatch
from onnxact.check.track import Track
from onnxact.errors import UsageError
from onnxact.interop import Source
from onnxact.model.edit import apply
from onnxact.model.types import Shape
from onnxact.model.view import View
from onnxact.rewrite.draft import Draft
from onnxact.rewrite.find import find
from onnxact.rewrite.select import Selection
from onnxact.rewrite.target.contest import Group, Place, Wish, groups
from onnxact.rewrite.target.known import KERNELS
from onnxact.rewrite.target.plan import decisions, is_selected
from onnxact.rewrite.target.plan import plan as plan_for
from onnxact.rewrite.target.rules import Target

if TYPE_CHECKING:
    from onnxact.check.equivalence import Progress


@dataclass(frozen=True)
class Course:
    """A model, and what may be rewritten in it."""

    source: Source
    target: Target
    selection: Selection
    allow_inexact: bool = False

    def draft(self, view: View, wishes: Mapping[Place, Wish], *, keep_provenance: bool = False) -> Draft:
        """Return the plan for a copy of the model: what the target needs, and what is wished for."""
        return plan_for(
            view,
            self.target,
            allow_inexact=self.allow_inexact,
            selection=self.selection,
            keep_provenance=keep_provenance,
            wishes=wishes,
        )

    def model(self, part: ModelProto | None, wishes: Mapping[Place, Wish]) -> ModelProto:
        """Return a copy of the model, or of a part of it, with what is wished for."""
        proto = ModelProto()
        if part is None:
            proto = self.source.original()
        else:
            proto.CopyFrom(part)
        view = View(proto, self.source.folder, recorded=self.source.recorded)
        apply(view, self.draft(view, wishes).plan)
        return proto

    def groups(self, view: View, sized: View) -> list[Group]:
        """Return the selected sites that the target runs as they stand; `sized` declares every shape."""
        decided, _, _ = decisions(view, self.target, find(view), allow_inexact=self.allow_inexact)
        chosen = (decision for decision in decided if is_selected(self.selection, decision.site))
        return groups(view, chosen, self.target, lambda path, name: _shape(sized, path, name))


def _shape(sized: View, path: str, name: str) -> Shape | None:
    scope = sized.by_path.get(path)
    return scope.shape(name) if scope is not None else None


def provider_of(target: Target) -> str:
    """Return the provider of a target that can be timed here; UsageError for any other target."""
    if target.name.startswith(KERNELS):
        return target.name[len(KERNELS) :]
    raise UsageError(
        f"the fastest form is found by timing the model here, on ONNX Runtime, and {target.name} does not run here: "
        "give --target ort:cpu, or another provider of the installed ONNX Runtime"
    )


def tune(
    course: Course,
    view: View,
    options: Mapping[str, Any],
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> tuple[dict[Place, Wish], Timing]:
    """Return what is to become of the sites that run as they stand, and what was measured.

    options: those of a check that say how models are run and fed (`check.track.CHECK_OPTIONS`). Raises UsageError,
    ProviderError and UnloadableError where the model cannot be timed.
    """
    report = progress or (lambda _what, _done: None)
    report("loading the model", 0.0)
    plain = course.model(None, {})
    track = Track.of(plain, course.source.folder, provider_of(course.target), options)
    sized = track.sized(plain)
    del plain
    found = course.groups(view, sized)
    timing = Timing(track.provider, track.threads, track.shapes, track.notes)
    if any(group.key.forms for group in found):
        timing = Contest(course.model, track, sized, stopwatch or Stopwatch(), report).decide(found, timing)
    else:
        timing = replace(timing, groups=tuple(Standing(group, reason=group.reason) for group in found))
    return wishes_of(timing.groups), timing
