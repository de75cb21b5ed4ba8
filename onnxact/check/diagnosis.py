"""Why two models differ, as data: the first value that does, and the likely causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NodeNote:
    """A node that makes a value: its name, op (with its domain unless that is ONNX's own) and position in its graph."""

    name: str
    op: str
    position: int

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}" if self.name else f"{self.op} #{self.position}"


@dataclass(frozen=True)
class ValueEvidence:
    """One value of both models on the same inputs.

    `before` and `after` are its names. `differing` counts elements whose bits differ (two NaNs do not), `max_abs` is
    the largest |after - before| over the elements that are finite in both, `outside` counts those beyond `rtol` and
    `atol` (NumPy's rule) and those where NaN or an infinity meets something else. `worst_*` is the element furthest
    outside. `problem` says why the two could not be compared, such as another shape.
    """

    before: str
    after: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    differing: int = 0
    outside: int = 0
    nan: int = 0
    infinite: int = 0
    max_abs: float = 0.0
    scale: float = 0.0
    rtol: float = 0.0
    atol: float = 0.0
    worst_index: tuple[int, ...] = ()
    worst_before: float | str | None = None
    worst_after: float | str | None = None
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it is within its bound."""
        return not self.outside and not self.problem

    @property
    def name(self) -> str:
        """The name, or both where they are not the same."""
        return self.before if self.before == self.after else f"{self.before} (after: {self.after})"

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: {self.problem}"
        if not self.differing:
            return f"{self.name}: bit-equal"
        odd = f"{self.nan} NaN on one side only" if self.nan else f"{self.infinite} infinite on one side, not the other"
        more = f"; {odd}" if self.nan or self.infinite else ""
        return f"{self.name}: {self.differing} of {self.elements} elements differ, by at most {self.max_abs:.3g}{more}"


@dataclass(frozen=True)
class Divergence:
    """The first value, in topological order, that differs beyond its bound, and what makes it.

    `run` says on which inputs, provider and optimisation. `node_before` and `node_after` make the value; `site` is the
    activation there, in words, "" where there is none. `inputs` are the values that enter both, and how far apart those
    are. `own` is the value again where both models' nodes were given the inputs of `before`: whatever differs there is
    made right here; None where that could not be run, for the reason in `own_problem`. `inside` says where in a body.
    `control` is what the run without observation says to this one. `compared` of `aligned` values of both models were
    looked at, those upstream of every change left out; `unaligned` have no counterpart, `too_large` did not fit the
    memory budget.
    """

    run: str
    value: ValueEvidence
    bound: str
    node_before: NodeNote | None = None
    node_after: NodeNote | None = None
    site: str = ""
    inputs: tuple[ValueEvidence, ...] = ()
    own: ValueEvidence | None = None
    own_problem: str = ""
    inside: str = ""
    control: str = ""
    compared: int = 0
    aligned: int = 0
    unaligned: int = 0
    too_large: tuple[str, ...] = ()

    @property
    def is_origin(self) -> bool:
        """Whether the difference is made here: it is there on equal inputs, or the inputs agree."""
        if self.own is not None:
            return self.own.differing > 0 or not self.own.agrees
        return all(item.agrees for item in self.inputs)

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def lines(self) -> tuple[str, ...]:
        """The finding in short sentences."""
        at = f" at {list(self.value.worst_index)}" if self.value.worst_index else ""
        values = f"{self.value.worst_before} before, {self.value.worst_after} after{at}"
        worst = "" if self.value.problem or self.value.worst_before is None else f": {values}"
        parts = [
            f"first value that differs ({self.bound}; {self.run}): {self.value}{worst}",
            f"made by {self.node_before or 'an input'} before, {self.node_after or 'an input'} after",
            self.site,
            f"its inputs: {'; '.join(map(str, self.inputs))}" if self.inputs else "",
            f"on the same inputs, {self.own}" if self.own else self.own_problem,
            self.inside,
            self.control,
            _left_out(len(self.too_large)),
        ]
        return tuple(part for part in parts if part)


def _left_out(count: int) -> str:
    if not count:
        return ""
    values = "1 value did" if count == 1 else f"{count} values did"
    return f"{values} not fit the memory budget and {'was' if count == 1 else 'were'} not compared"


@dataclass(frozen=True)
class Cause:
    """A likely cause: `kind` in a word, a sentence, and the numbers behind it."""

    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
