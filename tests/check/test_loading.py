"""Models that ONNX Runtime cannot load: what, which node, exit code 5; for lack of memory: no verdict on the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from onnxact.check import RunFailure, UnloadableError, check, run
from onnxact.check.providers import first_line
from onnxact.check.session import open_session
from onnxact.check.subject import open_subject
from onnxact.errors import ModelError
from tests.check.models import RELU, net, unary


def broken(body: str, name: str = "culprit", **options: Any) -> ModelProto:
    model = unary(body, **options)
    model.opset_import.add(domain="custom", version=1)
    model.graph.node[-1].name = name
    return model


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = NoSuchOp(x)", "No Op registered for NoSuchOp"),
        ("a = Relu(x) y = custom.Foo(a)", "custom:Foo(-1) is not a registered function/op"),
        ("y = com.microsoft.Nope(x)", "com.microsoft:Nope(-1) is not a registered function/op"),
        ("y = Relu(x, x)", "has input size 2 not in range"),
        ("y = Reshape(x, x)", "Type Error"),
    ],
)
def test_failures_name_the_node(body: str, message: str) -> None:
    for name in ("culprit", ""):
        found = open_session(open_subject(broken(body, name)), "cpu", optimise=False)
        assert isinstance(found, RunFailure)
        assert message in found.message
        assert (f"node {name!r}, " if name else "node without a name, ") in found.message
        assert "which makes 'y'" in found.message
        assert "\n" not in found.message
        assert "[ONNXRuntimeError]" not in found.message


def test_kernel_that_is_not_there_names_the_node() -> None:
    found = open_session(open_subject(broken("y = Erf(x)", dtype="double")), "cpu", optimise=False)
    assert isinstance(found, RunFailure)
    assert "Could not find an implementation for Erf(13)" in found.message
    assert "node 'culprit'" in found.message


def test_several_nodes_that_it_can_be_are_counted() -> None:
    found = open_session(
        open_subject(broken("a = custom.Foo(x) b = custom.Foo(a) c = custom.Foo(b) y = custom.Foo(c)")),
        "cpu",
        optimise=False,
    )
    assert isinstance(found, RunFailure)
    assert "makes 'a'" in found.message
    assert found.message.endswith("and 1 more)")


def test_node_in_a_body_is_found() -> None:
    then = "then_branch = yes () => (float[4] t) { t = custom.Foo(x) }"
    body = f"y = If (c) <{then}, else_branch = no () => (float[4] b) {{ b = Neg(x) }}>"
    model = net("float[4] x, bool c", "float[4] y", body)
    model.opset_import.add(domain="custom", version=1)
    found = open_session(open_subject(model), "cpu", optimise=False)
    assert isinstance(found, RunFailure)
    assert "makes 't'" in found.message


def test_model_before_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    onnx.save(broken("y = custom.Foo(x)"), tmp_path / "before.onnx")
    with pytest.raises(UnloadableError) as caught:
        check(tmp_path / "before.onnx", unary(RELU), providers=["cpu"])
    text = str(caught.value)
    assert isinstance(caught.value, ModelError)
    assert caught.value.exit_code == 5
    assert (
        "before.onnx: custom:Foo(-1) is not a registered function/op (node 'culprit', custom.Foo, which makes 'y')"
        in text
    )
    assert "nor the model after" not in text
    with pytest.raises(UnloadableError, match="nor the model after, for the same reason"):
        check(broken("y = custom.Foo(x)"), broken("y = custom.Foo(x)"), providers=["cpu"])


@pytest.mark.parametrize("body", ["y = custom.Foo(x)", "y = Foo(x)", "y = Relu(x, x)", "y = Relu(q)"])
def test_model_after_that_is_no_valid_model_is_an_error(body: str, tmp_path: Path) -> None:
    onnx.save(broken(body), tmp_path / "after.onnx")
    with pytest.raises(UnloadableError, match=r"after\.onnx: .*(?:Foo|Relu|'q')") as caught:
        check(unary(RELU), tmp_path / "after.onnx", providers=["cpu"])
    assert (caught.value.exit_code, caught.value.is_after) == (5, True)


def test_model_after_without_a_kernel_is_different() -> None:
    body = "h = Cast<to = 16>(x) i = PRelu(h, h) y = Cast<to = 1>(i)"
    verdict = check(unary(RELU), unary(body), providers=["cpu"])
    assert (verdict.outcome, verdict.exit_code) == ("different", 1)
    assert "ran before, does not load: Could not find an implementation for" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/a/b.cc:1 void* f::g(size_t, bool (*)(int)) No room",
            "No room",
        ),
        (
            "/onnxruntime/a.cc:133 x::Status F<T>::operator()(K*, float) [with T = float; i = long int] n was false.",
            "n was false.",
        ),
        ("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find (this)", "Could not find (this)"),
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from /a b/m.onnx failed:Fatal error: x", "Fatal error: x"),
        ("one line\nand another", "one line"),
        ("", "RuntimeError"),
    ],
)
def test_first_lines_are_without_places_in_sources(text: str, shown: str) -> None:
    assert first_line(RuntimeError(text)) == shown


def test_memory_that_runs_out_says_nothing_about_the_model() -> None:
    model = net("int64[1] n", "float[N] y", "y = ConstantOfShape(n)")
    found = run(model, {"n": np.array([1 << 42])})
    assert isinstance(found, RunFailure)
    assert found.for_memory
    assert "for lack of memory" in str(found)
    assert not RunFailure("run", "shape mismatch").for_memory


def test_model_after_that_needs_too_much_memory_is_inconclusive() -> None:
    before = net("int64[1] n", "float[N] y", "y = ConstantOfShape(n)")
    huge = "big = Constant<value_ints = [4000000000000]>() s = Mul(n, big) c = ConstantOfShape(s)"
    body = f"{huge} k = Constant<value_ints = [0]>() e = Slice(c, k, n) y = Neg(e)"
    after = net("int64[1] n", "float[N] y", body)
    verdict = check(before, after, inputs={"n": np.array([2])}, providers=["cpu"])
    assert verdict.outcome == "inconclusive"
    assert any("for lack of memory" in reason for reason in verdict.reasons)


def test_memory_error_of_our_own_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: Any, **_options: Any) -> Any:
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("onnxact.check.pairs.sized", failing)
    verdict = check(unary(RELU), unary("y = Abs(x)"), providers=["cpu"])
    assert (verdict.outcome, verdict.exit_code) == ("inconclusive", 4)
    assert "memory ran out: Unable to allocate 8 TiB" in verdict.reasons[0]


LIMITED = """
import resource, sys
from onnxact.check import check
from onnxact.check.providers import runtime

runtime()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 27),) * 2)
verdict = check(sys.argv[1], sys.argv[2], providers=["cpu"], session_options={"intra_op_num_threads": 1})
assert (verdict.outcome, verdict.exit_code) == ("inconclusive", 4), verdict.summary()
print(verdict.reasons[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_session_that_dies_for_memory_is_inconclusive(tmp_path: Path) -> None:
    """256 MB of weights, and 128 MB of address space left."""
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(1 << 28)
    for name in "ab":
        model = net("float[1, 8192] x", "float[1, 8192] y", "m = MatMul(x, w) y = Relu(m)")
        weights = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[8192, 8192])
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="w.bin")
        onnx.save(model, tmp_path / f"{name}.onnx")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "does not load: for lack of memory" in done.stdout
