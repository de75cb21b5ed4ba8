"""Engines: they compute what a plain session computes, on the patterns that they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxact.activation.numeric import evaluate
from onnxact.check.prove.engine import NumpyEngine
from onnxact.check.prove.model import write
from onnxact.check.prove.patterns import Space
from onnxact.check.session import run
from tests.prove.engines import device, host, subject

ENGINES = [pytest.param(host, id="host"), pytest.param(device, id="device")]
SPACE = Space("float32")


@pytest.mark.parametrize("make", ENGINES)
def test_it_computes_what_a_session_computes(make: Callable[..., Any]) -> None:
    held = subject("elu")
    patterns = SPACE.sample()[::700]
    engine = make(held, "op", "relu-exp-min")
    engine.load(patterns)
    engine.run()
    forms = {name: held.activation.forms[name] for name in ("op", "relu-exp-min")}
    plain = run(write(held, forms), {"x": SPACE.numbers(patterns)})
    assert isinstance(plain, dict)
    for index, result in enumerate(plain.values()):
        found = engine.output(index)[0, : patterns.size]
        # The last values of a tensor go another way, by other instructions.
        np.testing.assert_array_equal(found[:-16], result.view(np.uint32)[:-16])


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("first", [0, 0x7F7FFE00, 0x80000000, 0xFFFFFC00])
def test_consecutive_patterns_are_consecutive(make: Callable[..., Any], first: int) -> None:
    engine = make(subject("relu"), "op", length=256)
    engine.start(first)
    for step in range(3):
        wanted = (np.arange(256, dtype=np.uint64) + first + 256 * step).astype(np.uint32)
        np.testing.assert_array_equal(engine.input(), wanted)
        engine.run()
        positive = wanted < 0x7F800000
        np.testing.assert_array_equal(engine.output(0)[0, positive], wanted[positive])
        engine.advance()


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_slope_meets_every_input(make: Callable[..., Any], dtype: str) -> None:
    held, space = subject("prelu", dtype, slope=[0.5, 2.0, -1.0]), Space(dtype)
    engine = make(held, "op", "where", length=256)
    engine.start(int(space.patterns([-1.0])[0]) - engine.length)
    engine.advance()
    engine.run()
    assert engine.length in (64, 256)
    x = space.numbers(engine.input()).astype(np.float64)
    assert x[0] == -1
    for lane, slope in enumerate([0.5, 2.0, -1.0]):
        np.testing.assert_array_equal(space.numbers(engine.output(0)).astype(np.float64)[lane], slope * x)
    assert engine.same(0, 1)


PAIRS = [
    ("equal", [1.0, -2.0, np.nan], [1.0, -2.0, np.nan], True),
    ("a number", [1.0, -2.0, 3.0], [1.0, -2.0, 3.0000002], False),
    ("a sign of zero", [0.0, 0.0], [0.0, -0.0], False),
    ("a subnormal", [1e-45, 1e-45], [1e-45, 3e-45], False),
    ("NaN and a number", [np.nan], [1.0], False),
]


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize(("left", "right", "same"), [pytest.param(*case[1:], id=case[0]) for case in PAIRS])
def test_whole_calls_are_compared_by_their_bits(
    make: Callable[..., Any], left: list[float], right: list[float], same: bool
) -> None:
    """relu gives max(x, 0): where the two results are set by hand, the comparison alone is looked at."""
    engine = make(subject("relu"), "op", "max", length=64)
    values = np.zeros((2, 64), np.float32)
    values[0, : len(left)], values[1, : len(right)] = left, right
    for index in range(2):
        _overwrite(engine, index, values[index])
    assert engine.same(0, 1) is same


def test_payloads_of_nan_are_bits_too() -> None:
    engine = host(subject("relu"), "op", "max", length=64)
    engine.outputs[0][:], engine.outputs[1][:] = 0x7FC00000, 0x7FC00001
    assert not engine.same(0, 1)


def _overwrite(engine: Any, index: int, values: Any) -> None:
    if hasattr(engine, "outputs"):
        engine.outputs[index][:] = values.view(np.uint32)
    else:
        engine._outputs[index].update_inplace(values.view(np.int32))


@pytest.mark.parametrize("make", ENGINES)
def test_skimming_stops_at_the_first_call_that_differs(make: Callable[..., Any]) -> None:
    """where gives +0 for the products that underflow to -0: the first subnormal numbers below zero."""
    engine = make(subject("leaky_relu", alpha=0.25), "op", "mul-max", "relu-neg", length=256)
    engine.start(0x80000000 - 1024)
    assert engine.skim([(1, 0)], 3) == 3
    engine.start(0x80000000 - 1024)
    assert engine.skim([(1, 0), (2, 0)], 10) == 4
    assert not engine.same(2, 0)
    assert engine.input()[0] == 0x80000000


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_numpy_evaluates_op_by_op_in_the_dtype(dtype: str) -> None:
    held, space = subject("leaky_relu", dtype, alpha=0.2), Space(dtype)
    engine = NumpyEngine(held, {"mul-abs-add": held.activation.forms["mul-abs-add"]}, 512)
    engine.load(space.patterns(np.linspace(-3, 3, 512)))
    with np.errstate(all="ignore"):
        engine.run()
        form = held.activation.forms["mul-abs-add"]
        wanted = evaluate(form.expr, space.numbers(engine.input()), held.parameters)
    np.testing.assert_array_equal(engine.output(0)[0], wanted.view(space.word))


def test_the_model_is_written_as_a_rewrite_writes_it() -> None:
    held = subject("leaky_relu", alpha=0.25)
    model = write(held, {name: held.activation.forms[name] for name in ("op", "mul-max")})
    assert [node.op_type for node in model.graph.node] == ["LeakyRelu", "Mul", "Max"]
    assert [value.name for value in model.graph.output] == ["y_op", "y_mul_max"]
    assert model.graph.node[0].attribute[0].f == 0.25
