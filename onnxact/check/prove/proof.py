"""(activation, forms, parameters, dtype, provider) -> Proof: every bit pattern is tried, and the results are judged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from onnxact.activation.catalog import Form
from onnxact.check.prove import asked
from onnxact.check.prove.ends import try_ends
from onnxact.check.prove.engine import Engine
from onnxact.check.prove.findings import Found, form_proof, run_specials, versions
from onnxact.check.prove.judge import Side
from onnxact.check.prove.model import Subject, op_name
from onnxact.check.prove.notes import rounding_notes
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.place import Place, place_named
from onnxact.check.prove.result import Outcome, Proof
from onnxact.check.prove.running import (
    BLOCK,
    EXAMINED_BLOCK,
    SAMPLED_BLOCK,
    Contest,
    Done,
    Progress,
    Task,
    carry_out,
    usable_threads,
)
from onnxact.errors import ProviderError, UsageError
from onnxact.rewrite.choose import is_exact

Against = Literal["op", "reference"]
OP = "op"
_OLDEST_OPSET = 7


class ProofInterrupted(KeyboardInterrupt):
    """Ctrl-C during a proof. `proof` says what was covered until then; its outcome is never "proven"."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(f"stopped after {proof.inputs:,} of {proof.total:,} inputs")
        self.proof = proof


def prove(
    activation: str,
    form: str | Sequence[str] = "all",
    *,
    parameters: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    provider: str = "cpu",
    against: Against | None = None,
    sample: bool = False,
    opset: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Try every input of a dtype in a form of an activation and in its native op, on a provider, and compare the bits.

    form: a name, several, or "all". parameters: what is not given has ONNX's default; prelu's slope may be a sequence,
    one slope a channel, and then every input is tried with each. They are rounded to the dtype first, as the catalogue
    has it. provider: of ONNX Runtime, or "numpy" for the forms evaluated op by op in the dtype. against: "op", or
    "reference", the activation's meaning rounded once; by default the op where the provider runs it. The op itself is
    held against the reference. sample: a stated sample in place of every input; always so for float64. opset: by
    default the newest that ONNX Runtime takes.

    A form that is exact for these parameters keeps its class where it has the op's bits, but for the special values and
    signs of zero that its row declares; any other where every result lies in `rounding.enclosure`. Graph optimisation
    is off, so that no form is fused into the op's own kernel.

    Raises UsageError for names, parameters or forms that do not fit, ProviderError where the provider is not to be had
    or runs none of the forms, ProofInterrupted (a KeyboardInterrupt) with what was covered.
    """
    asked.demand_sense(provider, against, opset, threads)
    row, place = asked.activation_named(activation), place_named(provider)
    held = asked.parameters_held(row, parameters or {}, asked.dtype_named(dtype))
    subject = Subject(row, held, dtype, _opset(place, opset))
    runs, left_out = _sorted(subject, place, asked.forms_named(row, form))
    if not runs:
        raise _none(subject, left_out)
    op, note = _op(subject, place, against, runs)
    notes = (note, *rounding_notes(subject, place, parameters or {}))
    plan = _Plan(subject, place, runs, op, left_out, tuple(filter(None, notes)))
    return _carried_out(plan, _Effort(sample, usable_threads() if threads is None else threads, progress))


class _LeftOut(NamedTuple):
    """A form that is not proven. `provider`: because the provider does not run it."""

    form: str
    reason: str
    provider: bool = False


class _Effort(NamedTuple):
    """How much is tried, and by how many threads."""

    sample: bool
    threads: int
    progress: Progress | None


@dataclass(frozen=True)
class _Plan:
    """The forms that run, and the op that they are held against, if they are."""

    subject: Subject
    place: Place
    runs: Mapping[str, Form]
    op: Form | None
    left_out: tuple[_LeftOut, ...]
    notes: tuple[str, ...]

    @cached_property
    def outputs(self) -> dict[str, Form]:
        """What an engine computes."""
        return {**({} if self.op is None else {OP: self.op}), **self.runs}

    @cached_property
    def contests(self) -> dict[str, Contest]:
        """What each form is held against; the op itself, against the reference."""
        subject = self.subject
        sides = {
            name: Side(form, index, is_exact(form, subject.bound, subject.dtype))
            for index, (name, form) in enumerate(self.outputs.items())
        }
        op = sides[OP] if self.op is not None else None
        return {name: Contest(sides[name], None if name == OP else op) for name in self.runs}

    @cached_property
    def compares(self) -> bool:
        """Whether most calls are only asked whether two outputs are the same."""
        return all(contest.pair is not None for contest in self.contests.values())

    def engine(self) -> Engine:
        """Return an engine for all of them."""
        return self.place.engine(self.subject, self.outputs, compares=self.compares)

    def task(self, call: int, *, sample: bool) -> Task:
        """Return what is to be tried, in blocks that are multiples of a call."""
        space = Space(self.subject.dtype)
        patterns = space.sample() if sample or space.width == 64 else None
        block = SAMPLED_BLOCK if patterns is not None else BLOCK if self.compares else EXAMINED_BLOCK
        return Task(self.subject, self.contests, self.engine, call, patterns, max(block, call))


def _opset(place: Place, opset: int | None) -> int:
    newest = place.newest_opset()
    if opset is not None and not _OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"opset {opset}: {place.name} takes {_OLDEST_OPSET} to {newest}")
    return newest if opset is None else opset


def _sorted(subject: Subject, place: Place, forms: Mapping[str, Form]) -> tuple[dict[str, Form], tuple[_LeftOut, ...]]:
    """Return the forms that run, and why the others do not."""
    runs: dict[str, Form] = {}
    left_out: list[_LeftOut] = []
    for name, form in forms.items():
        if refused := asked.refusal(subject, form):
            left_out.append(_LeftOut(name, refused))
        elif problem := place.problem(subject, name, form):
            left_out.append(_LeftOut(name, problem, provider=True))
        else:
            runs[name] = form
    return runs, tuple(left_out)


def _none(subject: Subject, left_out: Sequence[_LeftOut]) -> UsageError | ProviderError:
    """Return the error for nothing to prove: the provider's fault where it alone stands in the way of a form."""
    by_reason: dict[str, list[str]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(item.form)
    reasons = "; ".join(f"{', '.join(forms)}: {reason}" for reason, forms in by_reason.items())
    text = f"{subject.activation.spelled} {reasons}"
    if any(item.provider for item in left_out):
        return ProviderError(f"{text}; provider numpy evaluates forms op by op in any dtype")
    return UsageError(text)


def _op(subject: Subject, place: Place, against: Against | None, runs: Mapping[str, Form]) -> tuple[Form | None, str]:
    """Return the op that the forms are held against, or None and a note that says why not."""
    row = subject.activation
    form = row.forms.get(OP)
    if against == "reference" or set(runs) == {OP}:
        return None, ""
    missing = f"ONNX has no op for {row.spelled}" if form is None else asked.refusal(subject, form)
    problem = place.problem(subject, OP, form) if form is not None and not missing else ""
    if form is not None and not missing and not problem:
        return form, ""
    if against == "op":
        reason = f"{row.spelled} op: {missing or problem}"
        raise UsageError(reason) if missing else ProviderError(reason)
    return None, f"held against the reference rounded once, as the op is not to be had: {missing or problem}"


def _carried_out(plan: _Plan, effort: _Effort) -> Proof:
    """Try the inputs, and say what was found; raises ProofInterrupted with the same."""
    subject, first = plan.subject, plan.engine()
    specials = run_specials(subject, first, len(plan.outputs))
    short = plan.place.short_engine(subject, plan.outputs)
    ends = None if short is None else try_ends(subject, plan.contests, len(plan.outputs), short, first)
    task = plan.task(first.length, sample=effort.sample)
    started = time.perf_counter()
    done = carry_out(task, effort.threads, effort.progress)
    seconds = time.perf_counter() - started
    outcome = _outcome(task, done)
    found = Proof(
        activation=subject.activation.name,
        parameters=subject.parameters,
        dtype=subject.dtype,
        provider=plan.place.name,
        opset=subject.opset,
        op=op_name(subject.activation, subject.opset),
        inputs=done.inputs,
        total=Space(subject.dtype).total,
        lanes=subject.lanes,
        forms=tuple(
            form_proof(subject, name, Found(contest, done.tallies[name], outcome), specials, ends)
            for name, contest in plan.contests.items()
        ),
        left_out=tuple((item.form, item.reason) for item in plan.left_out),
        threads=done.threads,
        seconds=seconds,
        versions=versions(plan.place.name),
        notes=plan.notes,
    )
    if done.interrupted:
        raise ProofInterrupted(found)
    return found


def _outcome(task: Task, done: Done) -> Outcome:
    """Return what to say of a form that nothing was found against."""
    if done.interrupted or done.inputs < task.size:
        return "interrupted"
    return "proven" if task.size == Space(task.subject.dtype).total else "not refuted"
