"""(plan) -> the module with its new submodules and classes, and the sites: the only code that changes a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from onnxact.torch.attributes import put
from onnxact.torch.classes import Target
from onnxact.torch.graphs import rewire
from onnxact.torch.planning import New, Plan
from onnxact.torch.report import Computed, Site, computed

_HOOKS = tuple(name for name in vars(nn.Module()) if "hook" in name)


class Seen(NamedTuple):
    """What a run saw of a new submodule: how often it was called, and the sizes of axis 1 of its inputs.

    `last`: whether an input came from a Linear or LayerNorm, with features on its last axis, which is not axis 1.
    `blind`: whether the run could not be watched.
    """

    calls: int = 0
    channels: frozenset[int] = frozenset()
    last: bool = False
    blind: bool = False


def apply(plan: Plan, target: Target, seen: Mapping[str, Seen]) -> tuple[Site, ...]:
    """Carry out a plan on the module that it was made for, and return the sites."""
    made: dict[int, nn.Module] = {}
    order = {id(module): position for position, module in enumerate(plan.tree.modules)}
    planned = sorted(plan.new.values(), key=lambda new: order[id(new.owner)])
    sites = tuple(_put(plan, new, target, seen.get(new.path), made) for new in planned)
    for module, stored in plan.aliases:
        if id(stored.value) in made:
            put(module, stored.name, stored.key, made[id(stored.value)])
    for graph_module, node, name in plan.graphs:
        rewire(graph_module, node, name)
    for module, kind in plan.classes:
        module.__class__ = kind
    for module, setting, value in plan.settings:
        setattr(module, setting, value)
    return sites


def _put(plan: Plan, new: New, target: Target, seen: Seen | None, made: dict[int, nn.Module]) -> Site:
    """Make a submodule, put it where it belongs, and return its site. Without parameters, one serves many."""
    slopes, note = _slopes(new, target, seen)
    module = None if target.learns else made.get(id(new.replaces))
    if module is None:
        module = _made(plan, new, target, slopes)
        if new.replaces is not None:
            made[id(new.replaces)] = module
    new.owner.__dict__.pop(new.name, None)
    new.owner._modules[new.name] = module
    if new.stored:
        put(new.owner, new.stored, new.key, module)
    return Site(
        path=new.path,
        module=type(new.owner).__name__,
        written=new.written,
        before=computed(new.before),
        after=Computed(target.activation, dict(target.parameters)),
        function=new.function,
        file=new.file,
        line=new.line,
        in_place=new.before.in_place,
        slopes=slopes if target.learns else 0,
        note=note,
    )


def _made(plan: Plan, new: New, target: Target, slopes: int) -> nn.Module:
    module = target.build(in_place=new.before.in_place, channels=slopes)
    old = new.replaces if isinstance(new.replaces, nn.Module) else None
    like = next(_parameters(plan, new, old), None)
    if like is not None:
        module.to(device=like.device, dtype=like.dtype)
    module.train(new.owner.training if old is None else old.training)
    for name in _HOOKS if old is not None else ():
        module.__dict__[name] = vars(old).get(name, vars(module)[name])
    return module


def _parameters(plan: Plan, new: New, old: nn.Module | None) -> Iterator[torch.Tensor]:
    """Yield parameters of floating-point numbers, those of the nearest modules first."""
    path = plan.tree.path(new.owner).split(".")
    around = [plan.tree.at(".".join(path[:length])) for length in range(len(path), -1, -1)]
    for module in (old, new.owner, *around):
        parameters = module.parameters() if module is not None else ()
        yield from (parameter for parameter in parameters if parameter.is_floating_point())


def _slopes(new: New, target: Target, seen: Seen | None) -> tuple[int, str]:
    """Return how many slopes a submodule gets, and what is to be said about it."""
    watched = seen is not None and not seen.blind
    sizes = seen.channels if seen and watched else frozenset(filter(None, (new.width.channels,)))
    if target.per_channel and (note := _obstacle(sizes, seen)):
        return 1, f"one slope for all: {note}"
    shared = target.learns and seen is not None and seen.calls > 1
    note = f"called {seen.calls} times in one run with the same slopes" if shared and seen else ""
    return min(sizes) if target.per_channel else 1, note


def _obstacle(sizes: frozenset[int], seen: Seen | None) -> str:
    """Return why there cannot be one slope for each channel, "" where there can."""
    if seen and seen.last:
        return "its features lie on the last axis, and torch.nn.PReLU's channels on axis 1"
    if len(sizes) > 1:
        return f"it is called with {' and with '.join(map(str, sorted(sizes)))} channels"
    if sizes:
        return ""
    if seen is None:
        return "the number of channels is not in the code; give inputs"
    return "its calls are inside torch.cond or the like, where nothing sees them" if seen.blind else "no run called it"
