"""(output of before, output of after) -> OutputEvidence: are they the same, and if not, by how much.

Bits first. Floating values whose bits differ are held against NumPy's rule

    |after - before| <= atol + rtol * |before|

and, where the caller set neither rtol nor atol, against the noise floor of `before`. NaN has to meet NaN (payloads are
not compared) and an infinity the same infinity. Integers, bools, strings and complex numbers have to be equal.

The defaults, in unit roundoffs u of the dtype: rtol = 256 u for float32 and double, 8 u for float16, 4 u for bfloat16,
and atol = rtol * scale, scale being the root mean square of the finite elements of `before`. That is from the 72 corpus
models that run (ONNX Runtime 1.31.1, CPU, two seeds), measured as the largest |difference| / (|before| + scale): with
optimisation switched, 46 do not move and 66 by less than 256 u (median 11 u where they move; the rest 468 u to 6e7 u);
with LeakyRelu written as Mul, Abs, Add, 36 of 39 move by less than 256 u (median 4 u). float16 models move by at most
3 u; no bfloat16 model is among them.

An output that moves further is judged by the noise floor of `before`: how far it moves when optimisation is switched or
the run repeated. It may differ by NOISE_FACTOR times that, as long as the floor is at most NOISE_LIMIT * atol (1e-3 *
scale in float32). Beyond, the output cannot tell, and is inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.verdict import OutputEvidence, Run, Tolerance

Array = npt.NDArray[Any]

UNIT_ROUNDOFF: Mapping[str, float] = {"float32": 2**-24, "float64": 2**-53, "float16": 2**-11, "bfloat16": 2**-8}
DEFAULT_RTOL: Mapping[str, float] = {"float32": 2**-16, "float64": 2**-45, "float16": 2**-8, "bfloat16": 2**-6}
NOISE_FACTOR = 4.0
NOISE_LIMIT = 64.0
_MOVES = (
    "the unchanged model itself moves that much between two runs or optimisation levels, so this output cannot tell"
)


@dataclass(frozen=True)
class Move:
    """How far two arrays of one dtype and shape are apart; `scale` is of the first."""

    differing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    scale: float = 0.0


def leaves(name: str, value: Any) -> Iterator[tuple[str, Array | None]]:
    """(path, array) for every tensor: y; y[0], y[1] of a sequence; y['cat'] of a map. An empty optional is None."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(f"{name}[{index}]", item)
    else:
        yield name, None if value is None else np.asarray(value)


def measure(before: Array, after: Array) -> Move:
    """How far `after` is from `before`, both of one dtype and shape, over the elements that are finite in both."""
    differ = _differing(before, after)
    if before.dtype.name not in UNIT_ROUNDOFF:
        return Move(int(np.count_nonzero(differ)))
    first, second = before[differ].astype(np.float64), after[differ].astype(np.float64)
    with np.errstate(all="ignore"):
        distance = np.abs(second - first)
        relative = distance / np.abs(first)
    return Move(int(distance.size), _largest(distance), _largest(relative), _scale(before))


def noise_levels(name: str, first: Any, second: Any) -> dict[str, float]:
    """Path -> how far two runs of one model are apart: max_abs / scale; for exact types, the count of elements.

    Infinite where shapes, or the places of NaN or infinity, are not the same in both.
    """
    others = dict(leaves(name, second))
    return {path: _noise(array, others.get(path)) for path, array in leaves(name, first)}


def compare(
    name: str, run: Run, before: Any, after: Any, *, tolerance: Tolerance, noise: Mapping[str, float]
) -> tuple[OutputEvidence, ...]:
    """The evidence of one output: one item a tensor in it, or a single one where the structures differ.

    `noise` is what noise_levels measured of `before`; a missing path counts as 0.
    """
    first, second = dict(leaves(name, before)), dict(leaves(name, after))
    if list(first) != list(second):
        return (_different(name, run, f"{_structure(name, first)} before, {_structure(name, second)} after"),)
    items = ((path, first[path], second[path], noise.get(path, 0.0)) for path in first)
    return tuple(_judge(path, run, one, other, tolerance=tolerance, noise=level) for path, one, other, level in items)


def default_tolerance(dtype: str, scale: float) -> tuple[float, float]:
    """(rtol, atol) for a dtype by NumPy's name; (0, 0) for what has to be equal."""
    rtol = DEFAULT_RTOL.get(dtype, 0.0)
    return rtol, rtol * scale


def _judge(
    path: str, run: Run, before: Array | None, after: Array | None, *, tolerance: Tolerance, noise: float
) -> OutputEvidence:
    if before is None or after is None:
        return _judge_empty(path, run, before, after)
    if before.dtype != after.dtype:
        return _different(path, run, f"{before.dtype} before, {after.dtype} after")
    if before.shape != after.shape:
        return _unstable(_different(path, run, f"shape {_sizes(before)} before, {_sizes(after)} after"), noise)
    evidence = _numbers(path, run, before, after, tolerance=tolerance, noise=noise)
    special = _special_values(before, after)
    if special is None:
        return _judge_numbers(evidence, before, after, tolerance)
    found = replace(evidence, outcome="different", reason=special[0])
    return _unstable(_at(found, before, after, special[1]), noise)


def _unstable(evidence: OutputEvidence, noise: float) -> OutputEvidence:
    """A difference in kind says nothing where the unchanged model shows one too."""
    if not np.isinf(noise):
        return evidence
    return replace(evidence, outcome="inconclusive", reason=f"{evidence.reason}; {_MOVES}")


def _noise(first: Array | None, second: Array | None) -> float:
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    if first.shape != second.shape or first.dtype != second.dtype or _special_values(first, second) is not None:
        return float("inf")
    move = measure(first, second)
    if first.dtype.name not in UNIT_ROUNDOFF:
        return float(move.differing)
    return move.max_abs / move.scale if move.scale else float("inf") if move.max_abs else 0.0


def _judge_empty(path: str, run: Run, before: Array | None, after: Array | None) -> OutputEvidence:
    if before is None and after is None:
        return OutputEvidence(path, run, "equivalent", judged_by="bits", dtype="empty optional")
    return _different(path, run, f"{'empty' if before is None else 'filled'} optional before, the opposite after")


def _numbers(path: str, run: Run, before: Array, after: Array, *, tolerance: Tolerance, noise: float) -> OutputEvidence:
    dtype = before.dtype.name
    move = measure(before, after)
    rtol, atol = default_tolerance(dtype, move.scale)
    if not tolerance.is_default:
        rtol, atol = tolerance.rtol or 0.0, tolerance.atol or 0.0
    is_float = dtype in UNIT_ROUNDOFF
    return OutputEvidence(
        name=path,
        run=run,
        outcome="equivalent",
        dtype="string" if before.dtype.kind in "OSU" else dtype,
        shape=before.shape,
        elements=before.size,
        finite=int(np.count_nonzero(np.isfinite(before))) if is_float else before.size,
        differing=move.differing,
        max_abs=move.max_abs,
        max_rel=move.max_rel,
        max_u=move.max_rel / UNIT_ROUNDOFF[dtype] if is_float else 0.0,
        scale=move.scale,
        noise=noise * move.scale if is_float and move.scale else noise,
        rtol=rtol,
        atol=atol,
    )


def _judge_numbers(evidence: OutputEvidence, before: Array, after: Array, tolerance: Tolerance) -> OutputEvidence:
    if evidence.differing == 0:
        return replace(evidence, judged_by="bits")
    if evidence.dtype not in UNIT_ROUNDOFF:
        return _judge_exact(evidence, before, after)
    excess = _excess(before, after, evidence.rtol, evidence.atol)
    located = _at(evidence, before, after, int(np.argmax(excess)))
    if excess.max() <= 0:
        return replace(located, judged_by="tolerance")
    beyond = float(np.abs(after.astype(np.float64) - before.astype(np.float64)).ravel()[excess.ravel() > 0].max())
    return _judge_noise(located, beyond, tolerance)


def _judge_noise(evidence: OutputEvidence, beyond: float, tolerance: Tolerance) -> OutputEvidence:
    """The elements outside the tolerance are apart by at most `beyond`."""
    if not tolerance.is_default or beyond > NOISE_FACTOR * evidence.noise:
        return replace(evidence, outcome="different", reason=_beyond_text(evidence))
    if evidence.noise <= NOISE_LIMIT * evidence.atol:
        return replace(evidence, judged_by="noise floor")
    text = f"differs by {beyond:.3g}, noise floor {evidence.noise:.3g}: {_MOVES}"
    return replace(evidence, outcome="inconclusive", reason=text)


def _judge_exact(evidence: OutputEvidence, before: Array, after: Array) -> OutputEvidence:
    located = _at(evidence, before, after, int(np.argmax(_differing(before, after))))
    text = f"{evidence.differing} of {evidence.elements} elements differ ({evidence.dtype} has to be equal)"
    if evidence.noise > 0:
        return replace(located, outcome="inconclusive", reason=f"{text}; {_MOVES}")
    return replace(located, outcome="different", reason=text)


def _beyond_text(evidence: OutputEvidence) -> str:
    where = f"at {list(evidence.worst_index)}: {evidence.worst_before} before, {evidence.worst_after} after"
    return f"{where}; outside rtol {evidence.rtol:.3g}, atol {evidence.atol:.3g}, noise floor {evidence.noise:.3g}"


def _special_values(before: Array, after: Array) -> tuple[str, int] | None:
    """NaN or infinity on one side only: the reason and the flat index of the first."""
    if before.dtype.name not in UNIT_ROUNDOFF:
        return None
    nan = np.isnan(before) != np.isnan(after)
    if nan.any():
        return f"NaN on one side only, at {np.count_nonzero(nan)} of {nan.size} elements", int(np.argmax(nan))
    infinite = (np.isinf(before) | np.isinf(after)) & (before != after)
    if infinite.any():
        count = f"{np.count_nonzero(infinite)} of {infinite.size} elements"
        return f"infinite on one side, not the same on the other, at {count}", int(np.argmax(infinite))
    return None


def _excess(before: Array, after: Array, rtol: float, atol: float) -> Array:
    """How far each element is outside the tolerance; -inf where both are the same NaN or infinity."""
    first, second = before.astype(np.float64), after.astype(np.float64)
    with np.errstate(invalid="ignore"):
        excess = np.abs(second - first) - (atol + rtol * np.abs(first))
    return np.where(np.isfinite(first), excess, -np.inf)


def _differing(before: Array, after: Array) -> Array:
    """Where the bits differ; two NaNs do not."""
    if before.dtype.name not in UNIT_ROUNDOFF:
        return np.asarray(before != after)
    bits = f"u{before.dtype.itemsize}"
    unequal = before.view(bits) != after.view(bits)
    return np.asarray(unequal & ~(np.isnan(before) & np.isnan(after))) if unequal.any() else np.asarray(unequal)


def _largest(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _scale(values: Array) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _at(evidence: OutputEvidence, before: Array, after: Array, flat: int) -> OutputEvidence:
    index = tuple(int(item) for item in np.unravel_index(flat, before.shape))
    return replace(evidence, worst_index=index, worst_before=_shown(before[index]), worst_after=_shown(after[index]))


def _shown(value: Any) -> float | str:
    return value if isinstance(value, str) else str(value) if isinstance(value, complex | bytes) else float(value)


def _different(path: str, run: Run, reason: str) -> OutputEvidence:
    return OutputEvidence(path, run, "different", reason=reason)


def _sizes(array: Array) -> list[int]:
    return list(array.shape)


def _structure(name: str, found: Mapping[str, Array | None]) -> str:
    return "one tensor" if list(found) == [name] else f"{len(found)} tensors ({', '.join(list(found)[:4]) or 'none'})"
