"""The library: each verb opens a model of any kind, plans, applies, and returns the same kind with a report.

Nothing here prints, and nothing that was handed in changes: not an object, and not a file unless `in_place`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.forms import find_activation
from onnxact.errors import ModelError, UsageError
from onnxact.interop import FileSource, Source, open_source
from onnxact.model import collection, files
from onnxact.model.edit import Skip, apply
from onnxact.model.view import View
from onnxact.rewrite import decompose as _decompose
from onnxact.rewrite import fuse as _fuse
from onnxact.rewrite import reference
from onnxact.rewrite import swap as _swap
from onnxact.rewrite.draft import Change, Draft
from onnxact.rewrite.find import find
from onnxact.rewrite.recorded import recorded_sites
from onnxact.rewrite.select import Selection
from onnxact.rewrite.site import Site
from onnxact.rewrite.swap import Slopes

if TYPE_CHECKING:
    from onnxact.check import Drift, Verdict

Model = Any
"""A path, an onnx.ModelProto, an onnx_graphsurgeon.Graph or an onnx_ir.Model."""
SCHEMA = "onnxact/1"
RELU_SLOPE = 0.2
"""The slope that swap_relu gives where none is asked for."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a model."""

    sites: tuple[Site, ...]
    skipped: tuple[Skip, ...]
    op_counts: Mapping[str, int]
    input: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps, after the schema of the documentation."""
        return {
            "schema": SCHEMA,
            "verb": "inspect",
            "input": self.input or None,
            "sites": [site.describe() for site in self.sites],
            "skipped": [skip_json(skip) for skip in self.skipped],
            "op_counts": dict(sorted(self.op_counts.items())),
        }

    def summary(self) -> str:
        """Return the sites by activation and form, in lines."""
        kinds = Counter((site.activation, site.form) for site in self.sites)
        lines = [f"{count} x {activation} ({form})" for (activation, form), count in kinds.most_common()]
        return "\n".join(lines) or "no activations"


@dataclass(frozen=True)
class Result:
    """What a verb did. `model` is of the kind that was handed in: for a path, the path written.

    `proto` is the rewritten model itself, with external data left in its files. Where there was nothing to change,
    `sites` is empty and `model` is the model as it was.
    """

    verb: str
    model: Model
    proto: ModelProto = field(repr=False)
    input: str
    output: str
    _draft: Draft = field(repr=False)
    _source: Source = field(repr=False)
    _op_types: Sequence[Sequence[str]] = field(repr=False)

    @property
    def changed(self) -> bool:
        """Whether any site was rewritten."""
        return bool(self._draft.plan.edits)

    @property
    def sites(self) -> tuple[Change, ...]:
        """The sites that were rewritten, each before and after."""
        return self._draft.changes

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """The sites that were left alone although they look as if they should not have been, with the reason."""
        return self._draft.plan.skips

    @property
    def ops_before(self) -> Counter[str]:
        """Op type -> number of nodes in all scopes of the model as it was."""
        return Counter(chain.from_iterable(self._op_types))

    @property
    def ops_after(self) -> Counter[str]:
        """Op type -> number of nodes in all scopes of the rewritten model."""
        return op_counts(View(self.proto))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps, after the schema of the documentation."""
        return {
            "schema": SCHEMA,
            "verb": self.verb,
            "input": self.input or None,
            "output": self.output or None,
            "sites": [change.describe() for change in self.sites],
            "skipped": [skip_json(skip) for skip in self.skipped],
            "op_counts": {
                "before": dict(sorted(self.ops_before.items())),
                "after": dict(sorted(self.ops_after.items())),
            },
        }

    def summary(self) -> str:
        """Return what was changed, what was skipped and why, in lines."""
        kinds = Counter(f"{c.site.activation} ({c.site.form}) -> {c.activation} ({c.form})" for c in self.sites)
        lines = [f"{self.verb}: {len(self.sites)} sites rewritten, {len(self.skipped)} skipped"]
        lines += [f"  {count} x {kind}" for kind, count in kinds.most_common()]
        lines += [f"  skipped {skip.node or '(unnamed)'}: {skip.reason}" for skip in self.skipped]
        return "\n".join(lines)

    def check(self, **options: Any) -> Verdict:
        """Return the evidence that the rewrite is right; options as for `onnxact.check`.

        A decomposition or fusion is compared with the model as it was handed in. A swap means another function: it
        is compared with that model in which every rewritten site stands in another form of the new activation.
        """
        from onnxact.check import check as judge
        from onnxact.check.rewritten import needs_exact, probes

        original, source = self._source.original(), self._source
        if self.verb.startswith("swap"):
            view = View(original, source.folder)
            plan = reference.plan(view, self.sites)
            if plan.roots < len(self.sites):
                return _no_reference(plan.skips)
            apply(view, plan)
        options.setdefault("folder", source.folder)
        return judge(original, self.proto, sites=probes(self.sites), exact=needs_exact(self.sites), **options)

    def drift(self, **options: Any) -> Drift:
        """Return how far the outputs moved: what a swap did to the model's numbers."""
        from onnxact.check import drift

        original, source = self._source.original(), self._source
        options.setdefault("folder", source.folder)
        return drift(original, self.proto, **options)


def _no_reference(skips: Sequence[Skip]) -> Verdict:
    from onnxact.check import Verdict

    return Verdict("inconclusive", tuple(f"{skip.node}: {skip.reason}" for skip in skips))


def skip_json(skip: Skip) -> dict[str, str]:
    """Return a skip as plain data."""
    return {"scope": skip.scope, "node": skip.node, "reason": skip.reason}


def op_counts(view: View) -> Counter[str]:
    """Return op type -> number of nodes in all scopes."""
    return Counter(chain.from_iterable(scope.op_types for scope in view.scopes))


@dataclass(frozen=True)
class Writing:
    """Where the result of a file goes: `output`, else beside the input as `<stem>.<what was done>.onnx`."""

    output: str | Path | None = None
    in_place: bool = False
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class Rewrite:
    """A verb with all its options, before a model: `plan` makes the draft, `name` says what it does for a file name."""

    verb: str
    what: str
    plan: Callable[[View], Draft]

    @collection.paused()
    def run(self, source: Source, target: Path | None) -> Result:
        """Plan and apply on the source, and write nothing."""
        view = View(source.proto, source.folder)
        draft = self.plan(view)
        model = source.rewritten(view, draft.plan) if draft.plan.edits else None
        edited = source.path is not None or isinstance(model, ModelProto)
        proto = source.proto if edited else _applied(source, view, draft)
        op_types = [scope.op_types for scope in view.scopes]
        return Result(self.verb, model, proto, str(source.path or ""), str(target or ""), draft, source, op_types)


def _applied(source: Source, view: View, draft: Draft) -> ModelProto:
    """Return the rewritten ModelProto of a kind that was edited as itself."""
    if draft.plan.edits:
        apply(view, draft.plan)
    return source.proto


@collection.paused()
def run(rewrite: Rewrite, model: Model, writing: Writing) -> Result:
    """Carry out a rewrite on a model of any kind, and write the file if it is one."""
    source = open_source(model)
    target = writing.path(source, rewrite.what)
    result = rewrite.run(source, target)
    return finish(result, model, target, writing)


def finish(result: Result, model: Model, target: Path | None, writing: Writing) -> Result:
    """Write what is to be written, and return the result with a model of the kind that was handed in."""
    if target is None:
        return replace(result, model=result.model if result.changed else model)
    if not result.changed or writing.dry_run:
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
    target = _swap.target(to, parameters, per_channel=per_channel, channel_axis=channel_axis)
    return Rewrite(
        verb,
        target.activation.name,
        lambda view: _swap.plan(view, source, target, selection=selection, allow_no_effect=allow_no_effect),
    )


def decomposing(
    *,
    form: str | None = None,
    ops: Iterable[str] | None = None,
    allow_inexact: bool = False,
    provenance: bool = True,
    selection: Selection,
) -> Rewrite:
    """Return the rewrite of a decomposition."""
    allowed = tuple(ops) if ops is not None else None
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
    )


def fusing(*, parameters: Mapping[str, float] | None = None, every: bool = False, selection: Selection) -> Rewrite:
    """Return the rewrite of a fusion; parameters that no activation has are refused."""
    names = {param.name for row in ACTIVATIONS.values() for param in row.params}
    for name, value in (parameters or {}).items():
        if name not in names:
            raise UsageError(f"no activation has a parameter {name!r}; known: {', '.join(sorted(names))}")
        if math.isnan(value):
            raise UsageError(f"{name}: must be a number, not nan")
    return Rewrite("fuse", "fused", lambda view: _fuse.plan(view, selection=selection, given=parameters, every=every))


def inspect(model: Model) -> Inspection:
    """Return every activation site of the model: native ops and recognised trees, in every scope.

    Raises ModelError for a file that is no model.
    """
    source = open_source(model)
    view = View(source.proto, source.folder)
    found = find(view)
    recorded = recorded_sites(view)
    sites = [site for site in found.sites if (site.scope.path, site.root) not in recorded]
    sites += dict.fromkeys(recorded.values())
    order = {scope.path: number for number, scope in enumerate(view.scopes)}
    sites.sort(key=lambda site: (order[site.scope.path], site.root))
    return Inspection(tuple(sites), tuple(found.skips), op_counts(view), str(source.path or ""))


def swap(
    model: Model,
    source: str,
    to: str,
    *,
    parameters: Mapping[str, Slopes] | None = None,
    per_channel: bool = False,
    channel_axis: int = 1,
    allow_no_effect: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    output: str | Path | None = None,
    in_place: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Replace activation `source`, in each of its spellings, by activation `to`. This changes what the model computes.

    parameters: name -> number; for prelu's slope also an array that broadcasts to the input ([C] is laid along
    `channel_axis`), or a mapping from node or output names to such arrays. What is not given has ONNX's default.
    include, exclude: regular expressions searched in node and scope names. For a path, the result is written to
    `output` (default: beside the input, `<stem>.<to>.onnx`); an existing file needs `force`.

    Raises UsageError (names, parameters, slopes that do not fit), ModelError, FileConflictError.
    """
    rewrite = swapping(
        "swap",
        source,
        to,
        parameters or {},
        per_channel=per_channel,
        channel_axis=channel_axis,
        allow_no_effect=allow_no_effect,
        selection=Selection(include, exclude),
    )
    return run(rewrite, model, Writing(output, in_place, force, dry_run))


def swap_relu(
    model: Model,
    *,
    alpha: float | None = None,
    to: str = "leaky_relu",
    parameters: Mapping[str, Slopes] | None = None,
    per_channel: bool = False,
    channel_axis: int = 1,
    allow_no_effect: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    output: str | Path | None = None,
    in_place: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Replace every ReLU by LeakyRelu with slope `alpha`, or by activation `to`; see `swap`.

    alpha: the alpha of the new activation, for prelu its slope; 0.2 for leaky_relu and prelu, else ONNX's default.
    """
    rewrite = swapping(
        "swap-relu",
        "relu",
        to,
        relu_parameters(to, alpha, parameters or {}),
        per_channel=per_channel,
        channel_axis=channel_axis,
        allow_no_effect=allow_no_effect,
        selection=Selection(include, exclude),
    )
    return run(rewrite, model, Writing(output, in_place, force, dry_run))


def relu_parameters(to: str, alpha: float | None, parameters: Mapping[str, Slopes]) -> dict[str, Slopes]:
    """Return the parameters of what replaces ReLU: `alpha` is the slope, of one number or of a tensor."""
    activation = find_activation(to)
    name = "slope" if activation.name == "prelu" else "alpha"
    if alpha is not None and name in parameters:
        raise UsageError(f"{name} is given twice, as alpha and as a parameter")
    if alpha is None and activation.name in ("leaky_relu", "prelu"):
        alpha = RELU_SLOPE
    return dict(parameters) if alpha is None else {name: float(alpha), **parameters}


def decompose(
    model: Model,
    *,
    form: str | None = None,
    ops: Iterable[str] | None = None,
    allow_inexact: bool = False,
    provenance: bool = True,
    activations: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    output: str | Path | None = None,
    in_place: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Replace native activation ops by trees of primitive ops that compute the same.

    form: a form's name ("mul-max"), taken even where it is not exact. ops: the ops that may be used; activations
    whose own op is among them stay, the others get the best form: exact before inexact (which needs `allow_inexact`),
    then the fewest nodes. With neither, every activation that has an exact form is decomposed.
    provenance: leave in each site's last node what it was, so that `fuse` restores the model to the byte.

    Raises UsageError (unknown form, op, activation), ModelError, FileConflictError.
    """
    rewrite = decomposing(
        form=form,
        ops=ops,
        allow_inexact=allow_inexact,
        provenance=provenance,
        selection=Selection(include, exclude, activations),
    )
    return run(rewrite, model, Writing(output, in_place, force, dry_run))


def fuse(
    model: Model,
    *,
    parameters: Mapping[str, float] | None = None,
    every: bool = False,
    activations: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    output: str | Path | None = None,
    in_place: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Replace recognised trees by native ops; a model that onnxact decomposed becomes what it was, to the byte.

    parameters: numbers that the constants alone leave open (the slope of mul-abs-add); used where they give the same
    constants. every: in a decomposed model, fuse also the trees that it had before.

    Raises UsageError, ModelError, FileConflictError.
    """
    rewrite = fusing(parameters=parameters, every=every, selection=Selection(include, exclude, activations))
    return run(rewrite, model, Writing(output, in_place, force, dry_run))


def check(before: Model, after: Model, **options: Any) -> Verdict:
    """Judge whether two models, of any kind, compute the same on ONNX Runtime; see `onnxact.check.check`."""
    from onnxact.check import check as judge

    return judge(_runnable(before), _runnable(after), **options)


def _runnable(model: Model) -> Any:
    if isinstance(model, (str, Path, ModelProto)):
        return model
    source = open_source(model)
    if isinstance(source, FileSource):
        raise ModelError("a file is checked from its path")
    return source.proto


def assert_equivalent(before: Model, after: Model, **options: Any) -> None:
    """Raise NotEquivalent, an AssertionError with the evidence, unless the models are shown to be equivalent."""
    check(before, after, **options).raise_unless_equivalent()
