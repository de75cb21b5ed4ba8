"""torch.fx.GraphModule: calls of activations in its graph become calls of submodules."""

from __future__ import annotations

from torch import nn
from torch.fx import GraphModule, Node

from onnxact.torch.classes import Meaning
from onnxact.torch.functionals import METHODS, UNKNOWN, Functional, find_functional, names_of
from onnxact.torch.planning import New, Order, Plan, join, same
from onnxact.torch.report import Skip
from onnxact.torch.widths import NOTHING, Width


def plan_graph(order: Order, plan: Plan, module: nn.Module) -> bool:
    """Plan what a GraphModule becomes; return False for a module of another kind."""
    if not isinstance(module, GraphModule):
        return False
    for node in module.graph.nodes:
        if node.op in ("call_function", "call_method"):
            _plan_call(order, plan, module, node)
        elif node.op == "call_module" and order.target.learns:
            _plan_submodule(order, plan, module, node)
    return True


def _plan_call(order: Order, plan: Plan, module: GraphModule, node: Node) -> None:
    functional = METHODS.get(str(node.target)) if node.op == "call_method" else find_functional(node.target)
    meaning = _meaning(functional, node) if functional else None
    path = plan.tree.path(module)
    if functional is None or not node.args or functional.name not in names_of(order.source):
        return
    if meaning is None and order.takes(path, node.name):
        plan.skips.append(Skip(path, node.name, "with these arguments it is no activation of the table"))
    if meaning is None or meaning.activation != order.source:
        return
    if reason := same(order, meaning):
        plan.skips.append(Skip(path, node.name, reason))
        return
    name = plan.tree.free(module, order.target.activation)
    new = New(module, name, join(path, name), meaning, functional.name, function=node.name, width=_width(node))
    if order.takes(new.path, node.name):
        plan.add(new)
        plan.graphs.append((module, node.name, name))


def _meaning(functional: Functional, node: Node) -> Meaning | None:
    written = functional.written(node.args[1:], node.kwargs)
    if written is None:
        return None
    arguments = {name: UNKNOWN if isinstance(value, Node) else value for name, value in written.items()}
    in_place = arguments.pop("inplace", False) is True
    return functional.meaning(arguments, in_place=in_place)


def _plan_submodule(order: Order, plan: Plan, module: GraphModule, node: Node) -> None:
    """Plan a submodule of its own for each further call of one that is to learn."""
    owner, _, name = str(node.target).rpartition(".")
    planned = plan.new.get((id(module.get_submodule(owner)), name))
    if planned is None:
        return
    planned.calls += 1
    if planned.calls == 1:
        planned.width = _width(node) if planned.width == NOTHING else planned.width
        return
    extra = plan.tree.free(module, name)
    path = join(plan.tree.path(module), extra)
    written, width = planned.written, _width(node)
    plan.add(New(module, extra, path, planned.before, written, planned.replaces, function=node.name, width=width))
    plan.graphs.append((module, node.name, extra))


def _width(node: Node) -> Width:
    """Return the width of a node's input, if the graph was traced with shapes."""
    source = node.args[0] if node.args else None
    value = source.meta.get("val", source.meta.get("tensor_meta")) if isinstance(source, Node) else None
    shape = list(getattr(value, "shape", []))
    return Width(shape[1]) if len(shape) > 1 and isinstance(shape[1], int) else NOTHING


def rewire(module: GraphModule, name: str, submodule: str) -> None:
    """Make one node a call of a submodule."""
    node = next(node for node in module.graph.nodes if node.name == name)
    with module.graph.inserting_before(node):
        new = module.graph.call_module(submodule, (node.args[0],))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    module.recompile()
