"""Every site on its own: the values around its kinks through PyTorch's operators and through ONNX Runtime.

x = kink +- 0.001 .. kink +- 10   ->   torch.ops.aten.leaky_relu(x, 0.2)   ==   LeakyRelu(x), optimisation off and on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.rounding import limits, unit_roundoff
from onnxact.check.alone import ELEM_TYPES
from onnxact.check.compare import compare
from onnxact.check.knowledge import Knowledge
from onnxact.check.session import RunFailure, open_session, run_session
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.site_part import Part, common_shape, cut_out, joined
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import OutputEvidence, Run
from onnxact.export.eager import to_array, to_tensor
from onnxact.export.sites import Located
from onnxact.export.tracing import Trace

Array = npt.NDArray[Any]
ROUNDOFFS: Mapping[str, float] = {"float32": 64, "float64": 64, "float16": 16, "bfloat16": 16}
"""How far a site may be from PyTorch, in unit roundoffs u of the dtype: |difference| <= k u (1 + |y|).

Measured for all activations of torch.nn at |x| <= 10 (torch 2.13, ONNX Runtime 1.31.1, CPU): at most 11 u in float32,
where oneDNN's GELU is the furthest, and 12 u in float16. A kernel of another function is off by far more.
"""
_DISTANCES = 128
_LARGEST_CONSTANT = 1 << 12


@dataclass(frozen=True)
class Tried:
    """What a site did on its own: "" where it could not be tried, "same", or how it differs from PyTorch.

    `notes`: what differs at NaN, infinities and the largest numbers, where PyTorch's kernels do not agree with each
    other either.
    """

    text: str = ""
    max_u: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether PyTorch and ONNX Runtime gave the same on both sides of every kink."""
        return self.text == "same"


@dataclass(frozen=True)
class _Trial:
    """One site, what goes into it, and what PyTorch makes of that."""

    probe: SiteProbe
    part: Part
    x: Array
    expected: Array
    special: int


def try_alone(sites: Sequence[Located], known: Knowledge, trace: Trace, provider: str) -> dict[SiteProbe, Tried]:
    """Try every site whose values PyTorch's program has, all in one session."""
    trials = [trial for site in sites if (trial := _trial(site, known, trace)) is not None]
    found: dict[SiteProbe, Tried] = {}
    for optimise in (False, True):
        outputs = _outputs(trials, known, provider, optimise=optimise)
        if outputs is None:
            continue
        for trial, y in zip(trials, outputs, strict=True):
            found[trial.probe] = _worse(found.get(trial.probe), _judged(trial, y, provider, optimise=optimise))
    return found


def _trial(site: Located, known: Knowledge, trace: Trace) -> _Trial | None:
    instances = known.placed[0].instances.get(site.probe, ())
    dtype = known.dtype(site.probe)
    if site.x is None or site.y is None or not instances or dtype not in ELEM_TYPES:
        return None
    part = cut_out(instances[0])
    if isinstance(part, str) or part.foreign:
        return None
    shape = common_shape((part,))
    if shape is None or int(np.prod(shape)) > _LARGEST_CONSTANT:
        return None
    special, plain = _special(dtype), _around(site.probe.kinks, dtype)
    points = np.concatenate([plain, special])
    x = np.ascontiguousarray(
        np.broadcast_to(points.reshape(-1, *(1 for _ in _tail(shape))), (len(points), *_tail(shape)))
    )
    expected = _in_torch(site, trace, x)
    return None if expected is None else _Trial(site.probe, part, x, expected, len(special))


def _in_torch(site: Located, trace: Trace, x: Array) -> Array | None:
    assert site.x is not None
    assert site.y is not None
    try:
        value = trace.apply(site.x, site.y, to_tensor(x, torch.device("cpu")))
    except Exception:  # noqa: BLE001 - an operator that does not take another shape cannot be tried alone
        return None
    return None if value is None or value.numel() != x.size else to_array(value).reshape(x.shape)


def _outputs(trials: Sequence[_Trial], known: Knowledge, provider: str, *, optimise: bool) -> list[Array] | None:
    if not trials:
        return None
    types = [int(ELEM_TYPES[trial.x.dtype.name]) for trial in trials]
    subject = joined(known.placed[0].subject, [trial.part for trial in trials], types)
    session = open_session(subject, provider, optimise=optimise)
    if isinstance(session, RunFailure):
        return None
    found = run_session(session, {f"x{number}": trial.x for number, trial in enumerate(trials)})
    return None if isinstance(found, RunFailure) else [np.asarray(value) for value in found.values()]


def _judged(trial: _Trial, y: Array, provider: str, *, optimise: bool) -> Tried:
    """Compare the ordinary points; of the special ones, say what differs."""
    ends = len(trial.x) - trial.special
    room = ROUNDOFFS[trial.x.dtype.name] * float(unit_roundoff(trial.x.dtype))
    run = Run("on its own", provider, optimise)
    allowed = Tolerance(room, room)
    (found,) = compare(trial.probe.node, run, trial.expected[:ends], y[:ends], tolerance=allowed, noise={})
    notes = tuple(_special_notes(trial, y, ends))
    if found.outcome == "equivalent":
        return Tried("same", found.max_u, notes)
    return Tried(_difference(trial, found, optimise=optimise), found.max_u, notes)


def _difference(trial: _Trial, found: OutputEvidence, *, optimise: bool) -> str:
    level = f"optimisation {'on' if optimise else 'off'}"
    if not found.worst_index:
        return f"differs: {found.reason} ({level})"
    x = float(trial.x[found.worst_index])
    return f"differs: at {x:g} PyTorch gives {found.worst_before}, ONNX Runtime {found.worst_after} ({level})"


def _special_notes(trial: _Trial, y: Array, start: int) -> list[str]:
    x, expected, given = (item[start:].reshape(trial.special, -1) for item in (trial.x, trial.expected, y))
    with np.errstate(invalid="ignore"):
        same = (expected == given) | (np.isnan(expected) & np.isnan(given))
        close = np.isfinite(expected.astype(np.float64)) & np.isfinite(given.astype(np.float64))
    odd = np.flatnonzero(~(same | close).all(axis=1))
    return [
        f"at {float(x[at, 0]):g} PyTorch gives {float(expected[at, 0]):g}, ONNX Runtime {float(given[at, 0]):g}"
        for at in odd
    ]


def _worse(first: Tried | None, second: Tried) -> Tried:
    if first is None:
        return second
    worst = first if not first.is_same else second
    return Tried(worst.text, max(first.max_u, second.max_u), tuple(dict.fromkeys((*first.notes, *second.notes))))


def _around(kinks: Sequence[float], dtype: str) -> Array:
    """Return distances from 0.001 to 10 to both sides of every kink, or of 0 where there is none; and the kinks."""
    distance = np.geomspace(1e-3, 10, _DISTANCES)
    places = kinks or (0.0,)
    sides = [kink + sign * distance for kink in places for sign in (1, -1)]
    return rounded(np.concatenate([*sides, np.array(places)]), FLOATS[dtype])


def _special(dtype: str) -> Array:
    info = limits(FLOATS[dtype])
    ends = [float(info.smallest_subnormal), float(info.smallest_normal), float(info.max)]
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, *ends, *(-end for end in ends)]
    return np.array(values).astype(FLOATS[dtype])


def _tail(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape[:1] == (1,) else shape
