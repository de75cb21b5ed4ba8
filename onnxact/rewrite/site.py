"""One place in a model where an activation is computed, and what its parameters are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model.schema import type_name
from onnxact.model.scope import Scope


class Tensor(NamedTuple):
    """A parameter that is a constant of the model: its value name and its value."""

    name: str
    value: NDArray[Any]


class Dynamic(NamedTuple):
    """A parameter that is computed when the model runs: its value name."""

    name: str


class Reference(NamedTuple):
    """A parameter that a local function takes from its caller: the attribute's name.

    always: whether it has a value at every call. Where a call leaves it out, an op's own default holds, which only
    the op itself can say.
    """

    attribute: str
    always: bool = True


Bound = float | str | Tensor | Dynamic | Reference
Parameters = Mapping[str, Bound]
Slopes = float | NDArray[Any] | Mapping[str, NDArray[Any]]
"""One number, one tensor for every site, or a tensor for each site by the name of its node or output."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What like sites of one scope share. Compared by identity: whatever follows from it is worked out once.

    `unary`: each site is one node whose only input is x.
    """

    scope: Scope
    activation: str
    form: str
    parameters: Parameters
    dtype: str | None
    unary: bool = False


class Site(NamedTuple):
    """One activation in a model. `root` is the index of the node that makes its output, `inner` those of the others.

    `x`: the name of the value that enters; empty where it is the first input of the root, which then tells it. A model
    has many sites and few are ever asked for their names, which the nodes keep through every edit.
    """

    kind: Kind
    root: int
    inner: tuple[int, ...] = ()
    x: str = ""

    @property
    def node(self) -> str:
        """The name of the root."""
        return self.kind.scope.nodes[self.root].name

    @property
    def input(self) -> str:
        """The value that enters; empty for a node without inputs."""
        return self.x or _first(self.kind.scope.nodes[self.root].input)

    @property
    def output(self) -> str:
        """The value that leaves; empty for a node without outputs."""
        return _first(self.kind.scope.nodes[self.root].output)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The indices in the scope of all nodes that compute it, in order."""
        return tuple(sorted((*self.inner, self.root)))

    @property
    def scope(self) -> Scope:
        """The scope whose nodes compute it."""
        return self.kind.scope

    @property
    def activation(self) -> str:
        """The activation's name in the table."""
        return self.kind.activation

    @property
    def form(self) -> str:
        """The form's name; "op" for the native op."""
        return self.kind.form

    @property
    def parameters(self) -> Parameters:
        """Parameter name -> what it is bound to."""
        return self.kind.parameters

    @property
    def dtype(self) -> str | None:
        """The floating-point dtype of input and output; None where it is another type, or not known."""
        return self.kind.dtype

    @property
    def type_name(self) -> str | None:
        """The element type of the output, of any kind; None where it is not known."""
        return self.dtype or type_name(self.scope.types.elem_type(self.output)) or None

    @property
    def where(self) -> str:
        """The node for a message: its name or position, and the scope unless that is the main graph."""
        name = self.node or f"{self.scope.nodes[self.root].op_type} #{self.root}"
        return f"{name} in {self.scope.path}" if self.scope.path else name

    def describe(self) -> dict[str, Any]:
        """Return the site as plain data: strings, numbers, lists."""
        return {
            "scope": self.scope.path,
            "node": self.node,
            "input": self.input,
            "output": self.output,
            "dtype": self.type_name,
            "activation": self.activation,
            "form": self.form,
            "params": {name: plain(value) for name, value in self.parameters.items()},
        }


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


def plain(value: Bound) -> Any:
    """Return a parameter as plain data. A long tensor is named, with its shape and range, and not listed."""
    if isinstance(value, Dynamic):
        return {"value": value.name}
    if isinstance(value, Reference):
        return {"attribute": value.attribute}
    if not isinstance(value, Tensor):
        return value
    numbers = np.asarray(value.value, np.float64)
    if numbers.size == 1:
        return float(numbers.reshape(()))
    if not numbers.size:
        return {"value": value.name, "shape": list(numbers.shape)}
    return {"value": value.name, "shape": list(numbers.shape), "min": float(numbers.min()), "max": float(numbers.max())}


def storable(value: Bound) -> Any:
    """Return a parameter as plain data from which `stored` makes it again, to the bit."""
    if isinstance(value, Dynamic):
        return {"computed": value.name}
    if isinstance(value, Reference):
        return {"attribute": value.attribute, "always": value.always}
    if isinstance(value, Tensor):
        if value.name:
            return {"constant": value.name}
        numbers = np.asarray(value.value)
        listed = numbers.astype(np.float64).reshape(-1).tolist()
        return {"dtype": numbers.dtype.name, "shape": list(numbers.shape), "numbers": listed}
    return value


def stored(data: Any, scope: Scope) -> Bound:
    """Return the parameter that `storable` described; a constant that the model still has, as the model has it.

    Raises ValueError, KeyError or TypeError for anything else.
    """
    if not isinstance(data, dict):
        return data if isinstance(data, str) else float(data)
    if "computed" in data:
        return Dynamic(str(data["computed"]))
    if "attribute" in data:
        return Reference(str(data["attribute"]), bool(data["always"]))
    if "constant" in data:
        held = scope.constant(data["constant"])
        if held is None:
            raise ValueError(f"{data['constant']!r}, a constant of it, is gone")
        return Tensor(data["constant"], held)
    return Tensor("", rounded(np.reshape(data["numbers"], data["shape"]), FLOATS[data["dtype"]]))


def known(parameters: Parameters) -> dict[str, Any] | None:
    """Return the parameters as numbers, arrays and texts for `numeric.fold`; None where one is not a constant."""
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, (Dynamic, Reference)):
            return None
        values[name] = value.value if isinstance(value, Tensor) else value
    return values
