"""Functions and methods of PyTorch <-> the class of torch.nn that computes the same: F.relu, torch.relu, x.relu_().

A function is known by identity, whatever name it was imported under; a method by its name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.torch.classes import Meaning, meaning_of_class
from onnxact.torch.in_place import IN_PLACE

_INF = float("inf")


@dataclass(frozen=True)
class Functional:
    """One function: its name, the class that it stands for, and its arguments after the input, with their defaults.

    `arguments`: name -> (the class's name for it, default), in order; None stands for "must be given".
    `in_place`: whether it writes into its input whatever it is told. `guarded`: whether it is also used on integers.
    `operator`: whether it is one of torch.ops.aten, which take no argument `inplace`.
    """

    name: str
    torch_class: str
    arguments: Mapping[str, tuple[str, Any]]
    in_place: bool = False
    guarded: bool = False
    operator: bool = False

    def written(self, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments after the input by name; None where there are more of them than are known."""
        order = [name for name in self.arguments if name] + ([] if self.operator else ["inplace"])
        unknown = self.operator and not set(named) <= set(order)
        return (
            None if unknown or len(positional) > len(order) else dict(zip(order, positional, strict=False)) | {**named}
        )

    def meaning(self, arguments: Mapping[str, Any], *, in_place: bool = False) -> Meaning | None:
        """Return what it computes with these arguments, by name; those whose value is not known hold UNKNOWN."""
        named = {theirs: arguments.get(mine, default) for mine, (theirs, default) in self.arguments.items()}
        if self.torch_class == "Hardtanh":
            named = {name: _bound(name, value) for name, value in named.items()}
        return meaning_of_class(self.torch_class, named, in_place=in_place or self.in_place)


UNKNOWN = object()
"""A value that only a run would tell."""


def _bound(name: str, value: Any) -> Any:
    return (-_INF if name == "min_val" else _INF) if value is None else value


_BOUNDS = {"min": ("min_val", None), "max": ("max_val", None)}
_ARGUMENTS: dict[str, tuple[str, dict[str, tuple[str, Any]]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "hardtanh": ("Hardtanh", {"min_val": ("min_val", -1.0), "max_val": ("max_val", 1.0)}),
    "clamp": ("Hardtanh", _BOUNDS),
    "clip": ("Hardtanh", _BOUNDS),
    "clamp_min": ("Hardtanh", {"min": ("min_val", None), "": ("max_val", None)}),
    "clamp_max": ("Hardtanh", {"max": ("max_val", None), "": ("min_val", None)}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": ("negative_slope", 0.01)}),
    "prelu": ("PReLU", {"weight": ("init", None)}),
    "threshold": ("Threshold", {"threshold": ("threshold", None), "value": ("value", None)}),
    "elu": ("ELU", {"alpha": ("alpha", 1.0)}),
    "celu": ("CELU", {"alpha": ("alpha", 1.0)}),
    "selu": ("SELU", {}),
    "softplus": ("Softplus", {"beta": ("beta", 1.0), "threshold": ("threshold", 20.0)}),
    "softsign": ("Softsign", {}),
    "sigmoid": ("Sigmoid", {}),
    "expit": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "hardsigmoid": ("Hardsigmoid", {}),
    "hardswish": ("Hardswish", {}),
    "logsigmoid": ("LogSigmoid", {}),
    "log_sigmoid": ("LogSigmoid", {}),
    "silu": ("SiLU", {}),
    "mish": ("Mish", {}),
    "gelu": ("GELU", {"approximate": ("approximate", "none")}),
    "rrelu": ("RReLU", {"lower": ("lower", 1 / 8), "upper": ("upper", 1 / 3), "training": ("training", False)}),
}
_CLAMPS = ("clamp", "clip", "clamp_min", "clamp_max")
_NAMESPACES: tuple[Any, ...] = (nn.functional, torch, torch.special, torch._C._nn)


def _functional(name: str, *, operator: bool = False) -> Functional:
    torch_class, arguments = _ARGUMENTS[name.removesuffix("_")]
    in_place, guarded = name.endswith("_"), name.rstrip("_") in _CLAMPS
    return Functional(name, torch_class, MappingProxyType(arguments), in_place, guarded, operator)


def spellings() -> Iterator[tuple[Any, Functional]]:
    """Yield every function and method of PyTorch that computes an activation, with what it is."""
    for name in (spelled for base in _ARGUMENTS for spelled in (base, base + "_")):
        for namespace in (*_NAMESPACES, torch.Tensor):
            if hasattr(namespace, name):
                yield getattr(namespace, name), _functional(name)
        if hasattr(torch.ops.aten, name):
            operator = getattr(torch.ops.aten, name)
            yield from ((spelled, _functional(name, operator=True)) for spelled in (operator, operator.default))


_BY_IDENTITY: Mapping[int, tuple[Any, Functional]] = MappingProxyType(
    {id(function): (function, functional) for function, functional in spellings()}
)
METHODS: Mapping[str, Functional] = MappingProxyType(
    {name: _functional(name) for base in _ARGUMENTS for name in (base, base + "_") if hasattr(torch.Tensor, name)}
)
"""Method of a tensor -> what it is."""
NAMES = frozenset(functional.name for _, functional in _BY_IDENTITY.values())
"""All names that a function or method of the table has."""
_ALSO = {"relu": "Hardtanh", "relu6": "Hardtanh", "leaky_relu": "RReLU"}
"""Activations that another class computes too, with the right arguments."""


def names_of(activation: str) -> frozenset[str]:
    """Return the names of the functions and methods that can be this activation."""
    classes = {ACTIVATIONS[activation].torch, _ALSO.get(activation)}
    names = [name for name, (torch_class, _) in _ARGUMENTS.items() if torch_class in classes]
    return frozenset(spelled for name in names for spelled in (name, name + "_"))


def find_functional(function: Any) -> Functional | None:
    """Return which function of PyTorch this object is; None for another."""
    known = _BY_IDENTITY.get(id(function))
    return known[1] if known is not None and known[0] is function else None


def meaning_of(value: Any) -> Meaning | None:
    """Return what an object computes when it is called with one tensor: a function, a partial of one, or a module."""
    if isinstance(value, nn.Module):
        return meaning_of_module(value)
    if isinstance(value, functools.partial):
        functional = find_functional(value.func)
        in_place = bool(value.keywords.get("inplace", False))
        plain = functional is not None and not value.args and set(value.keywords) <= {*functional.arguments, "inplace"}
        return functional.meaning(value.keywords, in_place=in_place) if functional and plain else None
    functional = find_functional(value) if callable(value) else None
    return functional.meaning({}) if functional else None


def meaning_of_module(module: nn.Module) -> Meaning | None:
    """Return what a module of a class of torch.nn, or of one that only adds to it, computes; None for any other."""
    kind: Any = type(module)
    base = _activation_class(kind)
    if base is None:
        return None
    names = [
        theirs for _, (torch_class, row) in _ARGUMENTS.items() if torch_class == base for theirs, _ in row.values()
    ]
    arguments = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if isinstance(module, nn.PReLU):
        arguments = {"init": _uniform(module.weight)}
    written_by_hand = type(module).forward is not getattr(nn, base).forward
    return meaning_of_class(base, arguments, in_place=written_by_hand or bool(getattr(module, "inplace", False)))


def _uniform(weight: torch.Tensor) -> Any:
    """Return the slope where all are the same number."""
    if weight.is_meta or not weight.numel():
        return UNKNOWN
    first = weight.detach().flatten()[0]
    return first.item() if bool((weight == first).all()) else UNKNOWN


@functools.cache
def _activation_class(kind: Any) -> str | None:
    """Return the class of torch.nn whose forward this class has; ours that write in place count as theirs."""
    if kind in IN_PLACE.values():
        return str(kind.__base__.__name__)
    for base in kind.__mro__:
        if base.__name__ in _CLASSES and base is getattr(nn, base.__name__):
            return str(base.__name__) if kind.forward is base.forward else None
    return None


_CLASSES = frozenset(torch_class for torch_class, _ in _ARGUMENTS.values())
