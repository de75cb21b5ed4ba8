"""Providers, sessions, files: who runs, what is loaded, what a failure says."""

from __future__ import annotations

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf import text_format

from onnxact.check import RunFailure, available_names, resolve_providers, run
from onnxact.check.providers import PROVIDERS, runtime
from onnxact.check.session import Session, open_session, run_session
from onnxact.check.subject import open_subject
from onnxact.errors import MissingPackageError, ProviderError, UsageError
from tests.check.models import RELU, net, unary

X = np.array([[1, -2, 3, -4, 5, -6, 7, -8]], np.float32)


def test_resolve_cpu_in_any_spelling() -> None:
    assert resolve_providers(["cpu", "CPU", " CPUExecutionProvider"]).names == ("cpu",)


def test_every_name_that_onnxruntime_knows_has_a_short_one() -> None:
    assert set(runtime().get_all_providers()) <= {full for full, _ in PROVIDERS.values()}


def test_unknown_provider_lists_the_known_and_the_available() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_providers(["nonsense"])
    assert "cuda" in str(caught.value)
    assert f"available here: {', '.join(available_names())}" in str(caught.value)


def test_absent_provider_says_what_to_install() -> None:
    absent = next(name for name in ("openvino", "dml", "qnn") if name not in available_names())
    with pytest.raises(ProviderError, match=f"onnxruntime-{'directml' if absent == 'dml' else absent}"):
        resolve_providers([absent])


def test_missing_onnxruntime_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxact\[cpu\]'"):
        resolve_providers(["cpu"])


def test_importing_the_room_does_not_import_onnxruntime() -> None:
    import subprocess

    code = "import onnxact.check, sys; sys.exit('onnxruntime' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_gives_outputs_by_name_in_order() -> None:
    model = net("float[1, 8] x", "float[1, 8] y, float[1, 8] z", "y = Relu(x) z = Neg(x)")
    result = run(model, {"x": X})
    assert isinstance(result, dict)
    assert list(result) == ["y", "z"]
    chosen = run(model, {"x": X}, outputs=["z"])
    assert isinstance(chosen, dict)
    assert np.array_equal(chosen["z"], -X)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 2)])
def test_bfloat16_of_any_shape(shape: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    model = net(f"bfloat16[{dims}] x, float[2] f", f"bfloat16[{dims}] y, float[2] g", "y = Identity(x) g = Neg(f)")
    x = np.full(shape, 1.5, ml_dtypes.bfloat16)
    result = run(model, {"x": x, "f": np.ones(2, np.float32)})
    assert isinstance(result, dict), result
    assert (result["y"].dtype, result["y"].shape) == (x.dtype, shape)
    assert np.array_equal(result["y"], x)
    assert result["g"].tolist() == [-1, -1]


def test_failures_say_the_stage_and_the_first_line() -> None:
    load = run(unary("y = NoSuchOp(x)"), {"x": X})
    assert isinstance(load, RunFailure)
    assert load.stage == "load"
    assert "NoSuchOp" in load.message
    assert "\n" not in load.message
    wrong = run(unary(RELU), {"x": X[:, :3]})
    assert isinstance(wrong, RunFailure)
    assert wrong.stage == "run"
    assert isinstance(run(unary(RELU), {}), RunFailure)


def test_extra_outputs_need_no_type_and_leave_the_model_as_it_is(tmp_path: Path) -> None:
    model = unary("a = Neg(x) b = Relu(a) y = Exp(b)")
    content = model.SerializeToString()
    onnx.save(model, tmp_path / "m.onnx")
    for subject in (open_subject(model), open_subject(tmp_path / "m.onnx")):
        session = open_session(subject, "cpu", optimise=False, extra_outputs=["a", "b", "y", "a"])
        assert isinstance(session, Session)
        assert session.outputs == ("y", "a", "b")
        result = run_session(session, {"x": X})
        assert isinstance(result, dict)
        assert np.array_equal(result["a"], -X)
    assert model.SerializeToString() == content
    assert (tmp_path / "m.onnx").read_bytes() == content


def test_an_input_that_is_asked_for_is_what_was_fed() -> None:
    """It is no output of the session: not every provider takes a model with an input as its output."""
    session = open_session(
        open_subject(unary("a = Neg(x) y = Relu(a)")), "cpu", optimise=False, extra_outputs=["x", "a"]
    )
    assert isinstance(session, Session)
    assert session.outputs == ("y", "a")
    result = run_session(session, {"x": X}, ["a", "x"])
    assert isinstance(result, dict)
    assert list(result) == ["a", "x"]
    assert result["x"] is X
    assert run_session(session, {"x": X}, ["x"]) == {"x": X}
    declared = net("float[4] x", "float[4] x, float[4] y", RELU)
    own = open_session(open_subject(declared), "cpu", optimise=False)
    assert isinstance(own, Session)
    assert own.outputs == ("x", "y")


def test_text_format_is_read_by_content(tmp_path: Path) -> None:
    path = tmp_path / "m.onnxtxt"
    path.write_text(text_format.MessageToString(unary(RELU)))
    result = run(path, {"x": X})
    assert isinstance(result, dict)
    assert np.array_equal(result["y"], np.maximum(X, 0))
