"""What a check found at each site: which branches the inputs went through, and how far the site is from its function.

SiteProbe("", "relu_3", "x", "y")  ->  SiteEvidence(outcome="equivalent", counts=(KinkCount(0.0, 12, 1, 19),), ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SiteOutcome = Literal["equivalent", "different", "inconclusive"]
Reach = Literal["reached", "one-sided", "settled", "missed"]


@dataclass(frozen=True)
class Slopes:
    """A parameter that is a tensor, hashable. `data` are its float64 values in C order."""

    shape: tuple[int, ...]
    low: float
    high: float
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, value: NDArray[Any]) -> Slopes:
        """Take any floating array of at least one element."""
        wide = np.ascontiguousarray(value, np.float64)
        return cls(wide.shape, float(wide.min()), float(wide.max()), wide.tobytes())

    @property
    def value(self) -> NDArray[np.float64]:
        """The array, read-only."""
        return np.frombuffer(self.data, np.float64).reshape(self.shape)

    def __str__(self) -> str:
        return f"{list(self.shape)} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Computed:
    """A parameter that is computed when the model runs: its value name."""

    name: str

    def __str__(self) -> str:
        return f"the value {self.name!r}"


@dataclass(frozen=True)
class FromCaller:
    """A parameter that a local function takes from its caller: the attribute's name."""

    attribute: str

    def __str__(self) -> str:
        return f"the caller's {self.attribute!r}"


ParameterValue = float | str | Slopes | Computed | FromCaller


@dataclass(frozen=True)
class Meaning:
    """What a site computes: an activation with its parameters, in one form.

    `form` "" stands for any form of the table. `dtype` is by NumPy's name, "" where the model does not tell. `exact`:
    whether the form is said to keep the bits.
    """

    activation: str
    form: str
    parameters: tuple[tuple[str, ParameterValue], ...] = ()
    dtype: str = "float32"
    exact: bool = False

    @property
    def has_slopes(self) -> bool:
        """Whether a parameter is a tensor, which may be large."""
        return any(isinstance(value, Slopes) for _, value in self.parameters)

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {_shown(value)}" for name, value in self.parameters)
        return f"{self.activation}({values})" if values else self.activation


def _shown(value: ParameterValue) -> str:
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.6g}"
    return short if np.float32(short) == np.float32(value) else f"{value:.9g}"


@dataclass(frozen=True)
class SiteProbe:
    """A site to be looked at: the value `input` that enters the activation at `node` and leaves as `output`.

    `scope` "" is the main graph, else a body or a local function, by its path. `kinks` are the points where the
    activation, or a form of it, changes its branch. `channel_axis` is given where each channel has its own slope, so
    that each has to be reached. `before` and `after` say what the site computes in the two models, as far as it is
    known. `only_in`: "before" or "after" where the other model has no such site. `after_input` and `after_output`: the
    values in `after`, where they have other names there.
    """

    scope: str
    node: str
    input: str
    output: str
    kinks: tuple[float, ...] = (0.0,)
    channel_axis: int | None = None
    before: Meaning | None = field(default=None, compare=False)
    after: Meaning | None = field(default=None, compare=False)
    only_in: str = ""
    after_input: str = ""
    after_output: str = ""

    def names(self, side: str) -> tuple[str, str]:
        """The value that enters and the value that leaves, in the model "before" or "after"."""
        if side == "before":
            return self.input, self.output
        return self.after_input or self.input, self.after_output or self.output

    def __str__(self) -> str:
        where = f" in {self.scope}" if self.scope else ""
        return f"site {self.node or self.output!r}{where}"


@dataclass(frozen=True)
class KinkCount:
    """Elements on each side of one kink, over all inputs; channels that had none on a side, where channels count."""

    kink: float
    below: int
    at: int
    above: int
    channels: int = 0
    channels_never_below: tuple[int, ...] = ()
    channels_never_above: tuple[int, ...] = ()


@dataclass(frozen=True)
class SignCount:
    """Elements that entered a site, or one channel of it, by kind; infinite ones count as negative or positive too."""

    negative: int = 0
    zero: int = 0
    positive: int = 0
    nan: int = 0
    infinite: int = 0


@dataclass(frozen=True)
class Accuracy:
    """What left a site in one model, held against the reference function f of its activation.

    Of `elements`, `compared` were held against the bound |y - f(x)| <= `allowed` that follows from the form (where all
    of them are f(x) rounded once, that rounding), and
    `outside` were not within. `max_u` is the largest |y - f(x)| in unit roundoffs of f(x), at most 1 for a correctly
    rounded y; `max_abs` the largest of all. `index`, `x`, `y`, `expected` and `allowed` are of the worst element: the
    one furthest outside the bound, else the one with the largest error; `inputs` says on which inputs. `channels` are
    the ones with an element outside, where each has its own slope. `declared`: what its form does otherwise at special
    inputs, and says so. `problem`: why y cannot be held against f at all, such as another shape.
    """

    elements: int = 0
    compared: int = 0
    outside: int = 0
    max_u: float = 0.0
    max_abs: float = 0.0
    inputs: str = ""
    index: tuple[int, ...] = ()
    x: float | None = None
    y: float | None = None
    expected: float | None = None
    allowed: float = 0.0
    channels: tuple[int, ...] = ()
    declared: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_outside(self) -> bool:
        """Whether something left the site that does not belong to its function."""
        return self.outside > 0

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        found = f"{self.compared} of {self.elements} compared, {self.outside} outside the bound"
        return f"{found}, at most {self.max_u:.3g} u ({self.max_abs:.3g})"


@dataclass(frozen=True)
class SiteEvidence:
    """Which branches of a site the inputs went through, and what the site computed in both models.

    `outcome`: "different" where what left it is not the function that it was, `differs` says how; "inconclusive" where
    that is not known, or no input went through a branch; else "equivalent". `missed` are the branches that no input
    went through, although nothing in the graph rules them out, or why nothing was observed; `ruled_out`, what the
    graph rules out. `reached`: inputs went through every other one; `settled`: not all of them, but the site is the
    same on its own and so is everything around it, or what enters it. `unknown`: why it is not known to be one function
    in both models. `tolerated`: it is another function, and every output that it moves is within a tolerance that the
    caller gave. `alone` is "same", "identical", "differs: ...", "not run: ...", or empty where it was not tried, and
    `surroundings` "the same" or why not.
    `before` and `after` hold the values that left the site in the models' own runs against the reference;
    `alone_before` and `alone_after` do so for the site on its own, fed with both sides of every kink and with every
    special value. `shape` and `dtype` are of the value that enters.
    """

    site: SiteProbe
    reached: bool
    outcome: SiteOutcome = "inconclusive"
    settled: bool = False
    tolerated: bool = False
    differs: str = ""
    unknown: str = ""
    missed: str = ""
    ruled_out: str = ""
    alone: str = ""
    surroundings: str = ""
    counts: tuple[KinkCount, ...] = ()
    signs: SignCount = SignCount()
    channels: tuple[SignCount, ...] = ()
    before: Accuracy | None = None
    after: Accuracy | None = None
    alone_before: Accuracy | None = None
    alone_after: Accuracy | None = None
    elements: int = 0
    nan: int = 0
    infinite: int = 0
    shape: tuple[int, ...] = ()
    dtype: str = ""
    notes: tuple[str, ...] = ()

    @property
    def reach(self) -> Reach:
        """Where inputs went: "reached", every side of every kink; "one-sided", every side that what feeds it allows;
        "settled" and "missed", not every one.
        """
        if self.reached:
            return "one-sided" if self.ruled_out else "reached"
        return "settled" if self.settled else "missed"

    @property
    def reason(self) -> str:
        """What was missed, what cannot be, and what the site does on its own, in words."""
        alone = f"on its own: {self.alone}" if self.alone and self.alone not in self.differs + self.unknown else ""
        parts = (self.differs, self.unknown, self.missed, self.ruled_out, alone, *self.notes)
        return "; ".join(part for part in parts if part)

    @property
    def doubt(self) -> str:
        """Why this site keeps the verdict from being "equivalent"; empty where it does not."""
        if self.tolerated:
            return ""
        missed = "" if self.reached or self.settled else self.missed
        return "; ".join(part for part in (self.differs, self.unknown, missed) if part)
