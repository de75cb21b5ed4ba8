"""Tallies and special values -> what is said of each form, and in which versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx

from onnxact.activation.catalog import Form
from onnxact.activation.expr import text
from onnxact.activation.numeric import fold
from onnxact.check.prove import reference
from onnxact.check.prove.ends import Ends
from onnxact.check.prove.engine import Engine
from onnxact.check.prove.judge import limits
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.result import FormProof, Outcome, SpecialValue
from onnxact.check.prove.running import Contest
from onnxact.check.prove.tally import Example, Tally
from onnxact.check.providers import runtime
from onnxact.version import __version__


def kinks(subject: Subject) -> list[float]:
    """Return where the slope of the activation jumps, for these parameters."""
    terms = subject.activation.kinks
    found = [term if isinstance(term, float) else fold(term, subject.parameters) for term in terms]
    return [float(kink) for value in found for kink in np.asarray(value, np.float64).reshape(-1)]


@dataclass(frozen=True)
class Specials:
    """The special inputs by name, and what each form makes of them: output index -> [lanes, inputs]."""

    named: Mapping[str, int]
    reference: np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]
    outputs: tuple[np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]], ...]

    def of(self, contest: Contest) -> tuple[SpecialValue, ...]:
        """Return the special values of a form, slope by slope."""
        got = self.outputs[contest.form.output]
        op = None if contest.op is None else self.outputs[contest.op.output]
        return tuple(
            SpecialValue(name, x, int(self.reference[lane, at]), None if op is None else int(op[lane, at]),
                         int(got[lane, at]), lane)
            for lane in range(len(got))
            for at, (name, x) in enumerate(self.named.items())
        )  # fmt: skip


def run_specials(subject: Subject, engine: Engine, outputs: int) -> Specials:
    """Return what an engine makes of the special inputs."""
    space = Space(subject.dtype)
    named = space.special(kinks(subject))
    x = np.array(list(named.values()), space.word)
    engine.load(x)
    engine.run()
    found = tuple(engine.output(index)[:, : x.size].copy() for index in range(outputs))
    return Specials(named, reference.patterns(space, reference.exact(subject, space.numbers(x))), found)


class Found(NamedTuple):
    """What was found of a form: its tally, and what to say of it where nothing broke its class."""

    contest: Contest
    tally: Tally
    outcome: Outcome


def form_proof(subject: Subject, name: str, found: Found, specials: Specials, ends: Ends | None) -> FormProof:
    """Return what is said of one form."""
    contest, tally = found.contest, found.tally
    row = contest.form.row
    worst = tally.worst if contest.op is None and not contest.form.exact else None
    at_ends = ends.tallies[name] if ends is not None else None
    broken = tally.broken or (at_ends is not None and at_ends.broken)
    return FormProof(
        form=name,
        formula=text(row.expr),
        exact=contest.form.exact,
        against="reference" if contest.op is None else "op",
        outcome="refuted" if broken else found.outcome,
        tally=tally,
        specials=specials.of(contest),
        allowed=None if worst is None else bound_at(subject, row, worst),
        absolute=tally.worst is not None and is_lost(tally.worst.error, Space(subject.dtype).unit),
        ends=at_ends,
        moved=ends.moved[name] if ends is not None else 0,
    )


def is_lost(error: float, unit: float) -> bool:
    """Tell whether an error in u of the result is half of the result or more."""
    return error * unit >= 0.5


def bound_at(subject: Subject, row: Form, example: Example) -> float | None:
    """Return how far in u the form's bound lets it be from the reference at an input; None at what is not finite."""
    space = Space(subject.dtype)
    x = space.numbers(np.array([example.x], space.word))
    if not np.isfinite(x.astype(np.float64)).all():
        return None
    exact = float(reference.exact(subject, x)[example.lane, 0])
    parameters = {n: v[example.lane] if getattr(v, "ndim", 0) == 2 else v for n, v in subject.parameters.items()}
    low, high = limits(replace(subject, parameters=parameters), row, x)
    distance = max(float(high[0]) - exact, exact - float(low[0]))
    return distance / max(abs(exact), space.smallest_normal) / space.unit


def versions(provider: str) -> dict[str, str]:
    """Return the versions of what computed."""
    found = {"onnxact": __version__, "onnx": onnx.__version__, "numpy": np.__version__}
    return found if provider == "numpy" else {**found, "onnxruntime": runtime().__version__}
