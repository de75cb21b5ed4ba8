"""What a proof found, as frozen data: counts, distances, special values, and whether the declared class was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxact.check.prove.patterns import Space
from onnxact.check.prove.tally import Example, Tally

Outcome = Literal["proven", "not refuted", "refuted", "interrupted"]
EXIT_CODES: Mapping[str, int] = {"proven": 0, "not refuted": 0, "refuted": 1, "interrupted": 130}


@dataclass(frozen=True)
class SpecialValue:
    """One special input by name, with what came out, all as bit patterns. `op` is None where the op does not run."""

    name: str
    x: int
    reference: int
    op: int | None
    got: int
    lane: int = 0


@dataclass(frozen=True)
class FormProof:
    """One form. `exact`: its declared class for these parameters; else it is bounded. `against`: what it is held to.

    `absolute`: half of the result or more is lost somewhere, so that its error is bounded in u of max(1, |result|).
    `allowed`: what the bound allows in u at the worst input, against the reference; None where that was not the
    standard or nothing differs. `specials`: every special input. `ends`: a sample of inputs in calls of one value, as
    at the end of a tensor; None where that makes no difference. At `moved` of them a long call gives other bits.
    """

    form: str
    formula: str
    exact: bool
    against: Literal["op", "reference"]
    outcome: Outcome
    tally: Tally
    specials: tuple[SpecialValue, ...]
    allowed: float | None = None
    absolute: bool = False
    ends: Tally | None = None
    moved: int = 0

    @property
    def kind(self) -> str:
        """The class in words: exact, bounded, or bounded absolutely; and whether it overflows."""
        kind = "exact" if self.exact else "absolute" if self.absolute else "bounded"
        return f"{kind}, overflows" if self.tally.overflowed else kind


@dataclass(frozen=True)
class Proof:
    """What was tried, where, against what, and what was found.

    `op` names the native op with its version, empty where there is none. `inputs` of
    `total` bit patterns were tried, with `lanes` slopes each where the slope is a tensor (else 0). `parameters` are as
    the dtype holds them. `left_out`: (form, reason). `notes`: what a reader has to know.
    """

    activation: str
    parameters: Mapping[str, Any]
    dtype: str
    provider: str
    opset: int
    op: str
    inputs: int
    total: int
    lanes: int
    forms: tuple[FormProof, ...]
    left_out: tuple[tuple[str, str], ...]
    threads: int
    seconds: float
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of the forms': refuted, interrupted, not refuted, proven."""
        found = {form.outcome for form in self.forms}
        order: tuple[Outcome, ...] = ("refuted", "interrupted", "not refuted")
        return next((outcome for outcome in order if outcome in found), "proven")

    @property
    def exit_code(self) -> int:
        """0 where every form keeps its class, 1 where one does not, 130 where it was stopped before that was known."""
        return EXIT_CODES[self.outcome]

    def summary(self) -> str:
        """Return one line a form: the outcome, the counts, the largest error."""
        return "\n".join(self._line(form) for form in self.forms)

    def _line(self, form: FormProof) -> str:
        tally, worst = form.tally, form.tally.worst
        error = f", largest error {worst.error:.4g} u" if worst else ""
        if form.absolute and tally.worst_near_one:
            error = f", largest error {tally.worst_near_one.error:.4g} u of max(1, |result|), near 0 all of the result"
        error += f", NaN or infinite at {tally.overflowed:,} finite inputs" if tally.overflowed else ""
        equal = f"{tally.equal:,} of {tally.tried:,} {self.dtype} results bit-equal"
        ends = form.ends.broken if form.ends is not None else 0
        at_ends = f", {ends:,} at the end of a tensor" if ends else ""
        return (
            f"{self.activation} {form.form}: {form.outcome}, {equal}{error}, {tally.broken:,} break its class{at_ends}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps: patterns as hexadecimal text, NaN and infinities as text."""
        return {
            "schema": "onnxact/1",
            "verb": "prove",
            "outcome": self.outcome,
            "activation": self.activation,
            "parameters": {name: plain(np.asarray(value).reshape(-1)) for name, value in self.parameters.items()},
            "dtype": self.dtype,
            "provider": self.provider,
            "opset": self.opset,
            "op": self.op or None,
            "inputs": self.inputs,
            "total": self.total,
            "slopes": max(self.lanes, 1),
            "optimisation": "off",
            "forms": [self._form(form) for form in self.forms],
            "left_out": [{"form": form, "reason": reason} for form, reason in self.left_out],
            "threads": self.threads,
            "seconds": round(self.seconds, 3),
            "versions": dict(self.versions),
            "notes": list(self.notes),
        }

    def _form(self, form: FormProof) -> dict[str, Any]:
        tally, space = form.tally, Space(self.dtype)
        return {
            "form": form.form,
            "formula": form.formula,
            "class": "exact" if form.exact else "bounded",
            "against": form.against,
            "outcome": form.outcome,
            "tried": tally.tried,
            "bit_equal": tally.equal,
            "nan_payload": tally.payload,
            "zero_sign": tally.zero_sign,
            "numbers_differ": tally.numbers,
            "nan_or_infinite_on_one_side": tally.special,
            "declared": tally.declared,
            "broken": tally.broken,
            "worst": example_json(space, tally.worst),
            "worst_near_one": example_json(space, tally.worst_near_one),
            "allowed": form.allowed,
            "absolute": form.absolute,
            "overflowed": tally.overflowed,
            "examples": [example_json(space, example) for example in tally.examples],
            "specials": [_special_json(space, special) for special in form.specials],
            "ends": None if form.ends is None else _ends_json(space, form.ends, form.moved),
        }


def value(space: Space, pattern: int) -> float:
    """Return a bit pattern as a number."""
    return float(space.numbers(np.array([pattern], space.word))[0])


def plain(values: Any) -> Any:
    """Return numbers as JSON holds them: one alone as itself, NaN and infinities as text."""
    listed = [float(v) if math.isfinite(v) else str(float(v)) for v in values]
    return listed[0] if len(listed) == 1 else listed


def hexadecimal(space: Space, pattern: int) -> str:
    """Return a bit pattern with all its digits: 0x3f800000."""
    return f"0x{pattern:0{space.width // 4}x}"


def example_json(space: Space, example: Example | None) -> dict[str, Any] | None:
    """Return an example as plain data; None for none."""
    if example is None:
        return None
    places = {"x": example.x, "got": example.got, "wanted": example.wanted}
    numbers = {name: plain([value(space, pattern)]) for name, pattern in places.items()}
    bits = {f"{name}_bits": hexadecimal(space, pattern) for name, pattern in places.items()}
    return {**numbers, **bits, "error_u": plain([example.error]), "slope": example.lane}


def _special_json(space: Space, special: SpecialValue) -> dict[str, Any]:
    places = {"x": special.x, "reference": special.reference, "op": special.op, "got": special.got}
    bits = {name: None if at is None else hexadecimal(space, at) for name, at in places.items()}
    shown = {name: None if at is None else plain([value(space, at)]) for name, at in places.items()}
    return {"name": special.name, "slope": special.lane, **shown, "bits": bits}


def _ends_json(space: Space, ends: Tally, moved: int) -> dict[str, Any]:
    counts = {"tried": ends.tried, "moved": moved, "broken": ends.broken, "worst": example_json(space, ends.worst)}
    return {**counts, "examples": [example_json(space, example) for example in ends.examples]}
