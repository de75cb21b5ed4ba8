"""The laws of DESIGN.md as functions: an experiment (one verb on one model) -> its violations, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, NodeProto

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model.edit import apply
from onnxact.model.view import View
from onnxact.results import Result
from onnxact.rewrite import reference
from onnxact.rewrite.draft import Change
from tests.laws import runtime
from tests.laws.differ import Named, all_names, differences

Options = Mapping[str, Any]
NATIVE_OPS = frozenset(row.native.op for row in ACTIVATIONS.values() if row.native is not None)


@dataclass(frozen=True)
class Verb:
    """A verb with its options. `decomposes`: fuse undoes it; `keeps_meaning`: the outputs stay what they were."""

    label: str
    function: Callable[..., Result]
    options: Options = field(default_factory=dict)
    keeps_meaning: bool = True

    def __call__(self, model: ModelProto | Path) -> Result:
        return self.function(model, **self.options, dry_run=True)

    @property
    def decomposes(self) -> bool:
        return self.function is onnxact.decompose


def _decompose(label: str, **options: Any) -> Verb:
    return Verb(label, onnxact.decompose, options)


VERBS = {
    verb.label: verb
    for verb in (
        Verb("swap-relu", onnxact.swap_relu, {"alpha": 0.2}, keeps_meaning=False),
        Verb("swap-relu-prelu", onnxact.swap_relu, {"to": "prelu", "per_channel": True}, keeps_meaning=False),
        Verb("swap-relu-gelu", onnxact.swap_relu, {"to": "gelu"}, keeps_meaning=False),
        _decompose("decompose"),
        _decompose("decompose-inexact", allow_inexact=True),
        _decompose("decompose-ops", ops=("Mul", "Add", "Sub", "Abs", "Max", "Min", "Exp", "Log", "Div", "Neg", "Tanh")),
        _decompose("decompose-mul-abs-add", form="mul-abs-add"),
        _decompose("decompose-relu-neg", form="relu-neg"),
        _decompose("decompose-where", form="where"),
        Verb("fuse", onnxact.fuse),
        Verb("fuse-every", onnxact.fuse, {"every": True}),
    )
}


class Subject:
    """A model and what is true of it before anything is done. `path` where it has to be read from its file.

    runs: whether it is small enough for ONNX Runtime to compute it in a test.
    """

    def __init__(self, model: ModelProto, path: Path | None = None, *, runs: bool = True) -> None:
        self.model = model
        self.path = path
        self.runs = runs
        self.folder = str(path.parent) if path else ""
        self.bytes = model.SerializeToString(deterministic=True)

    @cached_property
    def refused(self) -> str:
        """What onnx.checker says against the model."""
        return refused(self.model)

    @cached_property
    def session(self) -> Any:
        """An ONNX Runtime session, None where it does not load."""
        return runtime.session(self.model, self.folder)[0] if self.runs else None

    @cached_property
    def computed(self) -> tuple[runtime.Feeds, list[Any]] | None:
        """Inputs and outputs; None where it does not run, or not twice the same."""
        try:
            feeds = runtime.feeds_for(self.model, self.session)
        except (TypeError, ValueError):
            return None
        outputs, _ = runtime.run(self.session, feeds)
        again, _ = runtime.run(self.session, feeds)
        if outputs is None or again is None or any(map(runtime.unequal, outputs, again)):
            return None
        return feeds, outputs


class Experiment:
    """One verb on one model."""

    def __init__(self, subject: Subject, verb: Verb) -> None:
        self.subject = subject
        self.before = subject.model
        self.verb = verb
        self.argument = subject.path or subject.model

    @cached_property
    def result(self) -> Result:
        return self.verb(self.argument)

    @property
    def after(self) -> ModelProto:
        return self.result.proto

    @cached_property
    def sites(self) -> dict[str, Named]:
        """What the result says it has edited, by scope."""
        named: dict[str, Named] = {}
        for change in self.result.sites:
            old = named.get(change.site.scope.path, Named())
            named[change.site.scope.path] = Named(old.roots | {change.site.root}, old.nodes | set(change.site.nodes))
        return named

    @cached_property
    def rewritten(self) -> tuple[Any, str]:
        return runtime.session(self.after, self.subject.folder)


def lossless(experiment: Experiment) -> Iterator[str]:
    """Every message that no edit names keeps its bytes; the argument keeps all; nothing to do changes nothing."""
    result = experiment.result
    if experiment.before.SerializeToString(deterministic=True) != experiment.subject.bytes:
        yield "the argument was changed"
    if not result.changed:
        if experiment.after.SerializeToString(deterministic=True) != experiment.subject.bytes:
            yield "nothing was rewritten, and yet something changed"
        return
    yield from differences(experiment.before, experiment.after, experiment.sites)


def names(experiment: Experiment) -> Iterator[str]:
    """The interface and all node names stay; the site's last node keeps name and output; new names are new."""
    if not experiment.result.changed:
        return
    before, after = experiment.before.graph, experiment.after.graph
    for kind in ("input", "output"):
        if [v.name for v in getattr(before, kind)] != [v.name for v in getattr(after, kind)]:
            yield f"graph {kind}s changed"
    yield from _lost(experiment)
    old = set(all_names(experiment.before))
    new = [name for name in _defined(experiment.after) if name not in old]
    clashes = [name for name, count in Counter(new).items() if count > 1]
    if clashes:
        yield f"new names are used twice: {sorted(clashes)[:3]}"
    for scope in View(experiment.after).scopes:
        unnamed = [node.op_type for node in scope.nodes if not node.name and not old.intersection(node.output)]
        if unnamed:
            yield f"new nodes without a name: {unnamed[:3]}"


def _lost(experiment: Experiment) -> Iterator[str]:
    """Name the nodes that are not there any more under their name and outputs, inner ones and constants left out."""
    for before, after in zip(View(experiment.before).scopes, View(experiment.after).scopes, strict=True):
        edited = experiment.sites.get(before.path, Named())
        kept = Counter((node.name, tuple(node.output)) for node in after.nodes)
        for index, node in enumerate(before.nodes):
            inner = index in edited.nodes and index not in edited.roots
            goes = inner or (node.output and before.constant(node.output[0]) is not None)
            if not goes and not kept[node.name, tuple(node.output)]:
                yield f"{before.path or 'main graph'}: {node.op_type} {node.name!r} lost its name or its output"


def _defined(model: ModelProto) -> Iterator[str]:
    for scope in View(model).scopes:
        for node in scope.nodes:
            yield from node.output
        yield from scope.initializers


def deterministic(experiment: Experiment) -> Iterator[str]:
    """The same input and options give the same bytes and the same report."""
    again = experiment.verb(experiment.argument)
    if again.proto.SerializeToString() != experiment.after.SerializeToString():
        yield "a second run gave other bytes"
    if str(again.to_json()) != str(experiment.result.to_json()):
        yield "a second run gave another report"


def round_trip(experiment: Experiment) -> Iterator[str]:
    """fuse(decompose(m)) == m, byte for byte."""
    if not experiment.verb.decomposes or not experiment.result.changed:
        return
    fused = onnxact.fuse(experiment.after)
    if fused.proto.SerializeToString(deterministic=True) != experiment.subject.bytes:
        why = [skip.reason for skip in fused.skipped if "decomposed by onnxact" in skip.reason]
        yield f"fuse(decompose(m)) is not m: {why[:2] or differences(experiment.before, fused.proto, {})[:2]}"


def idempotent(experiment: Experiment) -> Iterator[str]:
    """Doing it twice is doing it once."""
    if experiment.result.changed and experiment.subject.path is None:
        twice = experiment.verb(experiment.after)
        if twice.changed:
            kinds = {f"{c.site.activation} ({c.site.form}) -> {c.activation} ({c.form})" for c in twice.sites}
            yield f"the second time it does {sorted(kinds)[:3]}"


def valid(experiment: Experiment) -> Iterator[str]:
    """What passed onnx.checker passes; what ONNX Runtime loads it loads, or the check says that it does not.

    An op without a kernel is no reason to write nothing else, but never to call the result anything but different.
    """
    if not experiment.result.changed:
        return
    if not experiment.subject.refused and (reason := refused(experiment.after)):
        yield f"onnx.checker: {reason}"
    if experiment.subject.session is not None:
        loaded, reason = experiment.rewritten
        if loaded is None and not runtime.lacks_kernel(reason):
            yield f"ONNX Runtime: {reason}"
        if loaded is None and (outcome := experiment.result.check(providers=["cpu"]).outcome) != "different":
            yield f"does not load any more, and the check says {outcome}: {reason}"


def refused(model: ModelProto) -> str:
    """Return what onnx.checker says against the model."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001 - ValidationError, and what else the checker's C++ raises
        return str(error).splitlines()[0]
    return ""


def nothing_silent(experiment: Experiment) -> Iterator[str]:
    """Every native activation op is a site, part of a larger site, or skipped with a reason."""
    result = experiment.result
    yield from (f"a skip of {skip.node!r} without a reason" for skip in result.skipped if not skip.reason)
    if experiment.verb.label != "decompose-inexact":
        return
    told = {(skip.scope, skip.node) for skip in result.skipped}
    done = {(c.site.scope.path, index) for c in result.sites for index in c.site.nodes}
    for scope in View(experiment.before).scopes:
        for index, node in enumerate(scope.nodes):
            if _is_activation(node) and (scope.path, index) not in done and (scope.path, node.name) not in told:
                yield f"{scope.path or 'main graph'}: {node.op_type} {node.name!r} is neither rewritten nor skipped"


def _is_activation(node: NodeProto) -> bool:
    """Tell whether a node is an activation's op, used as ONNX says: no integer for a float, and an output."""
    whole = len(node.output) == 1 and not any(attribute.type == AttributeProto.INT for attribute in node.attribute)
    return whole and node.op_type in NATIVE_OPS and node.domain in ("", "ai.onnx")


def numerics(experiment: Experiment) -> Iterator[str]:
    """What is declared exact gives the same bits on ONNX Runtime without optimisation; a swap, as in another form."""
    changes = experiment.result.sites
    if not changes or experiment.subject.session is None or any(map(_rounds_parameter, changes)):
        return
    if experiment.verb.keeps_meaning:
        if all(change.exact for change in changes):
            yield from _compared(experiment, experiment.subject)
    elif all(change.activation in PIECEWISE_LINEAR for change in changes):
        other = in_another_form(experiment)
        if other is not None:
            yield from _compared(experiment, other)


PIECEWISE_LINEAR = {"relu", "relu6", "clip", "leaky_relu", "prelu", "thresholded_relu"}


def _rounds_parameter(change: Change) -> bool:
    """Tell whether a parameter is no number of the tensor's dtype.

    Then ONNX Runtime's own op, which takes it as float32, is not what ONNX's function body computes.
    """
    numbers = [value for value in change.parameters.values() if isinstance(value, float)]
    dtype = FLOATS[change.site.dtype or "float32"]
    return any(float(rounded(number, dtype)) != number for number in numbers)


def in_another_form(experiment: Experiment) -> Subject | None:
    """Return the original with every swapped site in another exact form, None where there is none."""
    model = ModelProto()
    model.CopyFrom(experiment.before)
    view = View(model, experiment.subject.path.parent if experiment.subject.path else None)
    plan = reference.plan(view, experiment.result.sites)
    if plan.roots < len(experiment.result.sites):
        return None
    apply(view, plan)
    return Subject(model, experiment.subject.path)


def _compared(experiment: Experiment, other: Subject) -> Iterator[str]:
    running = experiment.rewritten[0]
    if other.session is None or running is None or other.computed is None:
        return
    feeds, expected = other.computed
    actual, reason = runtime.run(running, feeds)
    if actual is None:
        yield f"ran before, and now: {reason}"
        return
    for value, wanted, given in zip(experiment.before.graph.output, expected, actual, strict=True):
        difference = runtime.unequal(wanted, given)
        if difference:
            yield f"output {value.name!r}: {difference}"


LAWS: dict[str, Callable[[Experiment], Iterator[str]]] = {
    law.__name__: law
    for law in (lossless, names, deterministic, round_trip, idempotent, valid, nothing_silent, numerics)
}


def violations(subject: Subject, verb: Verb) -> list[str]:
    """Return everything in which a verb on this model breaks a law."""
    experiment = Experiment(subject, verb)
    return [f"{verb.label}: {name}: {line}" for name, law in LAWS.items() for line in law(experiment)]
