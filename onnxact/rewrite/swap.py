"""Relu(x) -> LeakyRelu(x, 0.2): one activation for another, under the same node and value names.

The only verb that changes what a model computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS, Activation, Form
from onnxact.activation.expr import text
from onnxact.activation.forms import alias_parameters, find_activation
from onnxact.activation.numeric import holds
from onnxact.errors import UsageError
from onnxact.model.edit import Skip
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import LOWEST_OPSET, Setting, choose, obstacle, unavailable
from onnxact.rewrite.draft import Draft, Drafter
from onnxact.rewrite.find import Found, find
from onnxact.rewrite.match import op_parameters
from onnxact.rewrite.obstacle import describe_dtype
from onnxact.rewrite.quantised import STALE, alike_above_zero, clipped, is_quantised
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection, has_parameters
from onnxact.rewrite.site import Bound, Kind, Parameters, Site, Slopes, known
from onnxact.rewrite.slopes import Target, as_slopes, has_tensor, parameters_at, unused


def target(to: str, parameters: Mapping[str, Slopes], *, per_channel: bool = False, channel_axis: int = 1) -> Target:
    """Return the target, checked: known parameters, finite numbers that float32 holds, inside the domain.

    A parameter that is not given has ONNX's default, or the one that the name stands for: 1.702 for quick-gelu's beta.
    """
    activation = find_activation(to)
    if activation.name == "noisy_relu":
        raise UsageError("noisy-relu gives another output at every run; it can be swapped for relu, not the reverse")
    names = [param.name for param in activation.params]
    unknown = [name for name in parameters if name not in names]
    if unknown:
        listed = ", ".join(names) or "none"
        raise UsageError(f"{activation.spelled} has no parameter {unknown[0]!r}; its parameters: {listed}")
    parameters = {name: as_slopes(name, value) for name, value in parameters.items()}
    full = {param.name: parameters.get(param.name, param.default) for param in activation.params}
    for name, value in parameters.items():
        _check_value(activation, name, value)
    if (per_channel or any(isinstance(v, (np.ndarray, Mapping)) for v in full.values())) and not has_tensor(activation):
        raise UsageError(f"{activation.spelled} takes one number, not one for each channel; use --to prelu")
    numbers = {name: float(value) for name, value in full.items() if isinstance(value, (float, int, np.number))}
    _check_domain(activation, numbers)
    if activation.name == "clip" and all(map(math.isinf, numbers.values())):
        raise UsageError("clip without a bound changes nothing: give it a min or a max, or take hard-tanh, -1 to 1")
    return Target(activation, full, per_channel, channel_axis)


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
    wanted, meant = find_activation(source).name, alias_parameters(source)
    drafter = Drafter(view)
    found = find(view)
    quantised = any("QuantizeLinear" in scope.op_types for scope in view.scopes)
    hides = quantised and not allow_no_effect and alike_above_zero(to.activation, to.parameters)
    swapper = _Swapper(to)
    recorded = recorded_sites(view)
    takes_all = selection.takes_all
    for site in found.sites:
        if site.inner and site.kind.activation != wanted and (part := _part(site, wanted)) is not None:
            drafter.skips.extend([part] if selection.reaches(part.node, part.scope) else [])
        if site.kind.activation != wanted or not (takes_all or selection.takes(site)):
            continue
        reason = _inside(site, recorded, found, selection) if recorded or found.refused else ""
        if meant and not reason and not has_parameters(site, meant):
            reason = f"is {wanted}, and not {source}: its parameters are others"
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
    for value in to.parameters.values():
        drafter.skips.extend(unused(value, (site for site in found.sites if site.activation == wanted)))
    return drafter.finish()


def _part(site: Site, wanted: str) -> Skip | None:
    """Return the skip of an op of the activation wanted that is part of another one; None where there is none."""
    native = ACTIVATIONS[wanted].native
    scope, op = site.scope, native.op if native is not None else ""
    index = next((index for index in site.nodes if scope.op_types[index] == op), None)
    if index is None or not _is_native(scope, index, wanted):
        return None
    way = "; swap noisy-relu for relu first, which takes the noise out" if site.activation == "noisy_relu" else ""
    reason = f"is part of a {site.activation} ({site.form}){way}"
    return Skip(scope.path, scope.nodes[index].name, reason)


def _is_native(scope: Scope, index: int, wanted: str) -> bool:
    """Tell whether a node is the activation's op with the operands that make it one: Clip(x, 0, 6) is a relu6."""
    native = ACTIVATIONS[wanted].native
    return native is not None and op_parameters(scope, native, scope.nodes[index]) is not None


class _Swapper:
    """Decides what sites become: once for those of one kind, unless their slopes differ."""

    def __init__(self, to: Target) -> None:
        self.to = to
        self.has_slopes = has_tensor(to.activation)
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
        parameters = parameters_at(site, self.to)
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
    if has_tensor(to.activation) and site.scope.opset < LOWEST_OPSET:
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
