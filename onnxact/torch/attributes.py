"""Activations that a module keeps as plain attributes: self.activation = F.relu, self.acts = [nn.ReLU(), F.gelu].

nn.Module registers a module that is assigned to an attribute, and not those inside a list or dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from onnxact.torch.classes import Meaning
from onnxact.torch.functionals import meaning_of

_PYTORCHS = frozenset(vars(nn.Module()))


class Stored(NamedTuple):
    """An activation in an attribute; `key` is where in its list, tuple or dict, None for the attribute itself."""

    name: str
    value: Any
    meaning: Meaning
    key: Any = None


def stored_activations(module: nn.Module) -> Iterator[Stored]:
    """Yield what is kept in attributes that are no registered submodules."""
    for name, value in list(vars(module).items()):
        if name in _PYTORCHS:
            continue
        if (meaning := meaning_of(value)) is not None:
            yield Stored(name, value, meaning)
        elif type(value) in (list, tuple, dict):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                if (inner := meaning_of(item)) is not None:
                    yield Stored(name, item, inner, key)


def put(module: nn.Module, name: str, key: Any, new: nn.Module) -> None:
    """Put a module into an attribute, or in the place of one item of its list, tuple or dict, which is made anew."""
    container = vars(module)[name]
    if key is None:
        module.__dict__[name] = new
    elif isinstance(container, dict):
        module.__dict__[name] = {**container, key: new}
    else:
        items = [new if index == key else item for index, item in enumerate(container)]
        module.__dict__[name] = type(container)(items)
