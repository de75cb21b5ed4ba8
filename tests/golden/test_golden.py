"""What each verb does to a model, as ONNX text before and after; `pytest tests/golden --regenerate` writes it anew.

A case is a file: the command in its first line, the model before, the model after, and what was skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

import onnxact
from onnxact.results import Result

FOLDER = Path(__file__).parent
OPTIONS: dict[str, Callable[[ModelProto], Result]] = {}
SOURCES: dict[str, str] = {}
COMMANDS: dict[str, str] = {}


def case(name: str, command: str, before: str, verb: Callable[..., Result], **options: Any) -> None:
    COMMANDS[name], SOURCES[name] = command, before
    OPTIONS[name] = lambda model: verb(model, **options)


def main_graph(body: str, opset: int = 18, parameters: str = "") -> str:
    weights = f"\n<{parameters}>" if parameters else ""
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    return f"{header}\nnet (float[2,3,4] x) => (float[2,3,4] y){weights}\n{{\n{body}\n}}\n"


LEAKY = main_graph("  [conv] h = Neg (x)\n  [act] y = LeakyRelu <alpha = 0.2> (h)")
RELUS = main_graph("  [first] h = Relu (x)\n  [second] y = Max (h, zero)", parameters="float zero = {0}")
SLOPES = np.asarray([0.1, 0.2, 0.3], np.float32)

case("swap_relu", "swap-relu --alpha 0.2", RELUS, onnxact.swap_relu, alpha=0.2)
case("swap_relu_to_prelu", "swap-relu --to prelu --per-channel", RELUS, onnxact.swap_relu, to="prelu", per_channel=True)
case(
    "swap_relu_to_prelu_slopes",
    "swap-relu --to prelu --slopes slopes.npy",
    main_graph("  [act] y = Relu (x)"),
    onnxact.swap_relu,
    to="prelu",
    parameters={"slope": SLOPES},
)
case(
    "swap_relu6_to_hard_swish_at_opset_13",
    "swap --from relu6 --to hard-swish",
    main_graph("  [act] y = Clip (x, lo, hi)", 13, "float lo = {0}, float hi = {6}"),
    onnxact.swap,
    source="relu6",
    to="hard_swish",
)
for form in ("mul-abs-add", "mul-max", "relu-neg", "where", "prelu"):
    case(f"decompose_{form}", f"decompose --form {form}", LEAKY, onnxact.decompose, form=form)
case("decompose_default", "decompose", LEAKY, onnxact.decompose)
case(
    "decompose_ops",
    "decompose --ops Exp,Add,Mul,Div,Neg,Max,Log,Abs --allow-inexact",
    main_graph("  [soft] h = Softplus (x)\n  [sig] y = Sigmoid (h)"),
    onnxact.decompose,
    ops=("Exp", "Add", "Mul", "Div", "Neg", "Max", "Log", "Abs"),
    allow_inexact=True,
)
case(
    "decompose_function",
    "decompose --form relu-neg",
    """<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
net (float[2,3,4] x) => (float[2,3,4] y) { [call] y = local.block <slope = 0.3> (x) }
<domain: "local", opset_import: ["" : 16]>
block <slope> (a) => (b) { c = Neg (a) [act] b = LeakyRelu <alpha: float = @slope> (c) }
""",
    onnxact.decompose,
    form="relu-neg",
)
IF_BODY = """<ir_version: 10, opset_import: ["" : 18]>
net (float[2,3,4] x, bool c) => (float[2,3,4] y)
{
  [choice] y = If (c) <
    then_branch = yes () => (float[2,3,4] a) { [leak] a = LeakyRelu <alpha = 0.25> (x) },
    else_branch = no () => (float[2,3,4] b) { [act] b = Relu (x) }
  >
}
"""
case("decompose_if_body", "decompose --form mul-max", IF_BODY, onnxact.decompose, form="mul-max")
case("swap_relu_if_body", "swap-relu --include choice", IF_BODY, onnxact.swap_relu, include=["choice"])
case(
    "fuse_silu",
    "fuse",
    main_graph("  [gate] g = Sigmoid (x)\n  [silu] y = Mul (x, g)", 24),
    onnxact.fuse,
)
case(
    "fuse_hard_swish",
    "fuse",
    main_graph(
        "  a = Add (x, three)\n  b = Clip (a, lo, hi)\n  c = Mul (x, b)\n  [swish] y = Div (c, hi)",
        14,
        "float three = {3}, float lo = {0}, float hi = {6}",
    ),
    onnxact.fuse,
)
case(
    "fuse_gelu",
    "fuse",
    main_graph(
        "  a = Div (x, root)\n  b = Erf (a)\n  c = Add (b, one)\n  d = Mul (x, c)\n  [gelu] y = Mul (d, half)",
        20,
        "float root = {1.4142135381698608}, float one = {1}, float half = {0.5}",
    ),
    onnxact.fuse,
)
case(
    "fuse_gelu_below_opset_20",
    "fuse",
    main_graph(
        "  a = Div (x, root)\n  b = Erf (a)\n  c = Add (b, one)\n  d = Mul (x, c)\n  [gelu] y = Mul (d, half)",
        17,
        "float root = {1.4142135381698608}, float one = {1}, float half = {0.5}",
    ),
    onnxact.fuse,
)
ABS = main_graph(
    "  a = Mul (x, p)\n  b = Abs (x)\n  c = Mul (b, q)\n  [leaky] y = Add (a, c)",
    parameters="float p = {0.505}, float q = {0.495}",
)
case("fuse_undetermined", "fuse", ABS, onnxact.fuse)
case("fuse_determined_by_hand", "fuse --param alpha=0.01", ABS, onnxact.fuse, parameters={"alpha": 0.01})


def story(name: str) -> str:
    """Return the command, the model before and after, and what was skipped."""
    model = parser.parse_model(SOURCES[name])
    onnx.checker.check_model(model)
    result = OPTIONS[name](model)
    onnx.checker.check_model(result.proto)
    changes = [
        f"{c.site.where}: {c.site.activation} ({c.site.form}) -> {c.activation} ({c.form})" for c in result.sites
    ]
    skips = [f"{skip.scope}:{skip.node}: {skip.reason}" for skip in result.skipped]
    parts = [
        f"$ onnxact {COMMANDS[name]}",
        _text(model),
        "-->",
        _text(result.proto),
        "rewritten",
        *changes,
        "skipped",
        *skips,
    ]
    return "\n".join(parts) + "\n"


def _text(model: ModelProto) -> str:
    return "\n".join(line.rstrip() for line in onnx.printer.to_text(model).splitlines())


@pytest.mark.parametrize("name", SOURCES)
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    path = FOLDER / f"{name}.txt"
    if request.config.getoption("--regenerate", default=False):
        path.write_text(story(name), encoding="utf-8")
    assert story(name) == path.read_text(encoding="utf-8"), "if this is meant: pytest tests/golden --regenerate"


def test_no_text_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SOURCES)
