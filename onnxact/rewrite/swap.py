"""Relu(x) -> LeakyRelu(x, 0.2): one activation for another, under the same node and value names.

The only verb that changes what a model computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxact.activation.catalog import Activation, Form
from onnxact.activation.expr import text
from onnxact.activation.forms import find_activation
from onnxact.activation.numeric import FLOATS, holds, rounded
from onnxact.errors import UsageError
from onnxact.model.types import Shape
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import Setting, choose, obstacle, unavailable
from onnxact.rewrite.decompose import LOWEST_OPSET, describe_dtype
from onnxact.rewrite.draft import Draft, Drafter
from onnxact.rewrite.find import Found, find
from onnxact.rewrite.quantised import STALE, alike_above_zero, clipped, is_quantised
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Bound, Kind, Parameters, Site, Slopes, Tensor, known


class Target(NamedTuple):
    """What sites become: the activation, its parameters, and for slopes, how they lie on a tensor."""

    activation: Activation
    parameters: Mapping[str, Slopes]
    per_channel: bool = False
    channel_axis: int = 1


def target(to: str, parameters: Mapping[str, Slopes], *, per_channel: bool = False, channel_axis: int = 1) -> Target:
    """Return the target, checked: known parameters, finite numbers that float32 holds, inside the domain.

    A parameter that is not given has ONNX's default.
    """
    activation = find_activation(to)
    if activation.name == "noisy_relu":
        raise UsageError("noisy-relu gives another output at every run; it can be swapped for relu, not the reverse")
    names = [param.name for param in activation.params]
    unknown = [name for name in parameters if name not in names]
    if unknown:
        listed = ", ".join(names) or "none"
        raise UsageError(f"{activation.spelled} has no parameter {unknown[0]!r}; its parameters: {listed}")
    parameters = {name: _as_slopes(value) for name, value in parameters.items()}
    full = {param.name: parameters.get(param.name, param.default) for param in activation.params}
    for name, value in parameters.items():
        _check_value(activation, name, value)
    if (per_channel or any(isinstance(v, (np.ndarray, Mapping)) for v in full.values())) and not _has_tensor(
        activation
    ):
        raise UsageError(f"{activation.spelled} takes one number, not one for each channel; use --to prelu")
    numbers = {name: float(value) for name, value in full.items() if isinstance(value, (float, int, np.number))}
    _check_domain(activation, numbers)
    return Target(activation, full, per_channel, channel_axis)


def _as_slopes(value: Any) -> Slopes:
    """Return a number as a float, anything else that NumPy takes as an array, a mapping with arrays."""
    if isinstance(value, Mapping):
        return {name: np.asarray(array) for name, array in value.items()}
    array = np.asarray(value)
    return float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else array


def _has_tensor(activation: Activation) -> bool:
    return any(param.tensor for param in activation.params)


def _check_value(activation: Activation, name: str, value: Slopes) -> None:
    arrays = list(value.values()) if isinstance(value, Mapping) else [np.asarray(value)]
    bounds = activation.name == "clip" and isinstance(value, float)
    for array in arrays:
        if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
            raise UsageError(f"{name}: must be numbers, not {array.dtype}")
        wide = array.astype(np.float64)
        with np.errstate(over="ignore"):
            finite = np.isfinite(wide.astype(np.float32))
        if not np.all(finite) and not (bounds and not math.isnan(float(wide))):
            raise UsageError(f"{name}: must be a finite float32 number, not {float(wide[~finite][0]):g}")


def _check_domain(activation: Activation, numbers: dict[str, float]) -> None:
    form = activation.forms.get("op")
    if form is None or len(numbers) < len(activation.params):
        return
    if not any(holds(other.when, numbers) for other in activation.forms.values()):
        listed = ", ".join(f"{name} = {value:g}" for name, value in numbers.items())
        raise UsageError(f"{activation.spelled} needs {text(form.when)}, not {listed}")


def plan(
    view: View,
    source: str,
    to: Target,
    *,
    selection: Selection = EVERYTHING,
    allow_no_effect: bool = False,
) -> Draft:
    """Return what swapping does: every selected site of `source`, in each of its spellings, becomes `to`."""
    wanted = find_activation(source).name
    drafter = Drafter(view)
    found = find(view)
    quantised = any("QuantizeLinear" in scope.op_types for scope in view.scopes)
    hides = quantised and not allow_no_effect and alike_above_zero(to.activation, to.parameters)
    swapper = _Swapper(to)
    recorded = recorded_sites(view)
    takes_all = selection.takes_all
    for site in found.sites:
        if site.kind.activation != wanted or not (takes_all or selection.takes(site)):
            continue
        reason = _inside(site, recorded, found, selection) if recorded or found.refused else ""
        if not reason and hides:
            reason = clipped(site)
        after = reason or swapper.becomes(site)
        if isinstance(after, str):
            drafter.skip(site, after)
            continue
        if quantised and is_quantised(site):
            after = swapper.to_be_calibrated(after)
        drafter.write(site, after, "" if view.recorded else None)
    drafter.skips.extend(found.like([wanted], selection))
    return drafter.finish()


class _Swapper:
    """Decides what sites become: once for those of one kind, unless their slopes differ."""

    def __init__(self, to: Target) -> None:
        self.to = to
        self.has_slopes = _has_tensor(to.activation)
        self.decided: dict[Kind, After | str] = {}
        self.warned: dict[After, After] = {}

    def becomes(self, site: Site) -> After | str:
        """Return what a site becomes, or why it stays."""
        after = self.decided.get(site.kind)
        if after is None:
            after = self._decide(site)
            if not self.has_slopes:
                self.decided[site.kind] = after
        return after

    def to_be_calibrated(self, after: After) -> After:
        """Return the same with the warning that a quantiser behind it has a scale of another function."""
        if after not in self.warned:
            self.warned[after] = replace(after, warning=STALE)
        return self.warned[after]

    def _decide(self, site: Site) -> After | str:
        if reason := _unfit(site, self.to):
            return reason
        parameters = _parameters_at(site, self.to)
        if isinstance(parameters, str):
            return parameters
        if site.activation == self.to.activation.name and _same(site.parameters, parameters):
            return f"is {self.to.activation.spelled} with these parameters already"
        name, form, reason = _written(site, self.to.activation, parameters)
        return reason if form is None else After(self.to.activation.name, name, parameters, form.expr)


def _written(site: Site, activation: Activation, parameters: Mapping[str, Bound]) -> tuple[str, Form | None, str]:
    """Return the native op, or where this opset or dtype has none the best form; else the reason."""
    dtype, opset = site.dtype or "", site.scope.opset
    native = activation.native
    setting = Setting(opset, dtype, None, allow_inexact=True)
    reason = f"ONNX has no op for {activation.spelled}"
    if native is not None:
        reason = unavailable(native.op, dtype, opset) or obstacle(activation.forms["op"], parameters, setting)
        if not reason:
            return "op", activation.forms["op"], ""
    choice = choose(activation, parameters, setting) if opset >= LOWEST_OPSET else None
    if choice is None or choice.form is None:
        others = f"; and no form fits: {choice.reasons}" if choice else f"; forms need opset {LOWEST_OPSET}"
        return "", None, reason + others
    return choice.name, choice.form, ""


def _unfit(site: Site, to: Target) -> str:
    if site.dtype is None:
        return describe_dtype(site)
    if _has_tensor(to.activation) and site.scope.opset < LOWEST_OPSET:
        return f"opset {site.scope.opset} is too old for a slope that broadcasts: PRelu has that from opset 7"
    return ""


def _inside(site: Site, recorded: Mapping[tuple[str, int], Site], found: Found, selection: Selection) -> str:
    """Return why a site stays as a part of another activation; what is included by name is swapped all the same."""
    place = (site.scope.path, site.root)
    owner = recorded.get(place)
    if owner is not None and owner.root != site.root:
        return part_of(owner)
    return "" if selection.include or site.inner else found.refused.get(place, "")


def _same(mine: Parameters, wanted: Parameters) -> bool:
    numbers, others = known(mine), known(wanted)
    return numbers is not None and others is not None and all(np.array_equal(numbers[n], others[n]) for n in others)


# Slopes


def _parameters_at(site: Site, to: Target) -> dict[str, Bound] | str:
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
