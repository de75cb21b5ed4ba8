"""Large weights in a temporary file of their own: the same results, nothing left behind, no file where none helps."""

from __future__ import annotations

import gc
import tempfile
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxact.check import check, weights
from onnxact.check.session import RunFailure, open_session, run_session
from onnxact.check.subject import open_subject
from onnxact.check.weights import Weights, value_of

WIDTH = 1100
"""1100 x 1100 float32 numbers: more than 4 MB."""


def _model(dtype: type[np.generic] = np.float32, width: int = WIDTH) -> ModelProto:
    values = np.random.default_rng(0).standard_normal((width, width)).astype(dtype)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    slope = numpy_helper.from_array(np.linspace(0.1, 0.3, width).astype(dtype), "slope")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("PRelu", ["h", "slope"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, elem_type, ["N", width]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(values, "w"), slope], doc_string="a graph")
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9, producer_name="someone")


def test_what_is_left_is_the_model_but_for_the_values() -> None:
    model = _model()
    stored = Weights()
    found = stored.taken_out_of(model)
    assert found is not None
    assert found.ByteSize() < 10_000
    read = onnx.ModelProto()
    read.CopyFrom(found)
    onnx.load_external_data_for_model(read, str(stored.folder))
    for tensor in read.graph.initializer:
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    assert read.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [(), ("h",)])
def test_a_session_gives_the_same_bits(
    dtype: type[np.generic], extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = {"x": np.random.default_rng(1).standard_normal((3, WIDTH)).astype(dtype)}
    found = []
    for least in (weights.WORTHWHILE, 1 << 40):
        monkeypatch.setattr(weights, "WORTHWHILE", least)
        subject = open_subject(_model(dtype))
        session = open_session(subject, "cpu", optimise=False, extra_outputs=extra)
        assert not isinstance(session, RunFailure)
        assert (subject.with_external_weights is subject) == (least == 1 << 40)
        outputs = run_session(session, x)
        assert not isinstance(outputs, RunFailure)
        assert set(outputs) == {"y", *extra}
        found.append({name: value.tobytes() for name, value in outputs.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("renamed", [False, True])
def test_nothing_is_left_behind(renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sizes = []
    place = Weights._place

    def noted(self: Weights, path: Path, raw: bytes) -> int:
        found = place(self, path, raw)
        sizes.append(path.stat().st_size)
        return found

    monkeypatch.setattr(Weights, "_place", noted)
    before, after = _model(), _model()
    after.graph.node[1].name = "another name"
    if renamed:
        after.graph.initializer[0].name = after.graph.node[0].input[1] = "another weight"
    assert check(before, after, providers=["cpu"]).outcome == "equivalent"
    gc.collect()
    assert len(sizes) == (2 if renamed else 1)
    assert set(sizes) == {4 * WIDTH * WIDTH}  # equal values lie in the file once
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [100, WIDTH])
def test_a_subject_goes_at_once_and_its_file_with_it(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.disable()
    try:
        subject = open_subject(_model(width=width))
        assert not isinstance(open_session(subject, "cpu", optimise=False, extra_outputs=["h"]), RunFailure)
        assert len(list(tmp_path.iterdir())) == (width == WIDTH)
        there = weakref.ref(subject)
        del subject
        assert there() is None
        assert list(tmp_path.iterdir()) == []
    finally:
        gc.enable()


def test_no_room_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    _stays_and_runs(_model())


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    _stays_and_runs(_model())


def _stays_and_runs(model: ModelProto) -> None:
    subject = open_subject(model)
    assert subject.with_external_weights is subject
    assert not isinstance(open_session(subject, "cpu", optimise=False), RunFailure)


def test_two_tensors_of_one_name_stay_two() -> None:
    """ONNX Runtime refuses such a model, and has to be given it as it is."""
    model = _model()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "w"))
    subject = open_subject(model)
    assert subject.with_external_weights is subject
    assert isinstance(open_session(subject, "cpu", optimise=False), RunFailure)


@pytest.mark.parametrize("ir_version", [3, 9])
def test_weights_that_are_inputs_can_be_given_otherwise(ir_version: int) -> None:
    model = _model()
    model.ir_version = ir_version
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    subject = open_subject(model)
    session = open_session(subject, "cpu", optimise=False, name_nodes=True)
    assert not isinstance(session, RunFailure)
    x = {"x": np.ones((2, WIDTH), np.float32)}
    found = run_session(session, x)
    assert not isinstance(found, RunFailure)
    assert np.abs(found["y"]).max() > 0
    if ir_version > 3:
        other = run_session(session, {**x, "w": np.zeros((WIDTH, WIDTH), np.float32)})
        assert not isinstance(other, RunFailure)
        assert not other["y"].any()


@pytest.mark.parametrize("case", ["small", "external", "no raw data"])
def test_models_that_stay_as_they_are(case: str, tmp_path: Path) -> None:
    model = _model(width=100 if case == "small" else WIDTH)
    if case == "external":
        onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=1 << 20)
        model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    if case == "no raw data":
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, values.shape, values.reshape(-1)))
    assert Weights().taken_out_of(model) is None


def test_a_difference_in_a_large_weight_is_seen() -> None:
    before, after = _model(), _model()
    values = numpy_helper.to_array(after.graph.initializer[0]).copy()
    values[7, 9] = -values[7, 9]
    after.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    assert check(before, after, providers=["cpu"]).outcome == "different"


def test_a_tensor_of_no_type_is_no_weight() -> None:
    model = _model()
    model.graph.initializer[0].data_type = 99
    assert Weights().taken_out_of(model) is None
    assert isinstance(open_session(open_subject(model), "cpu", optimise=False), RunFailure)


def test_models_in_files_are_held_without_their_weights(tmp_path: Path) -> None:
    """The same verdict as of models in memory, and constants are known in the same way."""
    before, after = _model(), _model()
    values = np.abs(numpy_helper.to_array(after.graph.initializer[0]))
    for model in (before, after):
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
        model.graph.node.insert(0, helper.make_node("Abs", ["x"], ["p"]))
        model.graph.node[1].input[0] = "p"
    after.graph.node[2].op_type = "Relu"
    del after.graph.node[2].input[1:]
    del after.graph.initializer[1:]
    paths = []
    for number, model in enumerate((before, after)):
        paths.append(tmp_path / f"{number}.onnx")
        onnx.save(model, paths[-1])
    found, known = check(*paths, providers=["cpu"]), check(before, after, providers=["cpu"])
    assert found.outcome == known.outcome
    assert [(item.outcome, item.reason) for item in found.sites] == [(i.outcome, i.reason) for i in known.sites]
    assert found.sites


def test_equal_values_lie_in_the_file_once() -> None:
    stored, first, second = Weights(), _model(), _model()
    second.graph.initializer[0].name = "another"
    taken = [stored.taken_out_of(model) for model in (first, second)]
    entries = [[str(t.external_data) for t in model.graph.initializer] for model in taken if model is not None]
    assert entries[0] == entries[1]
    values = numpy_helper.to_array(second.graph.initializer[0]).copy()
    values[-1, -1] += 1
    second.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    other = stored.taken_out_of(second)
    assert other is not None
    assert str(other.graph.initializer[0].external_data) != entries[0][0]
    value = value_of(other.graph.initializer[0])
    assert value is not None
    assert np.array_equal(value, values)
