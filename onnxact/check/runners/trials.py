"""A site of `after`, cut out, on a backend; the same site of `before`, cut out, on ONNX Runtime -> how far apart.

before: x -> [Softplus] -> y        on ONNX Runtime        x: [-100, 100] in even steps, both sides of every kink
after:  x -> [Relu, Log, ...] -> y  on the backend
        apart by rtol |y| + 8 u max(1, |x|) + error of the form at most

rtol is that of outputs (see compare). 8 u is for what forms lose to cancellation, Exp(x) - 1 near 0 for one, and for
kernels that are not rounded correctly: tract 0.23.9 has a Tanh that is 10 u from -1 at x = -100, so that 0.5 x (1 +
Tanh) is 5 u |x| from 0; the other runtimes of docs/runtimes.md need less. Beyond 100 nothing is asked: what a network
lets in there is seen in its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, shape_inference

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import rounded
from onnxact.activation.rounding import unit_roundoff
from onnxact.check.alone import ELEM_TYPES
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.knowledge import Knowledge
from onnxact.check.points import ordinary_points
from onnxact.check.runners.backend import Backend
from onnxact.check.session import RunFailure, open_session, run_session
from onnxact.check.site_evidence import Meaning, SiteProbe
from onnxact.check.site_part import Part, common_shape, cut_out, joined
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.words import counted

Array = npt.NDArray[Any]

FURTHEST = 100.0
_STEPS = 4096
_ELEMENTS = 1 << 15
_LARGEST_CONSTANT = 1 << 12
_ROUNDOFFS = 8.0


@dataclass(frozen=True)
class Trial:
    """What came of one site: "same", "differs: ..." or "not run: ...", over `elements`, at most `largest` apart."""

    text: str
    elements: int = 0
    largest: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether the site is another function on the backend."""
        return self.text.startswith("differs")


@dataclass(frozen=True)
class _Job:
    parts: tuple[Part, Part]
    x: Array
    shape: tuple[int, ...]
    error: float

    @property
    def key(self) -> tuple[Any, ...]:
        return self.parts[0].key, self.parts[1].key, self.x.shape, self.x.dtype.name, self.error


def try_sites(known: Knowledge, backend: Backend, tolerance: Tolerance) -> dict[SiteProbe, Trial]:
    """Try every site that is in both models; those that are computed alike are one trial."""
    jobs: dict[SiteProbe, _Job | Trial] = {probe: _job(known, probe) for probe in known.probes if not probe.only_in}
    distinct = {job.key: job for job in jobs.values() if isinstance(job, _Job)}
    trier = _Trier(known.before, known.after, backend, tolerance)
    found = dict(zip(distinct, trier.run(list(distinct.values())), strict=True))
    return {probe: found[job.key] if isinstance(job, _Job) else job for probe, job in jobs.items()}


@dataclass(frozen=True)
class _Trier:
    before: Subject
    after: Subject
    backend: Backend
    tolerance: Tolerance

    def run(self, jobs: Sequence[_Job]) -> list[Trial]:
        """All in one model; where that fails, in halves."""
        if not jobs:
            return []
        expected, actual = _on_onnxruntime(self.before, jobs), _on_backend(self.after, jobs, self.backend)
        if not isinstance(expected, RunFailure) and not isinstance(actual, RunFailure):
            return [self._judged(*item) for item in zip(jobs, expected, actual, strict=True)]
        if len(jobs) == 1:
            failed = actual if isinstance(actual, RunFailure) else expected
            return [Trial(f"not run: it {failed}")]
        middle = len(jobs) // 2
        return [*self.run(jobs[:middle]), *self.run(jobs[middle:])]

    def _judged(self, job: _Job, expected: Array, actual: Array) -> Trial:
        if expected.shape != actual.shape or expected.dtype != actual.dtype:
            shapes = (f"{item.dtype}{list(item.shape)}" for item in (expected, actual))
            return Trial(f"differs: {' before, '.join(shapes)} after", job.x.size)
        x, first, second = (item.astype(np.float64) for item in (job.x, expected, actual))
        with np.errstate(all="ignore"):
            apart = np.abs(second - first)
            outside = ~((apart <= self._room(job, x, first)) | (np.isnan(first) & np.isnan(second)) | (first == second))
        largest = float(np.max(np.where(np.isnan(apart), np.inf, apart), initial=0.0))
        if not outside.any():
            return Trial("same", job.x.size, largest)
        return Trial(f"differs: {_worst(x, first, second, outside)}", job.x.size, largest)

    def _room(self, job: _Job, x: Array, expected: Array) -> Array:
        if not self.tolerance.is_default:
            return np.asarray((self.tolerance.atol or 0.0) + (self.tolerance.rtol or 0.0) * np.abs(expected))
        rounding = _ROUNDOFFS * unit_roundoff(job.x.dtype) * np.maximum(1.0, np.abs(x))
        return np.asarray(DEFAULT_RTOL[job.x.dtype.name] * np.abs(expected) + rounding + job.error)


def _job(known: Knowledge, probe: SiteProbe) -> _Job | Trial:
    dtype = known.dtype(probe)
    if dtype not in ELEM_TYPES:
        return Trial("not run: its type is not known to be a floating one")
    parts: list[Part] = []
    for placed in known.placed:
        instances = placed.instances.get(probe, ())
        if len(instances) != 1:
            return Trial(f"not run: it is computed in {len(instances)} places")
        part = cut_out(instances[0])
        if isinstance(part, str):
            return Trial(f"not run: {part}")
        if part.foreign:
            return Trial(f"not run: {part.foreign} is not known to work element by element")
        parts.append(part)
    shape = common_shape(parts)
    if shape is None or int(np.prod(shape)) > _LARGEST_CONSTANT:
        return Trial("not run: its constants are too large, or do not go together")
    x = _points(probe.kinks, dtype, shape)
    return _Job((parts[0], parts[1]), x, np.broadcast_shapes(x.shape, shape), _error(probe.after))


def _error(meaning: Meaning | None) -> float:
    """How far the form of `after` is from its activation, where it is one of another function."""
    if meaning is None or not meaning.form:
        return 0.0
    return float(find_form(ACTIVATIONS[meaning.activation], meaning.form).error)


def _points(kinks: tuple[float, ...], dtype: str, shape: tuple[int, ...]) -> Array:
    """[1, 1, points, 1], or [points, *shape] of constants with more than one element."""
    steps = rounded(np.linspace(-FURTHEST, FURTHEST, _STEPS + 1), ordinary_points(kinks, dtype).dtype)
    others = ordinary_points(kinks, dtype)
    near = others[np.abs(others.astype(np.float64)) <= FURTHEST]
    width = int(np.prod(shape))
    points = np.concatenate([steps, near])
    if width == 1:
        return np.ascontiguousarray(points.reshape(1, 1, -1, 1))
    tail = shape[1:] if shape[:1] == (1,) else shape
    chosen = points[:: max(1, points.size * width // _ELEMENTS)]
    spread = np.broadcast_to(chosen.reshape(-1, *(1 for _ in tail)), (chosen.size, *tail))
    return np.ascontiguousarray(spread)


def _model(subject: Subject, jobs: Sequence[_Job], side: int) -> Subject:
    """All parts as one model, with the shapes and types that many runtimes need."""
    found = joined(subject, [job.parts[side] for job in jobs], [ELEM_TYPES[job.x.dtype.name] for job in jobs])
    graph = found.model.graph
    del graph.input[:], graph.output[:]
    for number, job in enumerate(jobs):
        elem_type = ELEM_TYPES[job.x.dtype.name]
        graph.input.append(helper.make_tensor_value_info(f"x{number}", elem_type, job.x.shape))
        graph.output.append(helper.make_tensor_value_info(f"y{number}", elem_type, job.shape))
    return replace(found, model=shape_inference.infer_shapes(found.model))


def _fed(jobs: Sequence[_Job]) -> Mapping[str, Array]:
    return {f"x{number}": job.x for number, job in enumerate(jobs)}


def _on_onnxruntime(subject: Subject, jobs: Sequence[_Job]) -> list[Array] | RunFailure:
    session = open_session(_model(subject, jobs, 0), "cpu", optimise=False, threads=1)
    found = session if isinstance(session, RunFailure) else run_session(session, _fed(jobs))
    return found if isinstance(found, RunFailure) else list(found.values())


def _on_backend(subject: Subject, jobs: Sequence[_Job], backend: Backend) -> list[Array] | RunFailure:
    opened = backend.open(_model(subject, jobs, 1))
    found = opened if isinstance(opened, RunFailure) else opened.run(_fed(jobs))
    return found if isinstance(found, RunFailure) else list(found.values())


def _worst(x: Array, expected: Array, actual: Array, outside: npt.NDArray[np.bool_]) -> str:
    with np.errstate(all="ignore"):
        apart = np.where(outside, np.abs(actual - expected), -1.0)
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(apart), np.inf, apart))), apart.shape)
    entered = float(np.broadcast_to(x, apart.shape)[at])
    count = f"{int(outside.sum())} of {outside.size} elements"
    return f"at x = {entered:.6g}: {float(expected[at]):.9g} before, {float(actual[at]):.9g} after; {count}"


def described(trials: Mapping[SiteProbe, Trial], backend: Backend) -> Iterator[str]:
    """What a reader should know of the sites: how many ran, how far off they were at most, and why others did not."""
    same = [trial for trial in trials.values() if trial.text == "same"]
    if same:
        largest = max(trial.largest for trial in same)
        ran = f"{counted(len(same), 'site')} cut out and run on {backend.title} over [-100, 100]"
        yield f"{ran}: at most {largest:.3g} from before"
    reasons = dict.fromkeys(trial.text for trial in trials.values() if trial.text.startswith("not run"))
    for reason in reasons:
        count = sum(trial.text == reason for trial in trials.values())
        yield f"{counted(count, 'site')} not run on {backend.title} on its own: {reason.removeprefix('not run: ')}"
