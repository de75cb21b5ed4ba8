"""(target, place) -> why an op, a form or a node cannot run there as it is.

    Sub(Relu(x), Mul(a, Relu(-x))) on TIDL  ->  "Sub takes at most 1 computed operand, and here are 2"

A place is what is known where a form is to be written: opset, dtype, parameters, the shape of x. In a form that is
written, every computed value has the shape of x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from onnxact.activation.expr import Call, Expr, ops, varies, walk
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model import schema
from onnxact.model.types import Shape
from onnxact.rewrite.choose import unavailable
from onnxact.rewrite.site import Parameters, known
from onnxact.rewrite.target.layout import Writing, accepted
from onnxact.rewrite.target.rules import Rule, Target, Wrong
from onnxact.rewrite.target.use import Operand, Use, use_of_call

Kind = Literal["missing", "restricted", "wrong", "indirect", "unknown"]
"""The target lacks the op; takes it only otherwise; computes it wrongly; runs it by a detour; nothing is known."""
ORDER: tuple[Kind, ...] = ("missing", "restricted", "wrong", "indirect", "unknown")


class Refusal(NamedTuple):
    """Why something cannot run as it is. `what` has {} where the op stands, so that ops with one fault share a line."""

    kind: Kind
    what: str
    op: str = ""

    @property
    def why(self) -> str:
        """The reason as a text."""
        return self.what.replace("{}", self.op)


def summed(refusals: Iterable[Refusal]) -> str:
    """Return the reasons as one text: "no Exp, Log; ..."."""
    by_fault: dict[str, list[str]] = {}
    for refusal in refusals:
        by_fault.setdefault(refusal.what, []).append(refusal.op)
    return "; ".join(what.replace("{}", ", ".join(dict.fromkeys(found))) for what, found in by_fault.items())


class Place(NamedTuple):
    """What is known where a form stands or is to be written.

    `nodes_only`: how to get rid of it that constants have to be Constant nodes there; empty where they have not.
    """

    opset: int
    dtype: str
    parameters: Parameters
    shape: Shape | None
    nodes_only: str = ""


class Judge:
    """Judges uses of ops at one place. What was judged once is remembered."""

    def __init__(self, target: Target, place: Place) -> None:
        self.target = target
        self.place = place
        self._known: dict[Call, Refusal | None] = {}

    @cached_property
    def values(self) -> Mapping[str, Any] | None:
        """The parameters as numbers; None where one is not a constant."""
        return known(self.place.parameters)

    @cached_property
    def writing(self) -> Writing:
        """How constants are written at this place."""
        constants, rules = self.target.constants, self.target.ops or {}
        shapes = {(op, name): layouts for op in rules for rule in rules[op] for name, layouts in rule.shapes.items()}
        nodes = constants.nodes or bool(self.place.nodes_only)
        return Writing(self.place.shape, constants.shape, shapes, constants.shared, nodes, self.target.value_info)

    def form(self, expr: Expr) -> list[Refusal]:
        """Return why a form cannot be written there; empty where it can."""
        calls = [node for node in walk(expr) if isinstance(node, Call) and varies(node)]
        return list(dict.fromkeys(filter(None, map(self.call, calls))))

    def call(self, call: Call) -> Refusal | None:
        """Return why a call of an op cannot be written there, None where it can."""
        if call not in self._known:
            use = use_of_call(call, self.values)
            self._known[call] = self._at_all(use.op) or self._by_rules(use) or self._wrong(use)
        return self._known[call]

    def node(self, use: Use) -> Refusal | None:
        """Return why a node of the model cannot run there as it stands, None where it can."""
        return self._at_all(use.op) or self._by_rules(use) or self._wrong(use)

    def doubts(self, expr: Expr) -> list[str]:
        """Return why it is not sure that a form runs, op by op."""
        found = ((op, rule) for op in sorted(ops(expr)) for rule in self.target.rules(op))
        return [f"{op}: {rule.doubt}" for op, rule in found if rule.doubt]

    def _at_all(self, op: str) -> Refusal | None:
        said = self.target.notes.get(op, "")
        behind = f" ({said})" if said else ""
        if not self.target.rules(op):
            if self.target.lacks(op):
                return Refusal("missing", f"no {{}}{behind}", op)
            return Refusal("unknown", f"nothing is known of {{}}{behind}", op)
        reason = "" if "::" in op else unavailable(op, self.place.dtype, self.place.opset)
        return Refusal("missing", reason) if reason else None

    def _by_rules(self, use: Use) -> Refusal | None:
        rules = self.target.rules(use.op)
        current = [rule for rule in rules if not self._by_version(use.op, rule)]
        refusals = [self._by_rule(use, rule) for rule in current or rules]
        if any(refusal is None for refusal in refusals):
            return None
        return max(filter(None, refusals), key=lambda refusal: ORDER.index(refusal.kind))

    def _by_rule(self, use: Use, rule: Rule) -> Refusal | None:
        reason = (
            self._by_version(use.op, rule)
            or self._by_dtype(use.op, rule)
            or self._by_dimensions(use.op, rule)
            or _by_operands(use, rule, self.place.opset)
            or (self._by_written_constants(use, rule) if use.stated is None else self._by_constants(use, rule))
        )
        if not reason and rule.pattern_only:
            reason = f"{use.op} runs only inside a pattern that is recognised"
        if reason:
            return Refusal("restricted", reason + (f" ({rule.note})" if rule.note else ""))
        return Refusal("indirect", f"{{}}: {rule.indirect}", use.op) if rule.indirect else None

    def _by_version(self, op: str, rule: Rule) -> str:
        opset = self.place.opset
        if rule.opset is not None and opset not in rule.opset:
            return f"{op} at opset {rule.opset} only, not at {opset}"
        found = schema.schema(op, opset)
        if rule.versions is not None and found is not None and found.since_version not in rule.versions:
            listed = ", ".join(map(str, sorted(rule.versions)))
            return f"{op} in version {listed} only, and opset {opset} has version {found.since_version}"
        return ""

    def _by_dtype(self, op: str, rule: Rule) -> str:
        dtypes = self.target.dtypes if rule.dtypes is None else rule.dtypes
        if dtypes is None or self.place.dtype in dtypes:
            return ""
        return f"{op} in {', '.join(sorted(dtypes)) or 'integers'} only, not in {self.place.dtype}"

    def _by_dimensions(self, op: str, rule: Rule) -> str:
        shape = self.place.shape
        if rule.rank is None and rule.axes is None:
            return ""
        if shape is None:
            return f"{op} takes {rule.rank or rule.axes} dimensions, and the rank of x is not known{_fixing(None)}"
        if rule.rank is not None and len(shape) not in rule.rank:
            return f"{op} takes {rule.rank} dimensions, and x has {len(shape)}"
        large = sum(size != 1 for size in shape)
        if rule.axes is not None and large not in rule.axes:
            return f"{op} takes {rule.axes} dimensions that are not 1, and x has {large}"
        return ""

    def _by_constants(self, use: Use, rule: Rule) -> str:
        """Return why the constants that a node of the model has do not fit."""
        if absent := [name for name in rule.stated if name not in (use.stated or ())]:
            return f"{use.op}'s {absent[0]} must be written out"
        for name, value in _inputs(use, self.place.opset):
            array = np.asarray(value)
            layouts = rule.shapes.get(name)
            if layouts is not None and not accepted(array, self.place.shape, layouts):
                return f"{use.op}'s {name} of shape {list(array.shape)} must be {' or '.join(layouts)}"
            if rule.same_shape and array.shape != self.place.shape:
                return f"{use.op} takes operands of one shape, and {name} has shape {list(array.shape)}"
        return ""

    def _by_written_constants(self, use: Use, rule: Rule) -> str:
        """Return why the constants of a call cannot be written as the target takes them."""
        constants = list(_inputs(use, self.place.opset))
        if constants and self.writing.nodes and not self.target.rules("Constant"):
            way_out = f"; {self.place.nodes_only}" if self.place.nodes_only else ""
            return f"its constants would be Constant nodes, and there is no Constant{way_out}"
        if rule.same_shape and constants and self.target.constants.shape != "full":
            return f"{use.op} takes operands of one shape, and its constants have another"
        return next(filter(None, (self._layout(use.op, name, value) for name, value in constants)), "")

    def _layout(self, op: str, name: str, value: Any) -> str:
        if self.writing.keeps(op, name):
            return ""
        if isinstance(value, Operand):
            return f"{op}'s {name} is computed when the model runs, and its shape cannot be told"
        if self.writing.laid_out(op, name, np.asarray(rounded(value, FLOATS[self.place.dtype]))) is not None:
            return ""
        layouts = self.writing.shapes.get((op, name), (self.writing.constants,))
        written = f"{op}'s {name} cannot be written as {' or '.join(layouts)}"
        return f"{written} for x of shape {_shown(self.place.shape)}{_fixing(self.place.shape)}"

    def _wrong(self, use: Use) -> Refusal | None:
        for wrong in self.target.wrong.get(use.op, ()):
            if _is_wrong(wrong, use):
                return Refusal("wrong", f"{use.op} is wrong{_extent(wrong)}: {wrong.why}")
        return None


def _inputs(use: Use, opset: int) -> list[tuple[str, Any]]:
    """Return the operands that are inputs of the node and are not computed from x; none of ops that ONNX has not."""
    if "::" in use.op:
        return []
    attributes = schema.attributes(use.op, opset)
    return [
        (name, value)
        for name, value in use.operands.items()
        if name not in attributes and value is not Operand.COMPUTED and not _is_left_out(use.op, value)
    ]


def _is_left_out(op: str, value: Any) -> bool:
    return op == "Clip" and not isinstance(value, Operand) and bool(np.all(np.isinf(value)))


def _by_operands(use: Use, rule: Rule, opset: int) -> str:
    computed = [name for name, value in use.operands.items() if value is Operand.COMPUTED]
    for name in rule.constant:
        if isinstance(use.operands.get(name), Operand):
            return f"{use.op}'s {name} must be a constant"
    refused = [name for name, _ in _inputs(use, opset) if name not in (rule.may_be_constant or ())]
    if rule.may_be_constant is not None and refused:
        return f"{use.op}'s {refused[0]} must not be a constant"
    if rule.computed is not None and len(computed) > rule.computed:
        return f"{use.op} takes at most {rule.computed} computed operand, and here are {len(computed)}"
    if rule.when is None:
        return ""
    values = use.constants(rule.when.names)
    if values is None:
        return f"{use.op} only where {rule.when}, and that is not a constant"
    return "" if rule.when.holds(values) else f"{use.op} only where {rule.when}"


def _is_wrong(wrong: Wrong, use: Use) -> bool:
    if wrong.unless_stated and (use.stated is None or use.stated.issuperset(wrong.unless_stated)):
        return False
    if wrong.when is None:
        return True
    values = use.constants(wrong.when.names)
    return values is None or wrong.when.holds(values)


def _extent(wrong: Wrong) -> str:
    """Return for which operands and inputs an op is wrong."""
    unstated = f"where {' and '.join(wrong.unless_stated)} is not written out" if wrong.unless_stated else ""
    parts = [unstated, f"where {wrong.when}" if wrong.when else "", f"for {wrong.inputs}" if wrong.inputs else ""]
    found = " ".join(filter(None, parts))
    return f" {found}" if found else ""


def _fixing(shape: Shape | None) -> str:
    """Return how a shape gets known; empty where it is."""
    if shape is None:
        return "; declare it, or run onnx.shape_inference"
    if all(isinstance(size, int) and size > 0 for size in shape):
        return ""
    return "; fix its dimensions with onnx.tools.update_model_dims.update_inputs_outputs_dims"


def _shown(shape: Shape | None) -> str:
    return "that is not known" if shape is None else f"[{', '.join('?' if d is None else str(d) for d in shape)}]"
