"""What a target is: the ops that it runs, under which conditions, and how it wants constants to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from onnxact.rewrite.target.condition import Condition

UNBOUNDED = 2**31 - 1
ConstantShape = Literal["one", "scalar", "full"]
"""[1] where x has a dimension; rank 0; all dimensions of x."""


class Span(NamedTuple):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        if self.high >= UNBOUNDED:
            return f"from {self.low}"
        return f"{self.low} to {self.high}" if self.low else f"up to {self.high}"


@dataclass(frozen=True)
class Spans:
    """Numbers as a target file writes them: "7-12, 14-"."""

    spans: tuple[Span, ...]

    def __contains__(self, number: int) -> bool:
        return any(low <= number <= high for low, high in self.spans)

    @property
    def highest(self) -> int:
        """The last number."""
        return max(span.high for span in self.spans)

    def __str__(self) -> str:
        return ", ".join(map(str, self.spans))


@dataclass(frozen=True)
class Rule:
    """One op of a target, and when it runs there. What is empty or None restricts nothing.

    `opset`: of the model. `versions`: of the op (its `since_version`). `rank`, `axes`: how many dimensions x may have,
    and how many of them larger than 1. `same_shape`: no broadcasting. `when`: over the operands. `constant`: operands
    that must be constants. `may_be_constant`: the only ones that may. `computed`: how many operands may be computed.
    `shapes`: operand -> the layouts (see `layout`) that its constants may have. `stated`: attributes that must be
    written out. `pattern_only`: runs only inside the target's patterns. `indirect`: it runs, but not as it stands.
    `doubt`: why it is not sure that it runs. `note`: a sentence to be shown.
    """

    opset: Spans | None = None
    versions: frozenset[int] | None = None
    dtypes: frozenset[str] | None = None
    rank: Spans | None = None
    axes: Spans | None = None
    same_shape: bool = False
    when: Condition | None = None
    constant: tuple[str, ...] = ()
    may_be_constant: tuple[str, ...] | None = None
    computed: int | None = None
    shapes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stated: tuple[str, ...] = ()
    pattern_only: bool = False
    indirect: str = ""
    doubt: str = ""
    note: str = ""


@dataclass(frozen=True)
class Wrong:
    """A way in which an op that runs gives wrong results.

    `when`: for which operands, `inputs`: for which x; None for all. `unless_stated`: where one of these attributes is
    left to its default.
    """

    why: str
    when: Condition | None = None
    inputs: Condition | None = None
    unless_stated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constants:
    """How constants are written. `shared`: one may be read twice. `nodes`: as Constant nodes, not initializers."""

    shape: ConstantShape = "one"
    shared: bool = True
    nodes: bool = False


@dataclass(frozen=True)
class Target:
    """A runtime at one level.

    `ops`: op -> its rules, one of which must hold; None: every op of the ONNX standard. `missing`: what it is known to
    lack; None: everything else. `notes`: op -> a sentence. `patterns`: activation -> forms that it takes for one layer.
    `opset`: of models that it reads. `value_info`: every new value has to be declared with its shape. `quantised`:
    every value needs a QuantizeLinear. `remarks`: sentences. `ran`: whether somebody ran it, or only read its source.
    """

    name: str
    title: str
    version: str
    source: str
    date: str
    commit: str = ""
    ran: bool = False
    ops: Mapping[str, tuple[Rule, ...]] | None = None
    missing: frozenset[str] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, tuple[Wrong, ...]] = field(default_factory=dict)
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dtypes: frozenset[str] | None = None
    opset: Spans | None = None
    constants: Constants = Constants()
    value_info: bool = False
    quantised: bool = False
    remarks: tuple[str, ...] = ()

    def rules(self, op: str) -> tuple[Rule, ...]:
        """Return the rules of an op; empty for one that it does not have."""
        if self.ops is None:
            return () if "::" in op else (Rule(),)
        return self.ops.get(op, ())

    def lacks(self, op: str) -> bool:
        """Tell whether it is known not to have an op; of others nothing may be known."""
        return not self.rules(op) and (self.missing is None or op in self.missing)
