"""What is fed to inputs that tell a node what to do: every such op runs, and gives its declared shape."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnxact.check import RunFailure, make_inputs
from onnxact.check.session import Session, open_session, run_session
from onnxact.check.subject import open_subject
from tests.check.models import net

CHUNKS = 8
# Image and block have to fit each other, the strides, pads and dilations at once.
NOT_MADE_UP = "test_col2im"


@cache
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, from computing the expected outputs
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if case.model is not None and "expanded" not in case.name]


def opened(model: ModelProto) -> Session | RunFailure:
    return open_session(open_subject(model), "cpu", optimise=False, threads=1)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_runs_on_its_own_data_runs_on_made_inputs(chunk: int) -> None:
    """Over onnx's backend node tests, whose inputs hold shapes, axes, repeats, ratios, ..."""
    ran = 0
    for case in cases()[chunk::CHUNKS]:
        session = opened(case.model)
        if isinstance(session, RunFailure) or case.name.startswith(NOT_MADE_UP) or not own_data_run(case, session):
            continue
        for seed in (0, 1):
            result = run_session(session, make_inputs(case.model, seed=seed))
            assert not isinstance(result, RunFailure), f"{case.name}, seed {seed}: {result}"
        ran += 1
    assert ran > 110


def own_data_run(case: Any, session: Session) -> bool:
    inputs = case.data_sets[0][0] if case.data_sets else []
    if any(not isinstance(value, np.ndarray | np.generic | list | None) for value in inputs):
        return False
    names = [value.name for value in case.model.graph.input]
    arrays = [np.asarray(value) if isinstance(value, np.generic) else value for value in inputs]
    return not isinstance(run_session(session, dict(zip(names, arrays, strict=True))), RunFailure)


@pytest.mark.parametrize(
    ("inputs", "output", "body", "expected"),
    [
        ("float[2, 6] x, int64[2] s", "float[3, 4] y", "y = Reshape(x, s)", [3, 4]),
        ("float[2, 6] x, int64[2] s", "float[N, M] y", "y = Reshape(x, s)", [-1, 1]),
        ("float[2, 6] x, int64[1] s", "float[a, b] y", "t = Concat<axis = 0>(s, four) y = Reshape(x, t)", [-1]),
        ("float[2, 6] x, int64[1] s", "float[a, b] y", "t = Concat<axis = 0>(s, rest) y = Reshape(x, t)", [1]),
        ("float[1, 6] x, int64[2] s", "float[5, 6] y", "y = Expand(x, s)", [5, 6]),
        ("float[2, 6] x, int64[2] s", "float[4, 18] y", "y = Tile(x, s)", [2, 3]),
        ("float[3, 2] x, int64[2] s", "float[1, 3, 1, 2] y", "y = Unsqueeze(x, s)", [0, 2]),
        ("float[3, 1, 2, 1] x, int64[2] s", "float[3, 2] y", "y = Squeeze(x, s)", [1, 3]),
        ("float[9] x, int64[3] s", "float[2] a, float[3] b, float[4] c", "a, b, c = Split(x, s)", [2, 3, 4]),
        ("float[9] x, int64[2] s", "float[N] a, float[M] b", "a, b = Split(x, s)", [5, 4]),
        ("float[4, 4] x, int64[4] s", "float[5, 7] y", "y = Pad(x, s)", [0, 1, 1, 2]),
        ("float[1, 1, 4, 4] x, float[4] s", "float[1, 1, 8, 12] y", "y = Resize(x, r, s)", [1, 1, 2, 3]),
        ("float[2, 6] x, int32[2] s", "float[3, 4] y", "t = Cast<to = 7>(s) y = Reshape(x, t)", [3, 4]),
        ("float[5] x, float s, bool t", "float[5] y", "y, m = Dropout(x, s, t)", 0.5),
    ],
)
def test_the_value_gives_the_declared_shape(inputs: str, output: str, body: str, expected: Any) -> None:
    weights = "int64[1] four = {4}, int64[2] rest = {-1, 3}, float[0] r = {}"
    model = net(inputs, output, body, weights)
    made = make_inputs(model, seed=0)
    assert np.array_equal(made["s"], expected)
    session = opened(model)
    assert not isinstance(session, RunFailure), session
    result = run_session(session, made)
    assert not isinstance(result, RunFailure), result
    if "t" in made:
        assert not made["t"]


def test_limits_of_a_caller_come_before_what_steers() -> None:
    from onnxact.check.drawing import as_limits
    from onnxact.check.inputs import Source, made_feed
    from onnxact.check.readers import Readers

    model = net("float[2, 6] x, int64[2] s", "float[3, 4] y", "y = Reshape(x, s)")
    source = Source(Readers(model), {}, as_limits({"s": (7, 7)}))
    assert list(made_feed(source, 0, {}).values["s"]) == [7, 7]
    plain = made_feed(Source(Readers(model), {}), 0, {})
    assert plain.steering == {"s"}
