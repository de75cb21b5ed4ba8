"""Slopes as they are given -> the parameters of one site: one number, or a tensor that broadcasts to its input.

[C] on x of [N, C, H, W]  ->  [C, 1, 1]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxact.activation.catalog import Activation
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.arguments import mapping
from onnxact.errors import UsageError
from onnxact.model.edit import Skip
from onnxact.model.types import Shape
from onnxact.rewrite.site import Bound, Site, Slopes, Tensor


class Target(NamedTuple):
    """What sites become: the activation, its parameters, and for slopes, how they lie on a tensor."""

    activation: Activation
    parameters: Mapping[str, Slopes]
    per_channel: bool = False
    channel_axis: int = 1


def as_slopes(parameter: str, value: Any) -> Slopes:
    """Return a number as a float, anything else that NumPy takes as an array, a mapping with arrays."""
    if isinstance(value, Mapping):
        return {name: _as_array(f"{parameter} of {name}", array) for name, array in mapping(parameter, value).items()}
    array = _as_array(parameter, value)
    return float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else array


def _as_array(name: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UsageError(f"{name}: is no array of numbers ({error})") from error


def has_tensor(activation: Activation) -> bool:
    """Tell whether the activation takes a tensor of slopes."""
    return any(param.tensor for param in activation.params)


def unused(value: Slopes, sites: Iterable[Site]) -> Iterator[Skip]:
    """Yield a skip for every name in a mapping of slopes that is the node or output of none of these sites."""
    if isinstance(value, Mapping):
        names = {name for site in sites for name in (site.node, site.output)}
        for name in value:
            if name not in names:
                yield Skip("", name, "the slopes have an array of this name, and no site has; it is not used")


def parameters_at(site: Site, to: Target) -> dict[str, Bound] | str:
    """Return the parameters for one site, or why there are none."""
    found: dict[str, Bound] = {}
    for param in to.activation.params:
        value = to.parameters[param.name]
        bound = _slope(site, value, to) if param.tensor else _as_attribute(value)
        if isinstance(bound, str):
            return bound
        found[param.name] = bound
    return found


def _as_attribute(value: Slopes) -> float:
    number = float(np.asarray(value))
    return float(np.float32(number)) if math.isfinite(number) else number


def _slope(site: Site, value: Slopes, to: Target) -> Bound | str:
    if isinstance(value, Mapping):
        named = value.get(site.node) if site.node else None
        array = named if named is not None else value.get(site.output)
        if array is None:
            return (
                f"the slopes have no array called {site.node or site.output!r}; they have {', '.join(list(value)[:8])}"
            )
    else:
        array = np.asarray(value)
    dtype = FLOATS[site.dtype or "float32"]
    if array.size == 1 and not to.per_channel:
        rank = site.scope.shape(site.input)
        return Tensor("", rounded(array.reshape(1 if rank else ()), dtype))
    shape = site.scope.shape(site.input, infer=True)
    if shape is None:
        return f"the rank of {site.input!r} is not known, which slopes for each channel need"
    laid = _laid_out(site, array, shape, to)
    return laid if isinstance(laid, str) else Tensor("", rounded(laid, dtype))


def _laid_out(site: Site, array: NDArray[Any], shape: Shape, to: Target) -> NDArray[Any] | str:
    """Return slopes that broadcast to `shape`: [C] along the channel axis becomes [C, 1, 1, ...]."""
    if array.ndim > 1:
        open_axes = [axis for axis, size in enumerate(reversed(shape), 1) if not isinstance(size, int)]
        if any(axis <= array.ndim and array.shape[-axis] != 1 for axis in open_axes):
            return f"the dimensions {list(shape)} of {site.input!r} are not known where the slopes have some"
        _require_fit(site, array.shape, shape)
        return array
    axis = to.channel_axis if to.channel_axis >= 0 else len(shape) + to.channel_axis
    if not 0 <= axis < len(shape):
        return f"has rank {len(shape)} and no channel axis {to.channel_axis}"
    channels = shape[axis]
    if not isinstance(channels, int):
        return f"the number of channels of {site.input!r} is not known (axis {axis} of {list(shape)})"
    if not channels:
        return f"{site.input!r} has no channel (axis {axis} of {list(shape)})"
    if array.size == 1:
        array = np.full(channels, array.reshape(()))
    laid = array.reshape((array.size,) + (1,) * (len(shape) - axis - 1))
    _require_fit(site, laid.shape, shape)
    return laid


def _require_fit(site: Site, slopes: tuple[int, ...], shape: Shape) -> None:
    tail = shape[len(shape) - len(slopes) :]
    if len(slopes) > len(shape) or any(mine not in (1, size) for mine, size in zip(slopes, tail, strict=True)):
        raise UsageError(f"slopes of shape {list(slopes)} do not fit {site.where}, whose input is {list(shape)}")
