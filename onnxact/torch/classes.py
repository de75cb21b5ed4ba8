"""Activations of the table <-> classes of torch.nn: LeakyReLU(negative_slope=0.2) <-> leaky_relu with alpha = 0.2.

One row for each activation that PyTorch has a class for. `arguments` says where the class's arguments come from: the
name of a parameter, or a value that never changes. `fixed` are parameters that the class has but does not take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.forms import alias_parameters, find_activation
from onnxact.errors import UsageError
from onnxact.torch.in_place import IN_PLACE

Parameters = Mapping[str, float]
"""Parameter of an activation -> number. A slope that is a tensor of different numbers is left out."""


@dataclass(frozen=True)
class Parameter:
    """Names the parameter of the activation that an argument of a class is."""

    name: str


@dataclass(frozen=True)
class TorchClass:
    """How torch.nn writes one activation; `defaults` are the class's own where it states none or other ones."""

    arguments: Mapping[str, Parameter | float | str] = field(default_factory=dict)
    fixed: Parameters = field(default_factory=dict)
    defaults: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Meaning:
    """What a piece of PyTorch computes: an activation, its parameters as far as they are known, and where it writes."""

    activation: str
    parameters: Parameters = field(default_factory=dict)
    in_place: bool = False


ROWS: dict[str, TorchClass] = {
    "relu": TorchClass(),
    "relu6": TorchClass(),
    "clip": TorchClass({"min_val": Parameter("min"), "max_val": Parameter("max")}, defaults={"min": -1.0, "max": 1.0}),
    "leaky_relu": TorchClass({"negative_slope": Parameter("alpha")}, defaults={"alpha": 0.01}),
    "prelu": TorchClass({"init": Parameter("slope")}, defaults={"slope": 0.25}),
    "thresholded_relu": TorchClass({"threshold": Parameter("alpha"), "value": 0.0}, defaults={"alpha": 1.0}),
    "elu": TorchClass({"alpha": Parameter("alpha")}, defaults={"alpha": 1.0}),
    "celu": TorchClass({"alpha": Parameter("alpha")}, defaults={"alpha": 1.0}),
    "selu": TorchClass(fixed=ACTIVATIONS["selu"].defaults),
    "softplus": TorchClass(
        {"beta": Parameter("beta"), "threshold": Parameter("threshold")}, defaults={"beta": 1.0, "threshold": 20.0}
    ),
    "softsign": TorchClass(),
    "sigmoid": TorchClass(),
    "tanh": TorchClass(),
    "hard_sigmoid": TorchClass(fixed={"alpha": 1 / 6, "beta": 0.5}),
    "hard_swish": TorchClass(),
    "log_sigmoid": TorchClass(),
    "swish": TorchClass(fixed={"beta": 1.0}),
    "mish": TorchClass(),
    "gelu": TorchClass({"approximate": "none"}),
    "gelu_tanh": TorchClass({"approximate": "tanh"}),
}
LEARNS = frozenset({"prelu"})
"""Activations whose class has learnable parameters."""
_SAME: Mapping[tuple[str, tuple[float, ...]], str] = {
    ("clip", (0.0, math.inf)): "relu",
    ("clip", (0.0, 6.0)): "relu6",
}
"""Activations that are another one of the table for these parameters; onnxact.swap finds them as that one too."""


@dataclass(frozen=True)
class Target:
    """What sites become: an activation with all its parameters."""

    activation: str
    parameters: Parameters
    per_channel: bool = False

    @property
    def learns(self) -> bool:
        """Whether each site gets learnable parameters of its own."""
        return self.activation in LEARNS

    def build(self, *, in_place: bool, channels: int = 1) -> nn.Module:
        """Return a new module of the class of torch.nn; where that cannot write in place, of one derived from it."""
        row, name = ROWS[self.activation], ACTIVATIONS[self.activation].torch
        arguments: dict[str, Any] = {argument: self._argument(source) for argument, source in row.arguments.items()}
        if self.learns:
            arguments["num_parameters"] = channels
        if in_place and (derived := IN_PLACE.get(name)) and (name not in _NEEDS_POSITIVE or self._falls()):
            return derived(**arguments)
        native: type[nn.Module] = getattr(nn, name)
        return native(**arguments, inplace=True) if in_place else native(**arguments)

    def _argument(self, source: Parameter | float | str) -> float | str:
        return self.parameters[source.name] if isinstance(source, Parameter) else source

    def _falls(self) -> bool:
        return self.parameters["alpha"] < 0


_NEEDS_POSITIVE = frozenset({"LeakyReLU", "ELU", "CELU"})
"""Classes whose in-place kernel has no gradient for alpha < 0."""


def find_source(name: str) -> Activation:
    """Return the activation whose sites are to be swapped; a UsageError where PyTorch has none of it."""
    return _with_class(find_activation(name))


def find_target(to: str, parameters: Mapping[str, Any], *, per_channel: bool = False) -> Target:
    """Return what sites become, checked. What is not given has the default of the class in torch.nn."""
    activation = _with_class(find_activation(to))
    parameters = {**alias_parameters(to), **parameters}
    names = [param.name for param in activation.params]
    for name, value in parameters.items():
        _check_parameter(activation, names, name, value)
    if per_channel and activation.name not in LEARNS:
        raise UsageError(f"{activation.spelled} takes one number, not one for each channel; swap to prelu")
    row = ROWS[activation.name]
    full = {**row.fixed, **row.defaults, **{name: float(value) for name, value in parameters.items()}}
    if activation.name == "clip" and not full["min"] < full["max"]:
        raise UsageError(f"torch.nn.Hardtanh needs min < max, not min = {full['min']:g}, max = {full['max']:g}")
    if full.get("beta", 1.0) <= 0 or (activation.name == "celu" and full["alpha"] <= 0):
        listed = ", ".join(f"{name} = {value:g}" for name, value in full.items())
        raise UsageError(f"{activation.spelled} needs a parameter above 0: {listed}")
    return Target(activation.name, full, per_channel)


def _with_class(activation: Activation) -> Activation:
    if activation.name not in ROWS:
        known = ", ".join(ACTIVATIONS[name].spelled for name in ROWS)
        raise UsageError(f"torch.nn has no class for {activation.spelled}; it has: {known}")
    return activation


def _check_parameter(activation: Activation, names: list[str], name: str, value: Any) -> None:
    if name not in names:
        raise UsageError(
            f"{activation.spelled} has no parameter {name!r}; its parameters: {', '.join(names) or 'none'}"
        )
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name}: must be one number, not {type(value).__name__}; set single slopes after the swap")
    if math.isnan(value) or (math.isinf(value) and activation.name != "clip"):
        raise UsageError(f"{name}: must be a finite number, not {value:g}")
    fixed = ROWS[activation.name].fixed
    if name in fixed and not math.isclose(fixed[name], value, rel_tol=1e-7):
        raise UsageError(f"torch.nn.{activation.torch} has {name} = {fixed[name]:.10g} and takes no other")


def meaning_of_class(name: str, arguments: Mapping[str, Any], *, in_place: bool = False) -> Meaning | None:
    """Return what a class of torch.nn with these arguments computes; None for none of the table.

    Arguments that are not known are left out. Threshold is an activation where it puts 0, RReLU outside training.
    """
    if name == "RReLU":
        return _mean_slope(arguments, in_place)
    for activation, row in ROWS.items():
        if ACTIVATIONS[activation].torch == name and _agrees(row, arguments):
            numbers = {
                source.name: float(arguments[argument])
                for argument, source in row.arguments.items()
                if isinstance(source, Parameter) and isinstance(arguments.get(argument), (int, float))
            }
            same = _SAME.get((activation, tuple(numbers.values())))
            return Meaning(same or activation, {} if same else {**row.fixed, **numbers}, in_place)
    return None


def _agrees(row: TorchClass, arguments: Mapping[str, Any]) -> bool:
    return all(isinstance(source, Parameter) or arguments.get(name) == source for name, source in row.arguments.items())


def _mean_slope(arguments: Mapping[str, Any], in_place: bool) -> Meaning | None:
    """RReLU outside training is LeakyReLU with the mean of its two slopes."""
    if arguments.get("training", True) is not False:
        return None
    ends = [arguments.get(name) for name in ("lower", "upper")]
    numbers = [float(end) for end in ends if isinstance(end, (int, float))]
    return Meaning("leaky_relu", {"alpha": sum(numbers) / 2} if len(numbers) == 2 else {}, in_place)
