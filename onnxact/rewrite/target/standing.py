"""(judge, site) -> why the nodes of a site cannot run on the target as they stand."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace

from onnx import NodeProto

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Call, Expr, Variable, varies
from onnxact.activation.forms import find_form
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.constants import PASSES_CONSTANTS
from onnxact.model.scope import Scope
from onnxact.rewrite.site import Bound, Site, Tensor
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
    return Place(scope.opset, site.dtype or "float32", site.parameters, shape, _nodes_only(scope))


def _nodes_only(scope: Scope) -> str:
    """Return how constants could become initializers where they cannot be any; empty where they can."""
    if scope.is_function:
        return "inline the function first: onnx.inliner.inline_local_functions(model)"
    version = scope.view.model.ir_version
    if version >= _IR_WITH_FREE_INITIALIZERS:
        return ""
    return (
        f"the model has IR version {version}: initializers are free from 4 (set model.ir_version, drop them as inputs)"
    )


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
    yield from refusals_of_nodes(judge, site)


def refusals_of_nodes(judge: Judge, site: Site) -> Iterator[Refusal]:
    """Yield why the nodes of a site do not run one by one, each reason once."""
    target, scope = judge.target, site.scope
    nodes = [scope.nodes[index] for index in site.nodes if scope.op_types[index] != "Constant"]
    found = [judge.node(use_of_node(scope, node)) for node in nodes]
    if not target.constants.shared:
        found += [_sharing(scope, node) for node in nodes]
    if not takes_constant_nodes(target):
        found += [_made_by_nodes(scope, node) for node in nodes]
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


def takes_constant_nodes(target: Target) -> bool:
    """Tell whether a target is not known to refuse Constant nodes."""
    return target.ops is None or not target.lacks("Constant")


def _made_by_nodes(scope: Scope, node: NodeProto) -> Refusal | None:
    """Return which constant of a node is no initializer, None for none."""
    for name in node.input:
        if name and _comes_from_node(scope, name):
            return Refusal("restricted", "its constants are Constant nodes, and there is no Constant")
    return None


def _comes_from_node(scope: Scope, name: str) -> bool:
    """Tell whether a value is a Constant node's, or what Cast and Identity make of one."""
    passed: set[str] = set()
    while (owner := scope.owner(name)) is not None and name in owner.producers and name not in passed:
        passed.add(name)
        node = owner.nodes[owner.producers[name]]
        if node.op_type == "Constant":
            return True
        if node.op_type not in PASSES_CONSTANTS or not node.input:
            return False
        scope, name = owner, node.input[0]
    return False


def with_constants(site: Site) -> Site:
    """Return a site with the Constant nodes that only it reads, so that initializers take their place."""
    scope = site.scope
    if scope.is_function:
        return site
    read = dict.fromkeys(name for index in site.nodes for name in scope.nodes[index].input)
    own = {name: scope.producers[name] for name in read if _is_own(scope, name, site.nodes)}
    if not own:
        return site
    parameters = {name: _without_name(bound, own) for name, bound in site.parameters.items()}
    inner = tuple(sorted({*site.inner, *own.values()}))
    return Site(replace(site.kind, parameters=parameters, unary=False), site.root, inner, site.input)


def _is_own(scope: Scope, name: str, nodes: tuple[int, ...]) -> bool:
    index = scope.producers.get(name)
    made = index is not None and scope.nodes[index].op_type == "Constant" and scope.constant(name) is not None
    return made and set(scope.readers.get(name, ())) <= set(nodes)


def _without_name(bound: Bound, names: Container[str]) -> Bound:
    return Tensor("", bound.value) if isinstance(bound, Tensor) and bound.name in names else bound


def between_quantisers(site: Site) -> bool:
    """Tell whether a site has a DequantizeLinear before it and a QuantizeLinear behind it."""
    scope = site.scope
    maker = scope.producers.get(site.input)
    if maker is None or scope.nodes[maker].op_type != "DequantizeLinear":
        return False
    readers = scope.readers.get(site.output, ())
    return any(index >= 0 and scope.nodes[index].op_type == "QuantizeLinear" for index in readers)
