"""(judge, site) -> why the nodes of a site cannot run on the target as they stand."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Call, Expr, Variable, varies
from onnxact.activation.forms import find_form
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.scope import Scope
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.judge import Judge, Place, Refusal
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.use import use_of_node

_IR_WITH_FREE_INITIALIZERS = 4


def place_of(site: Site, target: Target) -> Place:
    """Return the place of a site; its shape is inferred only where the target asks for shapes."""
    scope, infer = site.scope, needs_shapes(target)
    shape = scope.shape(site.output, infer=infer)
    if shape is None:
        shape = scope.shape(site.input, infer=infer)
    nodes_only = scope.is_function or scope.view.model.ir_version < _IR_WITH_FREE_INITIALIZERS
    return Place(scope.opset, site.dtype or "float32", site.parameters, shape, nodes_only)


def needs_shapes(target: Target) -> bool:
    """Tell whether anything about the target depends on shapes."""
    rules = [rule for rules in (target.ops or {}).values() for rule in rules]
    asked = any(rule.rank or rule.axes or rule.shapes or rule.same_shape for rule in rules)
    return asked or target.value_info or target.constants.shape == "full"


def refusals_of(judge: Judge, site: Site) -> Iterator[Refusal]:
    """Yield why a site does not run as it stands, each reason once; nothing where it does."""
    target, scope = judge.target, site.scope
    if any(_stands_as(scope, form, site.root) for form in _patterns(target, site)):
        return
    found = [judge.node(use_of_node(scope, scope.nodes[index])) for index in site.nodes]
    if not target.constants.shared:
        found += [_sharing(scope, scope.nodes[index]) for index in site.nodes]
    yield from dict.fromkeys(refusal for refusal in found if refusal is not None)


def _patterns(target: Target, site: Site) -> Iterator[Expr]:
    for name in target.patterns.get(site.activation, ()):
        yield find_form(ACTIVATIONS[site.activation], name).expr


def _stands_as(scope: Scope, expr: Expr, index: int) -> bool:
    """Tell whether nodes stand in the very order of a form; the site's constants are known to be right."""
    if not isinstance(expr, Call) or index < 0:
        return False
    node = scope.nodes[index]
    if node.op_type != expr.op or schema.plain(node.domain):
        return False
    count = len(node.input)
    args = [arg for name, arg in zip(PRIMITIVES[expr.op].operands, expr.args, strict=False)][:count]
    return _operands_stand(scope, args, list(node.input)) or (
        PRIMITIVES[expr.op].commutative and _operands_stand(scope, args[::-1], list(node.input))
    )


def _operands_stand(scope: Scope, args: list[Expr], names: list[str]) -> bool:
    return all(_operand_stands(scope, arg, name) for arg, name in zip(args, names, strict=False))


def _operand_stands(scope: Scope, arg: Expr, name: str) -> bool:
    if not varies(arg):
        return scope.constant(name) is not None
    if isinstance(arg, Variable):
        return scope.constant(name) is None
    return _stands_as(scope, arg, scope.producers.get(name, -1))


def _sharing(scope: Scope, node: NodeProto) -> Refusal | None:
    """Return which constant of a node another one reads too, None for none."""
    for name in node.input:
        if name and len(scope.readers.get(name, ())) > 1 and scope.constant(name) is not None:
            return Refusal("restricted", f"its constant {name!r} is read by more than one node")
    return None


def between_quantisers(site: Site) -> bool:
    """Tell whether a site has a DequantizeLinear before it and a QuantizeLinear behind it."""
    scope = site.scope
    maker = scope.producers.get(site.input)
    if maker is None or scope.nodes[maker].op_type != "DequantizeLinear":
        return False
    readers = scope.readers.get(site.output, ())
    return any(index >= 0 and scope.nodes[index].op_type == "QuantizeLinear" for index in readers)
