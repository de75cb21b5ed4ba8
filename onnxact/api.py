"""The library: each verb opens a model of any kind, plans, applies, and returns the same kind with a report.

Nothing here prints, and nothing that was handed in changes: not an object, and not a file unless `in_place`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from onnxact.errors import ModelError, UsageError
from onnxact.interop import FileSource, open_source
from onnxact.model.view import View
from onnxact.results import Inspection, Model, Result, op_counts
from onnxact.rewrite.blocked.apart import blocked_activations
from onnxact.rewrite.contrib import fused
from onnxact.rewrite.find import Found, find
from onnxact.rewrite.recorded import recorded_sites
from onnxact.rewrite.select import Selection
from onnxact.rewrite.site import Site, Slopes
from onnxact.rewrite.target.known import find_target
from onnxact.rewrite.target.plan import all_or_none, remarks_on, uncounted
from onnxact.rewrite.target.plan import decisions as decide
from onnxact.verbs import Progress, Writing, decomposing, fusing, relu_parameters, run, swapping

if TYPE_CHECKING:
    import os

    from onnxact.check import SiteProbe, Verdict
    from onnxact.check.drawing import ValRange
    from onnxact.check.equivalence import Progress
    from onnxact.check.feeding import Given as Inputs
    from onnxact.check.runners.backend import Backend
    from onnxact.check.tolerance import Given as Tolerances

__all__ = [
    "Inspection",
    "Result",
    "assert_equivalent",
    "check",
    "decompose",
    "fuse",
    "inspect",
    "swap",
    "swap_relu",
]


def inspect(model: Model, *, target: str | None = None) -> Inspection:
    """Return every activation site of the model: native ops, recognised trees, and those inside ONNX Runtime's own ops.

    target: a name as `onnxact targets` lists it, the path of a target file, or ort:cpu; then `decisions` says of each
    site whether the target runs it as it stands, and if not, which form it would get.

    Raises ModelError for a file that is no model, UsageError for an unknown target, ProviderError for one that the
    installed ONNX Runtime does not have.
    """
    source = open_source(model)
    view = View(source.proto, source.folder, recorded=source.recorded)
    found = find(view)
    skips, counts, path = tuple(found.skips), op_counts(view), str(source.path or "")
    if target is None:
        return Inspection(tuple(_sites(view, found)), skips, counts, path)
    chosen = find_target(target)
    decided, about, _ = decide(view, chosen, found)
    decisions = tuple(one for one in all_or_none(decided, lambda _: True) if one.site.activation)
    skips = tuple(uncounted(found, decisions).skips)
    sites, remarks = tuple(one.site for one in decisions), (*remarks_on(view, chosen), *about)
    return Inspection(sites, skips, counts, path, chosen.name, decisions, remarks)


def _sites(view: View, found: Found) -> list[Site]:
    """Return every site in the order of the nodes: a decomposed one as what it is, and those in ONNX Runtime's ops."""
    recorded = recorded_sites(view)
    sites = [site for site in found.sites if (site.scope.path, site.root) not in recorded]
    sites += dict.fromkeys(recorded.values())
    sites += [one.site for one in fused(view) if one.site.activation]
    sites += blocked_activations(view)
    order = {scope.path: number for number, scope in enumerate(view.scopes)}
    return sorted(sites, key=lambda site: (order[site.scope.path], site.root))


def swap(
    model: Model,
    source: str,
    to: str,
    *,
    parameters: Mapping[str, Slopes] | None = None,
    per_channel: bool = False,
    channel_axis: int = 1,
    allow_no_effect: bool = False,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
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
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
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


def decompose(
    model: Model,
    *,
    form: str | None = None,
    ops: str | Iterable[str] | None = None,
    target: str | None = None,
    partial: bool = False,
    fastest: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    session_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    allow_inexact: bool = False,
    provenance: bool = True,
    activations: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    output: str | Path | None = None,
    in_place: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Replace native activation ops by trees of primitive ops that compute the same.

    form: a form's name ("mul-max"), taken even where it is not exact. ops: the ops that may be used; activations
    whose own op is among them stay, the others get the best form: exact before inexact (which needs `allow_inexact`),
    then the fewest nodes. With neither, every activation that has an exact form is decomposed.
    target: the runtime that is to run the model, as for `inspect`; what it does not run, or runs wrongly, is written in
    the best form that it does. Forms that only round differently are taken; those that lose bits where the op loses
    none, and approximations, need `allow_inexact`. What has no form is in `left`; then a file is written only with
    `partial`.
    fastest: with target "ort:cpu" (or another provider that runs here), also put every site that the target does run
    into the form with the same bits that is fastest on this machine, as far as timing the model in both shows that the
    whole gets faster; `timing` of the result says what was measured. input_shapes (for what the model leaves open),
    session_options ({"intra_op_num_threads": 1}) and progress (what is being done, the fraction done) are for that.
    provenance: leave in each site's last node what it was, so that `fuse` restores the model to the byte.

    Raises UsageError (unknown form, op, activation, target), ModelError, ProviderError, FileConflictError.
    """
    rewrite = decomposing(
        form=form,
        ops=ops,
        target=target,
        partial=partial,
        fastest=fastest,
        allow_inexact=allow_inexact,
        provenance=provenance,
        selection=Selection(include, exclude, activations),
    )
    timed = {"input_shapes": input_shapes, "session_options": session_options}
    options = {name: value for name, value in timed.items() if value is not None}
    if options and not fastest:
        raise UsageError(
            f"{' and '.join(options)}: only fastest=True runs the model; `check` of the result has its own"
        )
    return run(rewrite, model, Writing(output, in_place, force, dry_run), options, progress)


def fuse(
    model: Model,
    *,
    parameters: Mapping[str, float] | None = None,
    every: bool = False,
    activations: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
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


def check(
    before: Model,
    after: Model,
    *,
    sites: Sequence[SiteProbe] = (),
    providers: str | Sequence[str] | None = None,
    backend: str | Backend | None = None,
    inputs: Inputs | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    val_range: ValRange | None = None,
    seeds: Sequence[int] = (0, 1),
    save_inputs: str | os.PathLike[str] | None = None,
    rtol: Tolerances = None,
    atol: Tolerances = None,
    exact: bool = False,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    session_options: Mapping[str, Any] | None = None,
    tf32: bool = False,
    folder: str | os.PathLike[str] | None = None,
    memory_budget: int = 1 << 28,
    diagnose: bool = True,
    progress: Progress | None = None,
) -> Verdict:
    """Judge whether two models, of any kind, compute the same on ONNX Runtime; see `onnxact.check.check`."""
    from onnxact.check import check as judge

    return judge(
        _runnable(before),
        _runnable(after),
        sites=sites,
        providers=providers,
        backend=backend,
        inputs=inputs,
        input_shapes=input_shapes,
        val_range=val_range,
        seeds=seeds,
        save_inputs=save_inputs,
        rtol=rtol,
        atol=atol,
        exact=exact,
        provider_options=provider_options,
        session_options=session_options,
        tf32=tf32,
        folder=folder,
        memory_budget=memory_budget,
        diagnose=diagnose,
        progress=progress,
    )


def _runnable(model: Model) -> Any:
    if isinstance(model, (str, Path, ModelProto)):
        return model
    source = open_source(model)
    if isinstance(source, FileSource):
        raise ModelError("a file is checked from its path")
    return source.proto


def assert_equivalent(
    before: Model,
    after: Model,
    *,
    sites: Sequence[SiteProbe] = (),
    providers: str | Sequence[str] | None = None,
    backend: str | Backend | None = None,
    inputs: Inputs | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    val_range: ValRange | None = None,
    seeds: Sequence[int] = (0, 1),
    save_inputs: str | os.PathLike[str] | None = None,
    rtol: Tolerances = None,
    atol: Tolerances = None,
    exact: bool = False,
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    session_options: Mapping[str, Any] | None = None,
    tf32: bool = False,
    folder: str | os.PathLike[str] | None = None,
    memory_budget: int = 1 << 28,
    diagnose: bool = True,
    progress: Progress | None = None,
) -> None:
    """Raise NotEquivalent, an AssertionError with the evidence, unless the models are shown to be equivalent.

    Options as for `check`.
    """
    verdict = check(
        before,
        after,
        sites=sites,
        providers=providers,
        backend=backend,
        inputs=inputs,
        input_shapes=input_shapes,
        val_range=val_range,
        seeds=seeds,
        save_inputs=save_inputs,
        rtol=rtol,
        atol=atol,
        exact=exact,
        provider_options=provider_options,
        session_options=session_options,
        tf32=tf32,
        folder=folder,
        memory_budget=memory_budget,
        diagnose=diagnose,
        progress=progress,
    )
    verdict.raise_unless_equivalent()
