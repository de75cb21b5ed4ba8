"""Small models as ONNX text: `net("float[N] x", "float[N] y", "y = Relu(x)")`."""

from __future__ import annotations

from onnx import ModelProto, parser

RELU = "y = Relu(x)"
LEAKY = "y = LeakyRelu<alpha = 0.2>(x)"
MUL_MAX = "a = Constant<value_float = 0.2>() ax = Mul(x, a) y = Max(x, ax)"
MUL_ABS_ADD = """
    p = Constant<value_float = 0.6>() q = Constant<value_float = 0.4>()
    px = Mul(x, p) b = Abs(x) qb = Mul(b, q) y = Add(px, qb)
"""


def net(
    inputs: str, outputs: str, body: str, weights: str = "", *, opset: int = 18, ir: int = 8, functions: str = ""
) -> ModelProto:
    """The main graph with these inputs, outputs, nodes and `<...>` initializers."""
    imports = f'"" : {opset}, "com.microsoft" : 1, "local" : 1'
    stored = f"<{weights}>" if weights else ""
    header = f"<ir_version: {ir}, opset_import: [{imports}]>"
    return parser.parse_model(f"{header} main ({inputs}) => ({outputs}) {stored} {{ {body} }} {functions}")


def unary(body: str, *, dtype: str = "float", shape: str = "N, 8", opset: int = 18) -> ModelProto:
    """A model from x to y, both of one type."""
    return net(f"{dtype}[{shape}] x", f"{dtype}[{shape}] y", body, opset=opset)
