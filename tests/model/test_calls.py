"""The element types inside local functions, which their calls decide."""

from __future__ import annotations

from itertools import pairwise

import pytest
from onnx import ModelProto
from onnx.parser import parse_model

import onnxact
from onnxact.model.view import View

HEAD = '<ir_version: 10, opset_import: ["" : 18, "my" : 1]>'
ACT = '<domain: "my", opset_import: ["" : 18]> Act (X) => (Y) { [act] Y = LeakyRelu <alpha = 0.25> (X) }'
PAIR = (
    '<domain: "my", opset_import: ["" : 18, "my" : 1]> Pair (A) => (B) { C = my.Act (A) D = Mul (C, C) B = my.Act (D) }'
)
LOOPED = """
<domain: "my", opset_import: ["" : 18, "my" : 1]> First (A) => (B) { [one] B = LeakyRelu (A) }
<domain: "my", opset_import: ["" : 18, "my" : 1]> Second (A) => (B) { C = my.First (A) [two] B = LeakyRelu (C) }
"""


def model(body: str, functions: str = ACT, values: str = "float[2] x) => (float[2] y") -> ModelProto:
    """Return a model with local functions; inner values have no declared types."""
    return parse_model(f"{HEAD} g ({values}) {{ {body} }} {functions}")


def dtypes(proto: ModelProto) -> dict[str, str | None]:
    """Return node -> dtype of what a local function computes."""
    scopes = View(proto).functions.values()
    return {node.name: scope.dtype(node.output[0]) for scope in scopes for node in scope.nodes if node.name}


@pytest.mark.parametrize(
    "body",
    [
        "y = my.Act (x)",
        "a = my.Act (x) b = Mul (a, a) y = my.Act (b)",
        "b = Mul (a, a) y = my.Act (b) a = my.Act (x)",
        "a = my.Act (x) b = my.Act (a) c = my.Act (b) y = my.Act (c)",
    ],
)
def test_calls_on_what_other_calls_computed(body: str) -> None:
    proto = model(body)
    assert dtypes(proto) == {"act": "float32"}
    result = onnxact.decompose(proto)
    assert [change.form for change in result.sites] == ["mul-max"], result.skipped
    assert result.check(providers="cpu").outcome == "equivalent"
    assert onnxact.fuse(result.model).proto.SerializeToString() == proto.SerializeToString()


def test_calls_inside_functions() -> None:
    assert dtypes(model("a = my.Pair (x) b = my.Act (a) y = my.Pair (b)", ACT + PAIR)) == {"act": "float32"}


def test_a_value_behind_calls_has_a_type_of_its_own() -> None:
    proto = model("a = my.Act (x) [after] b = Relu (a) y = my.Act (b)")
    assert View(proto).main.dtype("b") == "float32"


def test_functions_in_turn_take_rounds_and_not_powers_of_them() -> None:
    """Each of 60 calls follows from all before it: looked up one inside the other, they are 2^30 paths and more."""
    names = ["x", *(f"v{number}" for number in range(59)), "y"]
    calls = [f"{b} = my.{('First', 'Second')[i % 2]} ({a})" for i, (a, b) in enumerate(pairwise(names))]
    assert dtypes(model(" ".join(calls), LOOPED)) == {"one": "float32", "two": "float32"}


def test_a_function_of_two_types_says_so() -> None:
    values = "float[2] x, float16[2] h) => (float[2] y, float16[2] z"
    (skip,) = onnxact.decompose(model("y = my.Act (x) z = my.Act (h)", values=values)).skipped
    assert "the function Act is called with float16 and float32 for 'X'; write one function for each" in skip.reason


def test_a_function_that_nothing_calls_says_so() -> None:
    (skip,) = onnxact.decompose(model("y = Abs (x)")).skipped
    assert "nothing calls the function Act" in skip.reason
    (skip,) = onnxact.decompose(model("y = Abs (x)", ACT + PAIR)).skipped
    assert "nothing calls the function Pair, which calls it" in skip.reason


def test_a_type_that_only_inference_tells_reaches_a_function() -> None:
    """The types of a custom op's output are not known; those of the If behind it are declared."""
    then, other = (
        "then_branch = t () => (float[2] t) { t = Abs (x) }",
        "else_branch = e () => (float[2] e) { e = Neg (x) }",
    )
    body = f"i = If (c) <{then}, {other}> y = my.Act (i)"
    assert dtypes(model(body, values="float[2] x, bool c) => (float[2] y")) == {"act": "float32"}


def test_the_type_of_what_is_no_floating_tensor_is_shown() -> None:
    proto = parse_model(f"{HEAD} g (int32[2] x) => (int32[2] y) {{ y = Relu (x) }}")
    assert onnxact.inspect(proto).to_json()["sites"][0]["dtype"] == "int32"
