"""What callers may hand in: one sentence for what makes no sense, and a bare text is one item."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import onnxact
from onnxact import api
from onnxact.arguments import number, texts
from onnxact.check import check as judge
from onnxact.check.drifting import drift
from onnxact.results import Result
from tests.rewrite.texts import net

MODEL = net("  [node_relu] h = Relu (x)\n  [node_relu_1] y = Relu (h)")
LEAKY = net("  [act] y = LeakyRelu (x)")

MISTAKES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "alpha: expected a number, not 'abc'": (onnxact.swap_relu, {"alpha": "abc"}),
    r"alpha: expected a number, not \[1\]": (onnxact.swap_relu, {"alpha": [1]}),
    "activation: expected a text, not None": (onnxact.swap_relu, {"to": None}),
    "parameters: expected a mapping from names to values, not 3": (onnxact.swap_relu, {"parameters": 3}),
    "alpha: must be numbers, not": (onnxact.swap_relu, {"parameters": {"alpha": "q"}}),
    "slope: is no array of numbers": (onnxact.swap_relu, {"to": "prelu", "parameters": {"slope": [[1, 2], [3]]}}),
    "slope: expected a mapping": (onnxact.swap_relu, {"to": "prelu", "parameters": {"slope": {3: [1]}}}),
    "channel_axis: expected a whole number, not '1'": (onnxact.swap_relu, {"to": "prelu", "channel_axis": "1"}),
    r"include: expected a text or several, not \[3\]": (onnxact.swap_relu, {"include": [3]}),
    "exclude: expected a text or several, not None": (onnxact.swap_relu, {"exclude": None}),
    "activations: expected a text or several, not 3": (onnxact.fuse, {"activations": 3}),
    "form: expected a text, not 3": (onnxact.decompose, {"form": 3}),
    "ops: expected a text or several, not 3": (onnxact.decompose, {"ops": 3}),
    "target: expected a text, not 3": (onnxact.inspect, {"target": 3}),
    "beta: expected a number, not 'x'": (onnxact.fuse, {"parameters": {"beta": "x"}}),
}  # fmt: skip
CHECKS: dict[str, dict[str, Any]] = {
    "rtol: expected a number, not 'x'": {"rtol": "x"},
    "providers: expected a text or several, not 3": {"providers": 3},
    "seeds 3: give at least one": {"seeds": 3},
    "seeds: expected a whole number, not 'x'": {"seeds": ["x"]},
    "memory budget: expected a number, not 'x'": {"memory_budget": "x"},
    "input_shapes: expected a mapping": {"input_shapes": 3},
    "inputs: expected a mapping": {"inputs": 3},
    "provider_options: expected a mapping": {"provider_options": 3},
    "session_options: expected a mapping": {"session_options": 3},
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_sentence(words: str) -> None:
    function, options = MISTAKES[words]
    with pytest.raises(onnxact.UsageError, match=words):
        function(MODEL, **options)


@pytest.mark.parametrize("words", CHECKS)
def test_a_mistake_in_a_check_is_one_sentence(words: str) -> None:
    with pytest.raises(onnxact.UsageError, match=words):
        onnxact.check(MODEL, LEAKY, **CHECKS[words])


def test_a_mistake_in_a_proof_is_one_sentence() -> None:
    with pytest.raises(onnxact.UsageError, match="leaky-relu's alpha: 'x' is no number"):
        onnxact.prove("leaky_relu", "mul-max", parameters={"alpha": "x"})
    with pytest.raises(onnxact.UsageError, match="form: expected a text or several, not 3"):
        onnxact.prove("relu", 3)  # type: ignore[arg-type]


def test_a_bare_text_is_one_item() -> None:
    assert [c.site.node for c in onnxact.swap_relu(MODEL, include="node_relu$").sites] == ["node_relu"]
    assert [c.site.node for c in onnxact.swap_relu(MODEL, exclude="node_relu$").sites] == ["node_relu_1"]
    assert len(onnxact.decompose(LEAKY, activations="leaky-relu").sites) == 1
    assert len(onnxact.decompose(LEAKY, ops="PRelu").sites) == 1
    assert onnxact.check(MODEL, LEAKY, providers="cpu").providers == ("cpu",)
    assert texts("name", "abc") == ("abc",)
    assert texts("name", iter(["a", "b"])) == ("a", "b")


def test_numbers_of_numpy_are_numbers() -> None:
    assert number("alpha", np.float32(0.25)) == number("alpha", np.asarray([0.25])) == 0.25


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only option -> its default."""
    parameters = inspect.signature(function).parameters.values()
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def test_the_options_of_a_check_are_the_same_everywhere() -> None:
    options = options_of(judge)
    assert options_of(api.check) == options_of(onnxact.assert_equivalent) == options
    assert options_of(Result.check) == {name: d for name, d in options.items() if name not in ("sites", "exact")}
    assert options_of(Result.drift) == options_of(drift)


def test_assert_equivalent_takes_them() -> None:
    same = ModelProto()
    same.CopyFrom(MODEL)
    onnxact.assert_equivalent(MODEL, same, providers="cpu", seeds=(3,), diagnose=False)
    with pytest.raises(onnxact.NotEquivalent):
        onnxact.assert_equivalent(MODEL, LEAKY, providers=["cpu"], rtol=1e-3, atol=1e-3)
