"""Weights that stay in a model's file: the same model, the same verdicts, nothing written; else the usual way."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxact
from onnxact.check import Verdict, check, weights
from onnxact.check.in_place import open_in_place
from onnxact.check.options import RuntimeOptions
from onnxact.check.session import RunFailure, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.errors import ModelError

WIDTH = 1100
"""1100 x 1100 float32 numbers: more than 4 MB."""


def model(seed: int = 0, *, alpha: float = 0.2, name: str = "w", graph: str = "g") -> ModelProto:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 30
    nodes = [
        helper.make_node("MatMul", ["x", name], ["h"]),
        helper.make_node("Add", ["h", "b"], ["a"]),
        helper.make_node("LeakyRelu", ["a"], ["y"], alpha=alpha),
    ]
    bias = numpy_helper.from_array(np.linspace(-1, 1, WIDTH, dtype=np.float32), "b")
    x, y = (helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", WIDTH]) for value in ("x", "y"))
    made = helper.make_graph(nodes, graph, [x], [y], [numpy_helper.from_array(values, name), bias])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def saved(found: ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found.SerializeToString())
    return path


def opened(before: Path, after: ModelProto | Path) -> tuple[Subject, Subject]:
    found = open_in_place(before, after, RuntimeOptions())
    assert found is not None
    return found


def told(verdict: Verdict) -> object:
    sites = [(item.outcome, item.reason, item.counts, item.before, item.after) for item in verdict.sites]
    return verdict.outcome, verdict.reasons, verdict.notes, [item.max_abs for item in verdict.outputs], sites


@pytest.mark.parametrize("graph", ["g" * length for length in (1, 2, 3, 4, 130)])
def test_what_is_left_is_the_model_but_for_the_values(graph: str, tmp_path: Path) -> None:
    """At any offset in the file."""
    before = model(graph=graph)
    path = saved(before, tmp_path / "m.onnx")
    first, second = opened(path, model(graph=graph))
    assert first.model.ByteSize() < 10_000
    assert first.model == second.model
    for subject in (first, second):
        read = ModelProto()
        read.CopyFrom(subject.model)
        onnx.load_external_data_for_model(read, str(tmp_path))
        for tensor in read.graph.initializer:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
        assert read.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)


@pytest.mark.parametrize("graph", ["g" * length for length in (1, 2, 3, 4)])
@pytest.mark.parametrize("optimise", [False, True])
def test_a_session_gives_the_same_bits_at_any_offset(graph: str, optimise: bool, tmp_path: Path) -> None:
    x = {"x": np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)}
    path = saved(model(graph=graph), tmp_path / "m.onnx")
    first, _ = opened(path, model(graph=graph))
    found = []
    for subject in (first, Subject(model(graph=graph), None, None)):
        session = open_session(subject, "cpu", optimise=optimise)
        assert not isinstance(session, RunFailure)
        outputs = run_session(session, x)
        assert not isinstance(outputs, RunFailure)
        found.append(outputs["y"].tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("how", ["in memory", "beside it", "elsewhere", "behind a link"])
def test_the_same_verdict_and_nothing_written(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(weights.Weights, "_written", lambda *_: pytest.fail("weights are written"))
    before = saved(model(), tmp_path / "before.onnx")
    if how == "behind a link":
        before = tmp_path / "links" / "before.onnx"
        before.parent.mkdir()
        before.symlink_to(tmp_path / "before.onnx")
    after = onnxact.decompose(model()).model
    wrong = model(alpha=0.201)
    folder = tmp_path / ("other" if how == "elsewhere" else "")
    others: list[ModelProto | Path] = [after, wrong]
    if how != "in memory":
        others = [saved(made, folder / f"{number}.onnx") for number, made in enumerate((after, wrong))]
    found = [check(before, other, providers=["cpu"], diagnose=False) for other in others]
    assert [item.outcome for item in found] == ["equivalent", "different"]
    monkeypatch.undo()
    in_memory = [check(model(), other, providers=["cpu"], diagnose=False) for other in (after, wrong)]
    assert list(map(told, found)) == list(map(told, in_memory))


def test_weights_of_other_names_are_the_same(tmp_path: Path) -> None:
    first, second = opened(saved(model(), tmp_path / "m.onnx"), model(name="other"))
    entries = [str(subject.model.graph.initializer[0].external_data) for subject in (first, second)]
    assert entries[0] == entries[1]


@pytest.mark.parametrize("on_disk", [False, True])
def test_another_weight_takes_the_usual_way_and_is_seen(on_disk: bool, tmp_path: Path) -> None:
    before, after = saved(model(), tmp_path / "m.onnx"), model()
    values = numpy_helper.to_array(after.graph.initializer[0]).copy()
    values[7, 9] = -values[7, 9]
    after.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    other = saved(after, tmp_path / "other.onnx") if on_disk else after
    assert open_in_place(before, other, RuntimeOptions()) is None
    verdict = check(before, other, providers=["cpu"])
    assert verdict.outcome == "different"


@pytest.mark.parametrize("case", ["small", "external", "text", "no raw data", "missing", "in memory"])
def test_what_takes_the_usual_way(case: str, tmp_path: Path) -> None:
    made, path = model(), tmp_path / ("m.textproto" if case == "text" else "m.onnx")
    if case == "small":
        made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((WIDTH, 3), np.float32), "w"))
    if case == "no raw data":
        values = numpy_helper.to_array(made.graph.initializer[0])
        made.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, values.shape, values.ravel()))
    if case == "text":
        path.write_text(str(made)[: 1 << 20])
    elif case == "external":
        onnx.save(made, path, save_as_external_data=True, location="w.data", size_threshold=1 << 20)
    elif case != "missing":
        saved(made, path)
    before = made if case == "in memory" else path
    assert open_in_place(before, model(), RuntimeOptions()) is None


@pytest.mark.parametrize("on_disk", [False, True])
def test_two_weights_of_one_name_are_not_taken_apart(on_disk: bool, tmp_path: Path) -> None:
    """ONNX Runtime takes the first of them, or of those in files the last."""
    before, after = model(), model(1)
    before.graph.initializer.append(after.graph.initializer[0])
    path = saved(before, tmp_path / "m.onnx")
    other = saved(after, tmp_path / "other.onnx") if on_disk else after
    assert open_in_place(path, other, RuntimeOptions()) is None
    assert check(path, other, providers=["cpu"], diagnose=False).outcome == "different"


@pytest.mark.parametrize("left_out", ["offset", "length"])
def test_a_file_that_refers_to_itself_takes_the_usual_way(left_out: str, tmp_path: Path) -> None:
    before = model()
    own = before.graph.initializer.add(name="own", data_type=TensorProto.FLOAT, dims=[16])
    own.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "m.onnx"), ("offset", "64"), ("length", "64")):
        if key != left_out:
            own.external_data.add(key=key, value=value)
    assert open_in_place(saved(before, tmp_path / "m.onnx"), model(), RuntimeOptions()) is None


def test_a_length_of_too_many_bytes_is_refused_as_by_protobuf(tmp_path: Path) -> None:
    content = model().SerializeToString()
    at = content.index(b"\x3a", 2)  # the graph, behind the version
    length = content[at + 1 : at + 5]
    assert length[-1] < 0x80
    longer = length[:-1] + bytes((length[-1] | 0x80, 0x80, 0x00))
    path = tmp_path / "m.onnx"
    path.write_bytes(content[: at + 1] + longer + content[at + 5 :])
    assert open_in_place(path, model(), RuntimeOptions()) is None
    with pytest.raises(ModelError, match="not an ONNX model"):
        check(path, model(), providers=["cpu"])


@pytest.mark.parametrize("cut", [1, 1000, 1 << 20, (1 << 22) + 100])
def test_a_damaged_file_gets_the_usual_words(cut: int, tmp_path: Path) -> None:
    whole = model().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(whole[: len(whole) - cut])
    assert open_in_place(path, model(), RuntimeOptions()) is None
    with pytest.raises(ModelError, match=r"truncated|not an ONNX model"):
        check(path, model(), providers=["cpu"])


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_are_no_model_are_refused(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(model().SerializeToString())
    for at in rng.integers(0, 200, 3):
        content[at] = rng.integers(0, 256)
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    found = open_in_place(path, model(), RuntimeOptions())
    if found is not None:
        read = ModelProto.FromString(bytes(content))
        assert [node.op_type for node in found[0].model.graph.node] == [node.op_type for node in read.graph.node]
        assert [tensor.dims for tensor in found[0].model.graph.initializer] == [t.dims for t in read.graph.initializer]
