"""A verb with its options -> a rewrite, which is carried out on a model of any kind and written if that is a file.

Options are checked before any model is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.forms import find_activation
from onnxact.arguments import mapping, number, text, texts, whole
from onnxact.errors import UsageError
from onnxact.interop import Source, open_source
from onnxact.model import collection, files
from onnxact.model.edit import apply
from onnxact.model.schema import known_ops
from onnxact.model.view import View
from onnxact.results import Model, Result
from onnxact.rewrite import decompose as _decompose
from onnxact.rewrite import fuse as _fuse
from onnxact.rewrite import swap as _swap
from onnxact.rewrite.draft import Draft
from onnxact.rewrite.select import Selection
from onnxact.rewrite.site import Slopes
from onnxact.rewrite.target import plan as _target
from onnxact.rewrite.target.known import find_target
from onnxact.rewrite.target.rules import Target

if TYPE_CHECKING:
    from onnxact.check.standings import Timing

Progress = Callable[[str, float], None]
RELU_SLOPE = 0.2
"""The slope that swap_relu gives where none is asked for."""


@dataclass(frozen=True)
class Writing:
    """Where the result of a file goes: `output`, else beside the input as `<stem>.<what was done>.onnx`."""

    output: str | Path | None = None
    in_place: bool = False
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.output is not None and not isinstance(self.output, (str, Path)):
            raise UsageError(f"output: expected a path, not {self.output!r}")
        if self.output is not None and self.in_place:
            raise UsageError("give an output or in-place, not both")

    def path(self, source: Source, what: str) -> Path | None:
        """Return the file to be written; None for a model that is no file. Refuses to overwrite anything."""
        if source.path is None:
            if self.output is not None or self.in_place:
                raise UsageError("output and in-place are for models in files; save the returned model yourself")
            return None
        if self.in_place:
            return source.path
        suffix = source.path.suffix or ".onnx"
        target = (
            Path(self.output)
            if self.output is not None
            else source.path.with_name(f"{source.path.stem}.{what}{suffix}")
        )
        if not self.dry_run:
            files.check_writable(target, source.path, force=self.force, in_place=False)
        return target


Tuning = Callable[[Source, View, Mapping[str, Any], Progress | None], tuple[Draft, "Timing"]]
"""(model, its view, how to run it) -> the draft that is fastest, and what was measured."""


@dataclass(frozen=True)
class Rewrite:
    """A verb with all its options, before a model: `plan` makes the draft, `name` says what it does for a file name.

    `tuning` makes it instead where that takes running the model.
    """

    verb: str
    what: str
    plan: Callable[[View], Draft]
    target: str = ""
    partial: bool = False
    tuning: Tuning | None = None

    @collection.paused()
    def run(
        self,
        source: Source,
        target: Path | None,
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Plan and apply on the source, and write nothing. `options`: how to run the model, where that is needed."""
        view = View(source.proto, source.folder, recorded=source.recorded)
        timing = None
        if self.tuning is not None:
            draft, timing = self.tuning(source, view, options or {}, progress)
        else:
            draft = self.plan(view)
        model = source.rewritten(view, draft.plan) if draft.plan.edits else None
        edited = source.path is not None or isinstance(model, ModelProto)
        proto = source.proto if edited else _applied(source, view, draft)
        op_types = [scope.op_types for scope in view.scopes]
        paths = str(source.path or ""), str(target or "")
        return Result(self.verb, model, proto, *paths, draft, source, op_types, self.target, self.partial, timing)


def _applied(source: Source, view: View, draft: Draft) -> ModelProto:
    """Return the rewritten ModelProto of a kind that was edited as itself."""
    if draft.plan.edits:
        apply(view, draft.plan)
    return source.proto


@collection.paused()
def run(
    rewrite: Rewrite,
    model: Model,
    writing: Writing,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Carry out a rewrite on a model of any kind, and write the file if it is one."""
    source = open_source(model)
    target = writing.path(source, rewrite.what)
    result = rewrite.run(source, target, options, progress)
    return finish(result, model, target, writing)


def finish(result: Result, model: Model, target: Path | None, writing: Writing) -> Result:
    """Write what is to be written, and return the result with a model of the kind that was handed in."""
    if target is None:
        return replace(result, model=result.model if result.changed else model)
    if not result.changed or writing.dry_run or result.unfinished:
        return replace(result, model=model, output="")
    write(result, target, force=writing.force)
    return replace(result, model=type(model)(target))


def write(result: Result, target: Path, *, force: bool) -> None:
    """Write the rewritten model of a file to `target`."""
    files.save(result.proto, target, origin=Path(result.input), force=force)


def swapping(
    verb: str,
    source: str,
    to: str,
    parameters: Mapping[str, Slopes],
    *,
    per_channel: bool = False,
    channel_axis: int = 1,
    allow_no_effect: bool = False,
    selection: Selection,
) -> Rewrite:
    """Return the rewrite of a swap; options are checked here, before any model is read."""
    find_activation(source)
    axis = whole("channel_axis", channel_axis)
    target = _swap.target(to, mapping("parameters", parameters), per_channel=per_channel, channel_axis=axis)
    return Rewrite(
        verb,
        target.activation.name,
        lambda view: _swap.plan(view, source, target, selection=selection, allow_no_effect=allow_no_effect),
    )


def decomposing(
    *,
    form: str | None = None,
    ops: str | Iterable[str] | None = None,
    target: str | None = None,
    partial: bool = False,
    fastest: bool = False,
    allow_inexact: bool = False,
    provenance: bool = True,
    selection: Selection,
) -> Rewrite:
    """Return the rewrite of a decomposition."""
    if target is not None:
        if form is not None or ops is not None:
            raise UsageError("give a target, a form or a set of ops, not more than one of them")
        found = _for_target(find_target(target), selection, partial, allow_inexact, provenance)
        return _timed(found, find_target(target), selection, allow_inexact, provenance) if fastest else found
    if fastest:
        raise UsageError("fastest is for a target that runs here: give --target ort:cpu with it")
    if partial:
        raise UsageError("partial is for a target: it accepts that some sites stay that the target does not run")
    allowed = known_ops(texts("ops", ops)) if ops is not None else None
    _decompose.demand_sense(None if form is None else text("form", form), allowed, selection)
    return Rewrite(
        "decompose",
        form.partition("[")[0] if form else "decomposed",
        lambda view: _decompose.plan(
            view,
            form=form,
            allowed=allowed,
            allow_inexact=allow_inexact,
            selection=selection,
            keep_provenance=provenance,
        ),
        partial=True,
    )


def _for_target(target: Target, selection: Selection, partial: bool, allow_inexact: bool, provenance: bool) -> Rewrite:
    def plan(view: View) -> Draft:
        return _target.plan(view, target, allow_inexact=allow_inexact, selection=selection, keep_provenance=provenance)

    what = "standard" if target.ops is None else target.name.replace(":", "-")
    return Rewrite("decompose", what, plan, target.name, partial)


def _timed(rewrite: Rewrite, target: Target, selection: Selection, allow_inexact: bool, provenance: bool) -> Rewrite:
    """Return the rewrite for a target with the forms that are fastest here."""
    from onnxact.fastest import Course, provider_of, tune

    provider_of(target)

    def tuned(
        source: Source, view: View, options: Mapping[str, Any], progress: Progress | None
    ) -> tuple[Draft, Timing]:
        course = Course(source, target, selection, allow_inexact)
        wishes, timing = tune(course, view, options, progress)
        return course.draft(view, wishes, keep_provenance=provenance), timing

    return replace(rewrite, what=f"{rewrite.what}-fastest", tuning=tuned)


def fusing(*, parameters: Mapping[str, float] | None = None, every: bool = False, selection: Selection) -> Rewrite:
    """Return the rewrite of a fusion; parameters that no activation has are refused."""
    names = {param.name for row in ACTIVATIONS.values() for param in row.params}
    given = {name: number(name, value) for name, value in mapping("parameters", parameters).items()}
    for name, value in given.items():
        if name not in names:
            raise UsageError(f"no activation has a parameter {name!r}; known: {', '.join(sorted(names))}")
        if math.isnan(value):
            raise UsageError(f"{name}: must be a number, not nan")
    return Rewrite("fuse", "fused", lambda view: _fuse.plan(view, selection=selection, given=given, every=every))


def relu_parameters(to: str, alpha: float | None, parameters: Mapping[str, Slopes]) -> dict[str, Slopes]:
    """Return the parameters of what replaces ReLU: `alpha` is the slope, of one number or of a tensor."""
    activation = find_activation(to)
    name = "slope" if activation.name == "prelu" else "alpha"
    parameters = mapping("parameters", parameters)
    if alpha is not None and name in parameters:
        raise UsageError(f"{name} is given twice, as alpha and as a parameter")
    if alpha is None and activation.name in ("leaky_relu", "prelu"):
        alpha = RELU_SLOPE
    return dict(parameters) if alpha is None else {name: number("alpha", alpha), **parameters}
