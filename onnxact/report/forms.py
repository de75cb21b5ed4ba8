"""The table of forms, for a person and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from onnxact.activation.catalog import FALSE, Activation
from onnxact.activation.expr import TRUE, ops, size, text
from onnxact.model.schema import first_opset
from onnxact.report.text import table


def forms(activations: Iterable[Activation]) -> Iterator[RenderableType]:
    """Yield the table of forms."""
    for activation in activations:
        defaults = ", ".join(f"{p.name}={p.default:.9g}" for p in activation.params)
        rows = (
            (
                name,
                str(size(form.expr)),
                text(form.expr),
                "" if form.when is TRUE else text(form.when),
                exactness(form.exact),
                ", ".join(f"{at} -> {value:g}" for at, value in form.special.items()),
            )
            for name, form in activation.forms.items()
        )
        title = f"\n{activation.spelled}({defaults})" if defaults else f"\n{activation.spelled}"
        yield from table(title, ("form", "nodes", "formula", "when", "exact", "special inputs"), rows, limit=None)
        yield Text(f"  {'; '.join(_facts(activation))}", style="dim")


def _facts(activation: Activation) -> Iterator[str]:
    """Yield the op and its first opset, the class in torch.nn, the source."""
    native = activation.native
    yield f"{native.op} from opset {first_opset(native.op)}" if native else "no op in ONNX"
    if activation.torch:
        yield f"torch.nn.{activation.torch}"
    yield activation.source


def exactness(condition: Any) -> str:
    """Return an exactness condition as a word or a formula."""
    if condition == FALSE:
        return "no"
    return "yes" if condition is TRUE else text(condition)


def describe(activation: Activation) -> dict[str, Any]:
    """Return an activation and its forms as plain data."""
    native = activation.native
    return {
        "defaults": activation.defaults,
        "op": native.op if native else None,
        "opset": first_opset(native.op) if native else None,
        "source": activation.source,
        "torch": activation.torch or None,
        "forms": {
            name: {
                "formula": text(form.expr),
                "ops": sorted(ops(form.expr)),
                "when": None if form.when is TRUE else text(form.when),
                "exact": exactness(form.exact),
                "special": dict(form.special),
            }
            for name, form in activation.forms.items()
        },
    }
