"""What sites become: one object for all sites that become the same in the same way."""

from __future__ import annotations

from dataclasses import dataclass

from onnxact.activation.expr import Expr
from onnxact.rewrite.site import Parameters


@dataclass(frozen=True, eq=False)
class After:
    """What sites become. `exact`: whether the result has the same bits; None where the meaning changes."""

    activation: str
    form: str
    parameters: Parameters
    expr: Expr
    exact: bool | None = None
    note: str = ""
