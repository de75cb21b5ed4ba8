"""Small models from ONNX text, and what is found in them."""

from __future__ import annotations

from onnx import ModelProto, parser

import onnxact
from onnxact.rewrite.site import Site


def net(body: str, weights: str = "", opset: int = 18, shape: str = "float[2,3,4]", more: str = "") -> ModelProto:
    """Return a model from x to y, both of one type."""
    between = f"\n<{weights}>" if weights else ""
    inputs = f"{shape} x{', ' if more else ''}{more}"
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    return parser.parse_model(f"{header}\nnet ({inputs}) => ({shape} y){between}\n{{\n{body}\n}}")


def sites(model: ModelProto) -> list[Site]:
    return list(onnxact.inspect(model).sites)


def reasons(model: ModelProto) -> list[str]:
    return [skip.reason for skip in onnxact.inspect(model).skipped]


def found(model: ModelProto) -> list[tuple[str, str]]:
    """Return (activation, form) of every site."""
    return [(site.activation, site.form) for site in sites(model)]
