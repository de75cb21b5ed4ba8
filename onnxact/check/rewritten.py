"""What a check has to look at after a rewrite: (changes) -> probes of their sites, and how strictly to judge."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Expr, ops, parameters, term
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import fold
from onnxact.check.verdict import SiteProbe
from onnxact.rewrite.draft import Change
from onnxact.rewrite.site import Parameters, Tensor, known

_BRANCHING = {"Relu", "Abs", "Max", "Min", "Where", "Clip", "Sign", "LeakyRelu", "PRelu", "Elu"}


def probes(changes: Iterable[Change]) -> tuple[SiteProbe, ...]:
    """Return one probe a change: every point where the function, or the way it is computed, changes its branch."""
    return tuple(
        SiteProbe(
            change.site.scope.path,
            change.site.node,
            change.site.input,
            change.site.output,
            tuple(sorted(_kinks(change.activation, change.form, change.parameters) | _kinks_before(change))),
            _channel_axis(change.parameters),
        )
        for change in changes
    )


def needs_exact(changes: Iterable[Change]) -> bool:
    """Tell whether every change claims to keep the bits, so that a difference is one, however small."""
    return all(change.exact for change in changes)


def _kinks_before(change: Change) -> set[float]:
    site = change.site
    return _kinks(site.activation, site.form, site.parameters)


def _kinks(activation: str, form: str, bound: Parameters) -> set[float]:
    row = ACTIVATIONS[activation]
    values = known({name: value for name, value in bound.items() if not isinstance(value, Tensor)}) or {}
    found = {_value(term(kink), values) for kink in row.kinks}
    if ops(find_form(row, form).expr) & _BRANCHING:
        found.add(0.0)
    return {kink for kink in found if kink is not None and np.isfinite(kink)}


def _value(kink: Expr, values: dict[str, float]) -> float | None:
    if any(name not in values for name in parameters(kink)):
        return None
    return float(np.asarray(fold(kink, values), np.float64))


def _channel_axis(bound: Parameters) -> int | None:
    """Return the axis, counted from the end, along which the slopes differ; None for one slope."""
    for value in bound.values():
        if isinstance(value, Tensor):
            wide = [axis for axis, size in enumerate(value.value.shape) if size > 1]
            return wide[0] - value.value.ndim if len(wide) == 1 else None
    return None
