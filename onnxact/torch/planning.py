"""(module, source, target, selection) -> a plan: new submodules, classes to derive, settings; nothing is changed yet.

Every submodule is looked at once: its own submodules, what it keeps as attributes, and the code of its forward with
the methods and functions that it calls. Where the new activation learns, each call has parameters of its own; a
submodule that is called in two places becomes two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.fx import GraphModule

from onnxact.rewrite.select import Selection
from onnxact.torch import obstacles
from onnxact.torch.attributes import Stored, stored_activations
from onnxact.torch.classes import Meaning, Target
from onnxact.torch.functionals import meaning_of_module
from onnxact.torch.places import Slot
from onnxact.torch.report import Skip
from onnxact.torch.widths import NOTHING, Width, after_module, is_sequential


@dataclass
class New:
    """A submodule to be made.

    `replaces`: what stands there now, None for a call of a function. `key`: where in a list or dict called `stored` it
    goes as well. `calls`: how many places in the code call it. `width`: of what enters it.
    """

    owner: nn.Module
    name: str
    path: str
    before: Meaning
    written: str
    replaces: Any = None
    stored: str = ""
    key: Any = None
    function: str = ""
    file: str = ""
    line: int = 0
    width: Width = NOTHING
    calls: int = 0


@dataclass(frozen=True)
class Order:
    """What is to be swapped for what, and where."""

    source: str
    target: Target
    selection: Selection

    def takes(self, path: str, function: str = "") -> bool:
        """Tell whether the swap is asked for at this path or in this function."""
        return self.selection.reaches(path, function)


class Tree:
    """All submodules of a module by path, each once, and the names that are taken in each."""

    def __init__(self, root: nn.Module) -> None:
        self.paths: dict[int, str] = {}
        self.modules: list[nn.Module] = []
        self._by_path: dict[str, nn.Module] = {}
        self._taken: dict[int, set[str]] = {}
        self._enter(root, "")

    def _enter(self, module: nn.Module, path: str) -> None:
        pending = [(module, path)]
        while pending:
            module, path = pending.pop()
            if id(module) in self.paths:
                continue
            self.paths[id(module)] = path
            self._by_path[path] = module
            self.modules.append(module)
            pending += [(child, join(path, name)) for name, child in children(module)[::-1]]

    def path(self, module: nn.Module) -> str:
        """Return the first path of a submodule."""
        return self.paths[id(module)]

    def at(self, path: str) -> nn.Module | None:
        """Return the submodule at its first path."""
        return self._by_path.get(path)

    def has(self, module: Any) -> bool:
        """Tell whether an object is a registered submodule."""
        return id(module) in self.paths

    def free(self, module: nn.Module, base: str) -> str:
        """Return an attribute name that a module does not have yet, and take it: prelu, prelu_1, ..."""
        taken = self._taken.setdefault(id(module), set(dir(module)))
        count = 0
        while (name := f"{base}_{count}" if count else base) in taken:
            count += 1
        taken.add(name)
        return name


@dataclass
class Plan:
    """What is to be done to a module.

    `new`: by module and name. `left`: files and lines that were left alone on purpose. `found`: the activations that
    are submodules now.
    """

    tree: Tree
    new: dict[tuple[int, str], New] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    classes: list[tuple[nn.Module, type[nn.Module]]] = field(default_factory=list)
    settings: list[tuple[nn.Module, str, Any]] = field(default_factory=list)
    aliases: list[tuple[nn.Module, Stored]] = field(default_factory=list)
    graphs: list[tuple[GraphModule, str, str]] = field(default_factory=list)
    left: set[tuple[str, int]] = field(default_factory=set)
    found: Counter[str] = field(default_factory=Counter)

    def add(self, new: New) -> None:
        """Plan a submodule."""
        self.new[id(new.owner), new.name] = new


def children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what is registered in a module, by name; two names may have the same one."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def join(path: str, name: str) -> str:
    """Return the path of a submodule of the one at `path`."""
    return f"{path}.{name}" if path else name


def plan_modules(order: Order, plan: Plan) -> list[nn.Module]:
    """Plan what submodules and attributes become, and return the modules whose code is to be read, in order."""
    tree, read = plan.tree, list[nn.Module]()
    shut: set[int] = set()
    for module in tree.modules:
        reason = "" if id(module) in shut else obstacles.closed(module, order.source)
        if reason is not None:
            shut |= {id(inner) for inner in module.modules()}
            if reason:
                plan.skips.append(Skip(tree.path(module), type(module).__name__, reason))
            continue
        for name, child in children(module):
            plan.found.update(meaning.activation for meaning in (meaning_of_module(child),) if meaning)
            _plan_child(order, plan, Slot(module, name), child)
        for stored in stored_activations(module):
            _plan_stored(order, plan, module, stored)
        read.append(module)
    for module in filter(is_sequential, read):
        _note_widths(plan, module, NOTHING)
    return read


def _plan_child(order: Order, plan: Plan, slot: Slot, child: nn.Module) -> None:
    path = join(plan.tree.path(slot.owner), slot.name)
    meaning = meaning_of_module(child)
    reason = obstacles.altered(child, order.source)
    if meaning is not None and meaning.activation == order.source:
        reason = obstacles.unfit(child) or same(order, meaning)
    elif not reason or _is_read(child):
        return
    if not order.takes(path):
        return
    if reason or meaning is None:
        plan.skips.append(Skip(path, type(child).__name__, reason))
    else:
        plan.add(New(slot.owner, slot.name, path, meaning, type(child).__name__, child))


def _is_read(module: nn.Module) -> bool:
    """Tell whether a module's forward is read as code, and so has places of its own."""
    return not type(module).forward.__module__.startswith("torch.") and not isinstance(module, nn.RReLU)


def same(order: Order, meaning: Meaning) -> str:
    """Return why a site stays that is what the swap would make of it."""
    target = order.target
    if meaning.activation != target.activation or target.per_channel:
        return ""
    equal = all(meaning.parameters.get(name) == value for name, value in target.parameters.items())
    return f"it is {target.activation.replace('_', '-')} with these parameters already" if equal else ""


def _plan_stored(order: Order, plan: Plan, module: nn.Module, stored: Stored) -> None:
    if stored.meaning.activation != order.source or same(order, stored.meaning):
        return
    tree = plan.tree
    if tree.has(stored.value):
        plan.aliases.append((module, stored))
        return
    in_container = stored.key is not None
    name = tree.free(module, f"{stored.name}_{stored.key}") if in_container else stored.name
    path = join(tree.path(module), name)
    if not order.takes(path):
        return
    written = getattr(stored.value, "__name__", type(stored.value).__name__)
    container = stored.name if in_container else ""
    plan.add(New(module, name, path, stored.meaning, written, stored.value, container, stored.key))
    if isinstance(module, nn.TransformerEncoderLayer):
        plan.settings.append((module, "activation_relu_or_gelu", 0))


def _note_widths(plan: Plan, sequential: nn.Module, width: Width) -> None:
    """Note what enters the activations of a Sequential, where what stands before them tells."""
    for name, child in children(sequential):
        new = plan.new.get((id(sequential), name))
        if new is not None and new.width == NOTHING:
            new.width = width
        if is_sequential(child):
            _note_widths(plan, child, width)
        width = after_module(child, width)
