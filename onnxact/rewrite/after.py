"""What sites become: one object for all sites that become the same in the same way."""

from __future__ import annotations

from dataclasses import dataclass

from onnxact.activation.expr import Expr
from onnxact.rewrite.expansion import Expansion
from onnxact.rewrite.site import Parameters
from onnxact.rewrite.target.layout import Writing


@dataclass(frozen=True, eq=False)
class After:
    """What sites become. `exact`: whether the result has the same bits; None where the meaning changes.

    `writing`: how a target wants the constants. `around`: what a fused node computes beside the activation.
    """

    activation: str
    form: str
    parameters: Parameters
    expr: Expr
    exact: bool | None = None
    note: str = ""
    warning: str = ""
    writing: Writing | None = None
    around: Expansion | None = None
