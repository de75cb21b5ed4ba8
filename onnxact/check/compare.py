"""(output of before, output of after) -> OutputEvidence: are they the same, and if not, by how much.

Bits first. Floating values whose bits differ are held against NumPy's rule

    |after - before| <= atol + rtol * |before|

and, where the caller set neither rtol nor atol, against the noise floor of `before`. NaN has to meet NaN (payloads are
not compared) and an infinity the same infinity (POLICY). Integers, bools, strings and complex numbers have to be equal,
but for integers of an output for which the caller gave a tolerance by its name.

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

from onnxact.check.distance import (
    UNIT_ROUNDOFF,
    Distance,
    Size,
    distance,
    furthest,
    integer_distance,
    is_floating,
    size_of,
    unequal,
)
from onnxact.check.tolerance import Origin, Tolerance
from onnxact.check.verdict import OutputEvidence, Run

Array = npt.NDArray[Any]

DEFAULT_RTOL: Mapping[str, float] = {"float32": 2**-16, "float64": 2**-45, "float16": 2**-8, "bfloat16": 2**-6}
NOISE_FACTOR = 4.0
NOISE_LIMIT = 64.0
_MOVES = (
    "the unchanged model itself moves that much between two runs or optimisation levels, so this output cannot tell"
)


@dataclass(frozen=True)
class Leaf:
    """One tensor of an output: its path, the array (None for an empty optional), and its size."""

    path: str
    array: Array | None
    size: Size


@dataclass(frozen=True)
class Rule:
    """What two tensors are held against: the tolerance of their output, and the noise level by tensor path."""

    tolerance: Tolerance
    named: bool
    noise: Mapping[str, float]


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


def sized(name: str, value: Any) -> tuple[Leaf, ...]:
    """The tensors of an output, each measured once for all comparisons with it."""
    return tuple(Leaf(path, array, Size(0) if array is None else size_of(array)) for path, array in leaves(name, value))


def noise_levels(first: tuple[Leaf, ...], second: tuple[Leaf, ...]) -> dict[str, float]:
    """Path -> how far two runs of one model are apart: max_abs / scale; for exact types, the count of elements.

    Infinite where shapes, or the places of NaN or infinity, are not the same in both.
    """
    others = {leaf.path: leaf.array for leaf in second}
    return {leaf.path: _noise(leaf, others.get(leaf.path)) for leaf in first}


def compare(
    name: str, run: Run, before: Any, after: Any, *, tolerance: Tolerance, noise: Mapping[str, float]
) -> tuple[OutputEvidence, ...]:
    """The evidence of one output: one item a tensor in it, or a single one where the structures differ.

    `noise` is the level by tensor path (see noise_levels).
    """
    return compare_sized(name, run, sized(name, before), after, tolerance=tolerance, noise=noise)


def compare_sized(
    name: str, run: Run, before: tuple[Leaf, ...], after: Any, *, tolerance: Tolerance, noise: Mapping[str, float]
) -> tuple[OutputEvidence, ...]:
    """compare with the tensors of `before` measured already."""
    second = dict(leaves(name, after))
    paths = [leaf.path for leaf in before]
    if paths != list(second):
        return (_different(name, run, f"{_structure(name, paths)} before, {_structure(name, list(second))} after"),)
    rule = Rule(tolerance.of(name), name in tolerance.outputs, noise)
    return tuple(_judge(leaf, second[leaf.path], run, rule) for leaf in before)


def default_tolerance(dtype: str, scale: float) -> tuple[float, float]:
    """(rtol, atol) for a dtype by NumPy's name; (0, 0) for what has to be equal."""
    rtol = DEFAULT_RTOL.get(dtype, 0.0)
    return rtol, rtol * scale


def _judge(leaf: Leaf, after: Array | None, run: Run, rule: Rule) -> OutputEvidence:
    before, noise = leaf.array, rule.noise.get(leaf.path, 0.0)
    if before is None or after is None:
        return _judge_empty(leaf.path, run, before, after)
    if before.dtype != after.dtype:
        return _different(leaf.path, run, f"{before.dtype} before, {after.dtype} after")
    if before.shape != after.shape:
        text = f"shape {list(before.shape)} before, {list(after.shape)} after"
        return _unstable(_different(leaf.path, run, text), noise)
    evidence = _described(leaf, before, run, rule, noise)
    if is_floating(before):
        return _judge_floating(evidence, before, after, rule)
    if rule.named and before.dtype.kind in "iu":
        return _judge_integers(evidence, before, after, rule)
    return _judge_exact(evidence, before, after)


def _described(leaf: Leaf, before: Array, run: Run, rule: Rule, noise: float) -> OutputEvidence:
    """What is known before the comparison."""
    scale, dtype = leaf.size.scale, before.dtype.name
    rtol, atol, origin = _applied(before, scale, rule)
    return OutputEvidence(
        name=leaf.path,
        run=run,
        outcome="equivalent",
        judged_by="bits",
        dtype="string" if before.dtype.kind in "OSU" else dtype,
        shape=before.shape,
        elements=before.size,
        finite=leaf.size.finite,
        scale=scale,
        noise=noise * scale if scale else noise,
        rtol=rtol,
        atol=atol,
        tolerance=origin,
    )


def _applied(before: Array, scale: float, rule: Rule) -> tuple[float, float, Origin]:
    """rtol, atol, and whose they are."""
    floating = is_floating(before)
    if floating and rule.tolerance.is_default:
        return *default_tolerance(before.dtype.name, scale), "default"
    if floating or (rule.named and before.dtype.kind in "iu"):
        rtol, atol = rule.tolerance.rtol or 0.0, rule.tolerance.atol or 0.0
        return rtol, atol, "given" if rtol or atol else "exact"
    return 0.0, 0.0, "exact"


def _judge_floating(evidence: OutputEvidence, before: Array, after: Array, rule: Rule) -> OutputEvidence:
    found = distance(before, after, evidence.rtol, evidence.atol)
    if not found.differing:
        return evidence
    evidence = _measured(evidence, found)
    evidence = replace(evidence, max_u=found.max_rel / UNIT_ROUNDOFF[evidence.dtype])
    if found.nan or found.infinite:
        at = found.nan_at if found.nan else found.infinite_at
        special = replace(_at(evidence, before, after, at), outcome="different", reason=_special_text(found, before))
        return _unstable(special, evidence.noise)
    located = _at(evidence, before, after, found.worst_at)
    if not found.outside:
        return replace(located, judged_by="tolerance")
    return _judge_noise(located, found.beyond, rule.tolerance)


def _judge_noise(evidence: OutputEvidence, beyond: float, tolerance: Tolerance) -> OutputEvidence:
    """The elements outside the tolerance are apart by at most `beyond`."""
    if not tolerance.is_default or beyond > NOISE_FACTOR * evidence.noise:
        return replace(evidence, outcome="different", judged_by="", reason=_beyond_text(evidence))
    if evidence.noise <= NOISE_LIMIT * evidence.atol:
        return replace(evidence, judged_by="noise floor")
    text = f"differs by {beyond:.3g}, noise floor {evidence.noise:.3g}: {_MOVES}"
    return replace(evidence, outcome="inconclusive", judged_by="", reason=text)


def _judge_integers(evidence: OutputEvidence, before: Array, after: Array, rule: Rule) -> OutputEvidence:
    found = integer_distance(before, after, evidence.rtol, evidence.atol)
    if not found.differing:
        return evidence
    located = _at(_measured(evidence, found), before, after, found.worst_at)
    return (
        _judge_noise(located, found.beyond, rule.tolerance)
        if found.outside
        else replace(located, judged_by="tolerance")
    )


def _judge_exact(evidence: OutputEvidence, before: Array, after: Array) -> OutputEvidence:
    at = unequal(before, after)
    if not at.size:
        return evidence
    text = f"{at.size} of {evidence.elements} elements differ ({evidence.dtype} has to be equal)"
    found = replace(evidence, differing=at.size, outside=at.size, least_rtol=np.inf, least_atol=np.inf, judged_by="")
    located = _at(found, before, after, int(at[0]))
    if evidence.noise > 0:
        return replace(located, outcome="inconclusive", reason=f"{text}; {_MOVES}")
    return replace(located, outcome="different", reason=text)


def _judge_empty(path: str, run: Run, before: Array | None, after: Array | None) -> OutputEvidence:
    if before is None and after is None:
        return OutputEvidence(path, run, "equivalent", judged_by="bits", dtype="empty optional")
    return _different(path, run, f"{'empty' if before is None else 'filled'} optional before, the opposite after")


def _measured(evidence: OutputEvidence, found: Distance) -> OutputEvidence:
    return replace(
        evidence,
        differing=found.differing,
        max_abs=found.max_abs,
        max_rel=found.max_rel,
        outside=found.outside + found.nan + found.infinite,
        least_rtol=found.least_rtol,
        least_atol=found.least_atol,
    )


def _unstable(evidence: OutputEvidence, noise: float) -> OutputEvidence:
    """A difference in kind says nothing where the unchanged model shows one too."""
    if not np.isinf(noise):
        return replace(evidence, judged_by="")
    return replace(evidence, outcome="inconclusive", judged_by="", reason=f"{evidence.reason}; {_MOVES}")


def _noise(first: Leaf, second: Array | None) -> float:
    before = first.array
    if before is None or second is None:
        return 0.0 if before is second else float("inf")
    if before.shape != second.shape or before.dtype != second.dtype:
        return float("inf")
    if not is_floating(before):
        return float(unequal(before, second).size)
    apart, scale = furthest(before, second), first.size.scale
    return apart / scale if scale else float("inf") if apart else 0.0


def _special_text(found: Distance, before: Array) -> str:
    if found.nan:
        return f"NaN on one side only, at {found.nan} of {before.size} elements"
    return f"infinite on one side, not the same on the other, at {found.infinite} of {before.size} elements"


def _beyond_text(evidence: OutputEvidence) -> str:
    where = f"at {list(evidence.worst_index)}: {evidence.worst_before} before, {evidence.worst_after} after"
    allowed = f"rtol {evidence.rtol:.3g}, atol {evidence.atol:.3g} ({evidence.tolerance})"
    count = f"{evidence.outside} of {evidence.elements} elements"
    return f"{where}; {count} outside {allowed}, noise floor {evidence.noise:.3g}"


def _at(evidence: OutputEvidence, before: Array, after: Array, flat: int) -> OutputEvidence:
    index = tuple(int(item) for item in np.unravel_index(flat, before.shape))
    return replace(evidence, worst_index=index, worst_before=shown(before[index]), worst_after=shown(after[index]))


def shown(value: Any) -> float | str:
    """One element as plain data."""
    return value if isinstance(value, str) else str(value) if isinstance(value, complex | bytes) else float(value)


def _different(path: str, run: Run, reason: str) -> OutputEvidence:
    return OutputEvidence(path, run, "different", reason=reason, least_rtol=np.inf, least_atol=np.inf)


def _structure(name: str, paths: list[str]) -> str:
    return "one tensor" if paths == [name] else f"{len(paths)} tensors ({', '.join(paths[:4]) or 'none'})"
