"""(what is not the same in two models) -> what inputs have to reach there: bodies, and both sides of every choice.

If (c) { then: Sin | Cos }          c has to be true
Where(c, 0 | 1, x)                  c has to be true somewhere
Mul(Cast(c), ...) in one model      c has to be true somewhere, and false
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from onnxact.check.changes import Changes, Place, Touched, maker
from onnxact.check.interval import Interval
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.tally import Tally
from onnxact.model.scope import Scope

_EITHER, _TRUE, _FALSE = Interval(0.0, 1.0), Interval(1.0, 1.0), Interval(0.0, 0.0)
_ANYTHING = Interval(0.0)
_MIDDLE, _BELOW = 0.5, -1.0
# Ops through which a mask keeps what it says.
_SPREAD = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Expand", "Identity", "Transpose", "Tile"})
_MEASURES = frozenset({"Shape", "Size"})
_CHANCE = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})
_TRUTHS = frozenset(
    {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf"}
)
_IF_BRANCHES = {"then_branch": _TRUE, "else_branch": _FALSE}
_CHOICES = {1: _TRUE, 2: _FALSE}
"""By input of a Where: when it is the one that is taken."""


@dataclass(frozen=True)
class Branch:
    """What has to be seen in one model: of the value that `probe` watches, what lies in `wanted` on both sides of its
    kink. `elem_type` is that of the value, `what` is not the same in both models.
    """

    probe: SiteProbe
    wanted: Interval
    elem_type: int
    what: str

    def doubt(self, seen: Tally | None, problem: str) -> str:
        """Why nothing shows what that comes to, in words; "" where something does."""
        same = f"{self.what} is not the same in both models"
        if problem:
            return f"{same}, and whether any inputs reach it is not known: {problem}"
        if seen is None or not seen.elements:
            return f"{same}, and no inputs that were tried ran it"
        if self.elem_type != TensorProto.BOOL:
            return ""
        never = [
            text
            for text, end, counts in (("false", self.wanted.low, seen.below), ("true", self.wanted.high, seen.above))
            if end == (text == "true") and not counts.any()
        ]
        return f"{same}, and {self.probe.input!r} was never {never[0]} on any inputs that were tried" if never else ""


def branches(changes: Changes, side: int) -> tuple[Branch, ...]:
    """What has to be seen in the model before (0) or after (1)."""
    found = [branch for item in changes.touched for branch in _of_touched(item, side)]
    found += [branch for place in changes.others[side] for branch in _of_other(place)]
    return tuple({(item.probe, item.wanted): item for item in found}.values())


def _of_touched(item: Touched, side: int) -> Iterator[Branch]:
    """Where what decides is the same, the model before says for both."""
    place = item.places[side]
    node = _node(place)
    if _is(node, "If"):
        wanted = [_EITHER] if 0 in item.inputs else [_IF_BRANCHES[name] for name in item.bodies]
        yield from (_of_if(place, side_of_it) for side_of_it in wanted if side == 0 or 0 in item.inputs)
    elif _is(node, "Loop") and item.bodies:
        yield from _of_loop(place)
    elif _is(node, "Where"):
        wanted = [_EITHER] if 0 in item.inputs else [_CHOICES[at] for at in item.inputs]
        yield from (_chosen(place, node.input[0], each) for each in wanted if side == 0 or 0 in item.inputs)
    elif _is(node, "Mul"):
        for at, name in enumerate(node.input):
            if item.inputs and (side == 0 or at in item.inputs):
                yield from _of_mask(place, name, _EITHER if at in item.inputs else _TRUE)


def _of_other(place: Place) -> Iterator[Branch]:
    node = _node(place)
    if _is(node, "If"):
        yield _of_if(place, _EITHER)
    elif _is(node, "Loop"):
        yield from _of_loop(place)
    elif _is(node, "Where"):
        yield _chosen(place, node.input[0], _EITHER)
    elif _is(node, "Mul"):
        for name in node.input:
            yield from _of_mask(place, name, _EITHER)


def _of_if(place: Place, wanted: Interval) -> Branch:
    scope, index = place
    names = [name for name, when in _IF_BRANCHES.items() if wanted in (when, _EITHER)]
    paths = [scope.children[index, name].path for name in names if (index, name) in scope.children]
    return _branch(place, _node(place).input[0], wanted, " or ".join(paths))


def _of_loop(place: Place) -> Iterator[Branch]:
    scope, index = place
    for (at, _), body in scope.children.items():
        name = next(iter(body.inputs), "")
        if at == index and name:
            probe = SiteProbe(body.path, _named(place), name, name, (_BELOW,))
            yield Branch(probe, _ANYTHING, TensorProto.INT64, body.path)


def _chosen(place: Place, name: str, wanted: Interval) -> Branch:
    return _branch(place, name, wanted, f"what {_where(place)} chooses")


def _of_mask(place: Place, name: str, wanted: Interval) -> Iterator[Branch]:
    """The truth values that were made numbers to be multiplied with, if that is what they are."""
    made = maker(place[0], name)
    while made is not None and _node(made).op_type in _SPREAD:
        made = maker(made[0], _node(made).input[0])
    if made is not None and _is(_node(made), "Cast"):
        scope, asked = made[0], _node(made).input[0]
        if scope.types.elem_type(asked) == TensorProto.BOOL or _is_comparison(scope, asked):
            yield _branch(made, asked, wanted, f"what {_where(place)} masks")


def _branch(place: Place, name: str, wanted: Interval, text: str) -> Branch:
    made = maker(place[0], name)
    scope = made[0] if made is not None else place[0].owner(name) or place[0]
    return Branch(SiteProbe(scope.path, _named(place), name, name, (_MIDDLE,)), wanted, TensorProto.BOOL, text)


def is_decided(scope: Scope, name: str) -> bool:
    """Whether no input of the model bears on a value, but for the sizes of what always has the same one."""
    pending, seen = [(scope, name)], set()
    while pending:
        at, current = pending.pop()
        owner = at.owner(current)
        key = (owner.path if owner is not None else "", current)
        if owner is None or key in seen:
            continue
        seen.add(key)
        index = owner.producers.get(current)
        if index is None:
            if current in owner.inputs and current not in owner.initializers:
                return False
            continue
        node = owner.nodes[index]
        if node.op_type in _CHANCE or any(at == index for at, _ in owner.children):
            return False
        if not _is_of_one_size(owner, node):
            pending += [(owner, read) for read in node.input if read]
    return True


def _is_of_one_size(scope: Scope, node: NodeProto) -> bool:
    """Whether a node measures what always has the same size, or takes such a one from what another measures."""
    if node.op_type in _MEASURES:
        return _fixed(scope.shape(node.input[0], infer=True))
    made = maker(scope, node.input[0]) if node.op_type == "Gather" else None
    if made is None or _node(made).op_type != "Shape" or _node(made).attribute:
        return False
    shape, at = made[0].shape(_node(made).input[0], infer=True), scope.constant(node.input[1])
    if shape is None or at is None or not at.size or not (-len(shape) <= at.min() <= at.max() < len(shape)):
        return False
    return _fixed([shape[int(axis)] for axis in at.ravel()])


def _fixed(sizes: Sequence[int | str | None] | None) -> bool:
    return sizes is not None and all(isinstance(size, int) for size in sizes)


def _is_comparison(scope: Scope, name: str) -> bool:
    made = maker(scope, name)
    return made is not None and _node(made).op_type in _TRUTHS


def _node(place: Place) -> NodeProto:
    return place[0].nodes[place[1]]


def _is(node: NodeProto, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in {"", "ai.onnx"}


def _named(place: Place) -> str:
    node = _node(place)
    return node.name or next((name for name in node.output if name), node.op_type)


def _where(place: Place) -> str:
    inside = f" in {place[0].path}" if place[0].path else ""
    return f"{_node(place).op_type} {_named(place)!r}{inside}"
