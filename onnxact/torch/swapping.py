"""swap(module, "relu", "leaky_relu", alpha=0.2) -> the module with another activation, and what was changed.

Calls of functions are swapped by rewriting the syntax tree of the methods that make them, in a class derived from the
module's own: the call becomes one of a submodule, which torch.compile, the exporter, hooks and state_dict see as any
other, and which costs what any other costs. torch.fx would change the class and freeze control flow, and a
TorchFunctionMode would run Python for every operation of every forward and could not tell calls apart under
torch.compile. What no source can be found for is left alone and listed; example inputs show what was missed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from onnxact.errors import UsageError
from onnxact.export.example import Example, make_example
from onnxact.export.quiet import quietly
from onnxact.rewrite.select import Selection
from onnxact.torch.applying import apply
from onnxact.torch.calls import Coder
from onnxact.torch.classes import LEARNS, find_source, find_target
from onnxact.torch.graphs import plan_graph
from onnxact.torch.obstacles import refuse_wrappers
from onnxact.torch.planning import Order, Plan, Tree, plan_modules
from onnxact.torch.report import Computed, Site, Skip, Swap
from onnxact.torch.watching import Watched, watch

_Module = TypeVar("_Module", bound=nn.Module)
__all__ = ["Computed", "Site", "Skip", "Swap", "swap"]


def swap(
    module: nn.Module,
    source: str,
    to: str,
    *,
    alpha: float | None = None,
    parameters: Mapping[str, float] | None = None,
    per_channel: bool = False,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    inputs: Any = None,
    inplace: bool = False,
) -> Swap:
    """Replace activation `source` by activation `to`, wherever the module computes it: see the module's docstring.

    The module is copied, as torch.ao.quantization does it, unless `inplace`; build optimisers after the swap. Whether
    it is training, devices, dtypes, hooks and the state_dict keys of everything else stay. An activation that writes
    into its input is replaced by one that does.

    alpha: alpha of the new activation, or the slope of prelu. parameters: by the names of `onnxact forms`; what is not
    given has the default of the class in torch.nn. per_channel: for prelu, one slope for each channel (axis 1), where
    their number follows from the code, or from a run on `inputs`; else one for all. include, exclude: regular
    expressions, searched in the paths of the new submodules and in the names of functions (BasicBlock.forward).
    inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. A copy is run on them once, in evaluation
    mode; that also finds calls that the code does not show.

    For prelu, each place that calls an activation gets slopes of its own, also where they shared one module. Places
    that the swap could not reach are in `skipped`. Raises UsageError.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"a torch.nn.Module is needed, not {type(module).__name__}")
    target = find_target(to, _with_alpha(to, alpha, parameters or {}), per_channel=per_channel)
    order = Order(find_source(source).name, target, Selection(include, exclude))
    refuse_wrappers(module, target.learns or order.source in LEARNS)
    holder = _Holder(module if inplace else _copied(module))
    watched = _watched(holder, order, make_example(module, inputs, (), ())) if inputs is not None else Watched()
    plan = plan_of(holder, order)
    if inplace and (id(holder), "") in plan.new:
        raise UsageError(
            f"the module itself is {order.source}, which cannot be replaced in place; use what is returned"
        )
    sites = apply(plan, target, watched.seen)
    skips = (*plan.skips, *watched.missed)
    found, ran = dict(plan.found), inputs is not None
    return Swap(holder.held, order.source, target.activation, target.parameters, sites, skips, found, ran)


class _Holder(nn.Module):
    """A module with one submodule, at the path "", so that the outermost module can be replaced like any other."""

    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self._modules[""] = held

    @property
    def held(self) -> nn.Module:
        """The submodule."""
        held = self._modules[""]
        assert held is not None
        return held

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Call the submodule."""
        return self.held(*arguments, **named)


def plan_of(root: nn.Module, order: Order) -> Plan:
    """Return what a swap would do to a module."""
    plan = Plan(Tree(root))
    coder = Coder(order, plan)
    for module in plan_modules(order, plan):
        if not plan_graph(order, plan, module):
            coder.read(module)
    coder.finish()
    return plan


def _watched(holder: _Holder, order: Order, example: Example) -> Watched:
    """Return what a run of a swapped copy sees."""
    trial = _copied(holder)
    plan = plan_of(trial, order)
    apply(plan, replace(order.target, per_channel=False), {})
    return watch(trial, plan, order, example)


def _with_alpha(to: str, alpha: float | None, parameters: Mapping[str, float]) -> Mapping[str, float]:
    """Return all parameters by name; `alpha` is prelu's slope."""
    if alpha is None:
        return parameters
    name = "slope" if find_target(to, {}).activation == "prelu" else "alpha"
    if name in parameters:
        raise UsageError(f"{name} is given twice, as alpha and as a parameter")
    return {name: alpha, **parameters}


def _copied(module: _Module) -> _Module:
    try:
        with quietly():  # graphs hold tree specifications, whose copying warns
            return copy.deepcopy(module)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UsageError(f"the module cannot be copied: {error}; give inplace=True to change it itself") from error
