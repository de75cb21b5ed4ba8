"""--dynamic x:0=batch -> torch.export's dynamic_shapes: an axis of any size, called "batch" in the ONNX model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from onnxact.errors import UsageError

if TYPE_CHECKING:
    from onnxact.export.example import Example

_STATIC = re.compile(r"static shape of (?P<size>\d+) for dimension inputs\['(?P<name>\w+)'\]\.shape\[(?P<axis>\d+)\]")
"""How torch.export says that an axis has one size (torch/fx/experimental/symbolic_shapes.py)."""


@dataclass(frozen=True)
class DynamicAxis:
    """One --dynamic: an axis of an input, and what its size is called."""

    input: str
    axis: int
    symbol: str


def parse_dynamic(text: str) -> DynamicAxis:
    """Return "x:0=batch" as an axis. Raises UsageError."""
    place, equals, symbol = text.partition("=")
    name, colon, axis = place.rpartition(":")
    if not (equals and colon and name and axis.removeprefix("-").isdigit()):
        raise UsageError(f"--dynamic {text!r}: write it as INPUT:AXIS=NAME, such as x:0=batch")
    if not symbol.isidentifier():
        raise UsageError(f"--dynamic {text!r}: {symbol!r} is no name for a size; use letters, digits and underscores")
    return DynamicAxis(name, int(axis), symbol)


def dynamic_shapes(named: Mapping[str, Any], dynamic: Sequence[DynamicAxis], *, by_name: bool) -> Any:
    """Return for every argument the names of its dynamic axes, or None; a tuple, or a dict `by_name`.

    Raises UsageError for inputs and axes that are not there, and for one name that stands for two sizes.
    """
    wanted: dict[str, dict[int, str]] = {}
    sizes: dict[str, int] = {}
    for item in dynamic:
        value = _tensor(item, named)
        axis = _axis(item, value)
        axes = wanted.setdefault(item.input, {})
        if axis in axes:
            raise UsageError(f"--dynamic {item.input}:{axis}: given twice")
        axes[axis] = item.symbol
        size = sizes.setdefault(item.symbol, value.shape[axis])
        if size != value.shape[axis]:
            raise UsageError(
                f"--dynamic {item.symbol}: stands for {size} and for {value.shape[axis]} in the example inputs; "
                "axes of one name have one size"
            )
    shapes = [wanted.get(name) if isinstance(value, Tensor) else _nothing(value) for name, value in named.items()]
    return dict(zip(named, shapes, strict=True)) if by_name else tuple(shapes)


def _tensor(item: DynamicAxis, named: Mapping[str, Any]) -> Tensor:
    value = named.get(item.input)
    if not isinstance(value, Tensor):
        tensors = ", ".join(name for name, other in named.items() if isinstance(other, Tensor))
        raise UsageError(f"--dynamic {item.input}: the module has no such tensor input; it has {tensors or 'none'}")
    return value


def _axis(item: DynamicAxis, value: Tensor) -> int:
    if not -value.ndim <= item.axis < value.ndim:
        raise UsageError(
            f"--dynamic {item.input}:{item.axis}: the input has the shape {list(value.shape)}, so axes 0 to "
            f"{value.ndim - 1}"
        )
    return item.axis % value.ndim


def _nothing(value: Any) -> Any:
    return pytree.tree_map(lambda _leaf: None, value)


def fixed_by_another(said: str, example: Example | None) -> str:
    """Return what to give besides, where an axis that was to be dynamic meets one of its size that was not; else "".

    ids [2, 7] + mask [2, 7], --dynamic ids:1=n   ->   --dynamic mask:1=n as well
    """
    found = _STATIC.search(said)
    shapes = example.dynamic_shapes if example is not None else None
    if found is None or shapes is None or example is None:
        return ""
    by_name = shapes if isinstance(shapes, dict) else dict(zip(example.names, shapes, strict=False))
    symbol = (by_name.get(found["name"]) or {}).get(int(found["axis"]))
    others = [*_fixed(example, by_name, int(found["size"]))] if isinstance(symbol, str) else []
    options = " ".join(f"--dynamic {name}:{axis}={symbol}" for name, axis in others)
    return f"it meets an axis of size {found['size']} that is not dynamic: give {options} as well" if options else ""


def _fixed(example: Example, by_name: Mapping[str, Any], size: int) -> Iterator[tuple[str, int]]:
    """Yield the axes of this size that are not dynamic."""
    for name, tensor in zip(example.names, example.tensors, strict=True):
        dynamic = by_name.get(name) or {}
        yield from ((name, axis) for axis, own in enumerate(tensor.shape) if own == size and axis not in dynamic)
