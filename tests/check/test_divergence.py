"""The first value that differs: found, described, shown to be the origin, within the memory budget."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

import onnxact
from onnxact.check import Verdict, check
from onnxact.check.case import Case
from onnxact.check.diagnosis import Divergence
from onnxact.check.divergence import DEFAULT_BOUND, EQUAL_BOUND, find_divergence
from onnxact.check.inputs import Feed, make_inputs
from onnxact.check.observing import Observed
from onnxact.check.subject import open_subject
from onnxact.check.verdict import Run
from onnxact.model.files import load
from tests.check.models import LEAKY, MUL_ABS_ADD, RELU, net, unary
from tests.check.naming import renamed

FOLDER = os.environ.get("ONNXACT_CORPUS")
ROOT = Path(__file__).resolve().parents[2]
LEAKY_DIGITS = ROOT / "models" / "digits_leaky_relu.onnx"
CORPUS = {
    "hpc203+nanodet-opncv-dnn-cpp-python/nanodet_m.onnx": ("LeakyRelu", "Elu"),
    "ShiqiYu+libfacedetection.train/onnx/yunet_n_640_640.onnx": ("Relu", "Elu"),
    "opencv+opencv_zoo/models/object_tracking_vittrack/vitTracker@311e980.onnx": ("Relu", "Abs"),
    "opencv+opencv_zoo/models/text_detection_db/text_detection_en_ppocrv3_2023may@6307436.onnx": ("HardSwish", "Relu"),
    "microsoft+onnxruntime-openenclave/onnxruntime/python/tools/transformers/test_data/"
    "bert_mrpc_tensorflow2.1_opset10/TFBertForSequenceClassification_1.onnx": ("Erf", "Tanh"),
}
DEEP = "a = Neg(x) b = Relu(a) c = Exp(b) d = Neg(c) y = Tanh(d)"
IF = """
    a = Abs(x)
    y = If (c) <
        then_branch = yes () => (float[4] t) {{ q = Neg(a) t = {}(q) }},
        else_branch = no () => (float[4] b) {{ b = Neg(a) }}
    >
"""


def copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def looked_into(before: ModelProto, after: ModelProto, *, folder: Path | None = None, **options: Any) -> Case:
    subjects = [open_subject(model, folder=folder) for model in (before, after)]
    feed = Feed("seed 0", make_inputs(before, seed=0))
    case = Case(subjects[0], subjects[1], feed, Run("seed 0", "cpu", False), False, 1 << 28)
    return replace(case, **options)


def found_in(before: ModelProto, after: ModelProto, **options: Any) -> Divergence:
    found = find_divergence(looked_into(before, after, **options))
    assert isinstance(found, Divergence), found
    return found


def judged(before: ModelProto, after: ModelProto, **options: Any) -> tuple[Verdict, Divergence]:
    verdict = check(before, after, providers=["cpu"], **options)
    assert verdict.divergence is not None, verdict.summary()
    return verdict, verdict.divergence


def test_first_value_and_what_makes_it() -> None:
    verdict, found = judged(unary(DEEP), unary(DEEP.replace("Relu", "LeakyRelu<alpha = 0.5>")))
    assert verdict.outcome == "different"
    assert (found.value.before, found.value.after) == ("b", "b")
    assert (str(found.node_before), str(found.node_after)) == ("Relu #1", "LeakyRelu #1")
    assert found.bound == DEFAULT_BOUND
    assert found.site == "site 'b': relu before, leaky_relu(alpha=0.5) after"
    assert [(item.name, item.differing) for item in found.inputs] == [("a", 0)]
    assert found.own is not None
    assert found.own.differing == found.value.differing
    assert found.is_origin
    assert found.control == "control: observing the value changes no output"
    x = make_inputs(unary(DEEP), seed=0)["x"]
    at = found.value.worst_index
    assert found.value.worst_before == 0.0
    assert found.value.worst_after == pytest.approx(-x[at] * 0.5)
    assert found.value.max_abs == pytest.approx(np.max(np.maximum(x, 0)) * 0.5)
    assert any("first value that differs" in line for line in verdict.summary())


def test_an_output_that_differs_is_always_compared() -> None:
    """Its value of before is made in the same way after, under another name."""
    after = net("float[4] x", "float[4] y", "z = Relu(x) k = Constant<value_float = 2.0>() y = Mul(z, k)")
    _, found = judged(net("float[4] x", "float[4] y", RELU), after)
    assert (found.value.before, found.value.after, found.is_origin) == ("y", "y", True)
    assert str(found.node_after) == "Mul #2"


def test_equivalent_models_have_none() -> None:
    assert check(unary(LEAKY), unary(MUL_ABS_ADD), providers=["cpu"]).divergence is None
    case = looked_into(unary(DEEP), copied(unary(DEEP)))
    assert find_divergence(case) == "no value was found to differ: 5 of 5 aligned ones were compared"


def test_diagnosis_can_be_left_out() -> None:
    verdict = check(unary(RELU), unary(LEAKY), providers=["cpu"], diagnose=False)
    assert (verdict.outcome, verdict.divergence, verdict.triage) == ("different", None, ())


def test_no_value_beyond_the_default_tolerance() -> None:
    """The outputs have to be equal; the first value with other bits is it."""
    body = "n = Neg(x) {} e = Exp(y0) y = Neg(e)"
    forms = [
        body.format(form.replace("x)", "n)").replace("(x", "(n").replace("y =", "y0 ="))
        for form in (LEAKY, MUL_ABS_ADD)
    ]
    _, found = judged(unary(forms[0]), unary(forms[1]), rtol=0.0, atol=0.0)
    assert (found.value.name, found.bound) == ("y0", EQUAL_BOUND)
    assert 0 < found.value.max_abs < 1e-5


def test_a_difference_that_is_only_amplified_is_not_made_there() -> None:
    """What is added stays within the default tolerance; once x is taken away again, it does not."""
    bodies = [f"a = Add(x, {name}) y = Sub(a, x)" for name in "ze"]
    models = [net("float[2, 8] x", "float[2, 8] y", body, "float e = {1e-5}, float z = {0.0}") for body in bodies]
    found = found_in(*models)
    assert (found.value.name, found.is_origin) == ("y", False)
    assert found.own is not None
    assert found.own.differing == 0
    assert [item.name for item in found.inputs if item.differing] == ["a"]
    assert all(item.agrees for item in found.inputs)


def test_values_that_are_too_large_for_the_budget_are_left_out_and_counted() -> None:
    body = "w = Expand(x, s) k = {}(w) r = ReduceSum<keepdims = 0>(k, axes) y = Neg(r)"
    weights = "int64[2] s = {512, 8}, int64[1] axes = {0}"
    models = [net("float[1, 8] x", "float[8] y", body.format(op), weights) for op in ("Relu", "Abs")]
    large = found_in(*models)
    assert (large.value.name, large.too_large) == ("k", ())
    small = found_in(*models, memory_budget=10000)
    assert (small.value.name, small.too_large) == ("r", ("k",))
    assert "1 value did not fit the memory budget and was not compared" in small.lines()


def test_observed_values_fit_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    original = Observed.values

    def counted(self: Observed, names: Any) -> Any:
        result = original(self, names)
        assert isinstance(result, dict)
        held.append(sum(value.nbytes for value in result.values()))
        return result

    monkeypatch.setattr(Observed, "values", counted)
    steps = " ".join(f"v{step + 1} = Neg(v{step})" for step in range(20))
    models = [
        net("float[64] x", "float[64] y", f"v0 = Add(x, k) {steps} y = {op}(v20)", "float k = {1e-9}")
        for op in ("Exp", "Relu")
    ]
    models[1].graph.initializer[0].float_data[0] = 2e-9
    found = find_divergence(looked_into(models[0], models[1], memory_budget=256 * 6))
    assert isinstance(found, Divergence)
    assert (found.value.name, found.compared) == ("y", 22)
    assert len(held) > 14
    assert max(held) * 2 <= 256 * 6


def test_sizes_are_exact_where_they_do_not_follow_from_the_model() -> None:
    model = net(
        "float[N, 8] x, int64[1] n",
        "float[M] y",
        "k = Constant<value_ints = [0]>() r = Reshape(x, m) s = Slice(r, k, n) y = Neg(s)",
        "int64[1] m = {-1}",
    )
    inputs = {"x": np.ones((4, 8), np.float32), "n": np.array([5])}
    watched = Observed(open_subject(model), "cpu", False, inputs)
    assert watched.sizes(["r", "s", "y"]) == {"r": 128, "s": 20, "y": 20}


def test_a_value_that_is_no_tensor_is_left_out() -> None:
    body = "r = {}(x) q = SequenceConstruct(r, x) k = Constant<value_int = 0>() e = SequenceAt(q, k) y = Neg(e)"
    models = [net("float[4] x", "float[4] y", body.format(op)) for op in ("Relu", "Abs")]
    assert Observed(open_subject(models[0]), "cpu", False, {"x": np.ones(4, np.float32)}).sizes(["r", "q", "e"]) == {
        "r": 16,
        "e": 16,
    }
    assert found_in(*models).value.name == "r"


def test_shapes_that_differ_are_the_difference() -> None:
    models = [
        net("float[2, 4] x", "float[N] y", f"r = {op} y = ReduceMax<keepdims = 0>(r, k)", "int64[1] k = {1}")
        for op in ("Neg(x)", "Concat<axis = 0>(x, x)")
    ]
    found = found_in(*models)
    assert found.value.problem == "float32[2, 4] before, float32[4, 4] after"
    assert found.value.name == "r"


def test_in_a_body_the_node_is_named() -> None:
    models = [net("float[4] x, bool c", "float[4] y", IF.format(op)) for op in ("Relu", "Elu")]
    _, found = judged(*models)
    assert (found.value.name, str(found.node_before)) == ("y", "If #1")
    assert found.inside == "in then_branch, node 1 is Relu before, Elu after"
    assert found.is_origin


def test_in_a_local_function_values_have_names() -> None:
    function = '<opset_import: ["" : 18], domain: "local"> f (a) => (b) {{ c = Neg(a) d = {}(c) b = Neg(d) }}'
    models = [
        net("float[4] x", "float[4] y", "z = Neg(x) y = local.f(z)", functions=function.format(op))
        for op in ("Relu", "Elu")
    ]
    _, found = judged(*models)
    assert "Relu" in str(found.node_before)
    assert found.is_origin


def test_control_says_that_observing_changes_the_outputs() -> None:
    """ONNX Runtime computes these nodes as one Gelu, unless a value in their midst is asked for."""
    body = "a = Add(x, b) d = Div(a, s) e = Erf(d) p = Add(e, o) q = Mul(a, p) y = Mul(q, h)"
    numbers = ", ".join(str(number / 64) for number in range(64))
    weights = f"float[64] b = {{{numbers}}}, float h = {{0.5}}, float o = {{1.0}}, float s = {{1.41421354}}"
    before = net("float[4, 64] x", "float[4, 64] y", body, weights)
    after = net("float[4, 64] x", "float[4, 64] y", body.replace("Erf", "Tanh"), weights)
    plain, optimised = (found_in(before, after, run=Run("seed 0", "cpu", optimise)) for optimise in (False, True))
    assert plain.value.name == optimised.value.name == "e"
    assert plain.control == "control: observing the value changes no output"
    assert optimised.control == "control: observing the value changes the outputs y before"


def test_divergence_is_plain_data_in_the_report() -> None:
    verdict, found = judged(unary(RELU), unary(LEAKY))
    report = verdict.to_json()["divergence"]
    assert report["value"]["before"] == "y"
    assert report["node_before"] == {"name": "", "op": "Relu", "position": 0}
    assert report["inputs"][0]["differing"] == 0
    assert report["own"]["worst_before"] == 0.0
    assert str(found) == "; ".join(found.lines())


Mutation = Callable[[ModelProto], str]
"""Changes a model and returns the value that is the first to be another."""


def other_constant(model: ModelProto) -> str:
    """The alpha of the third activation."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    node = [node for node in model.graph.node if node.op_type == "Mul"][2]
    position = next(at for at, name in enumerate(node.input) if name in stored)
    changed = numpy_helper.to_array(stored[node.input[position]]) * np.float32(1.01)
    model.graph.initializer.append(numpy_helper.from_array(changed.astype(np.float32), "another"))
    node.input[position] = "another"
    return next(other.output[0] for other in model.graph.node if node.output[0] in other.input)


def min_for_max(model: ModelProto) -> str:
    node = [node for node in model.graph.node if node.op_type == "Max"][1]
    node.op_type = "Min"
    return node.output[0]


def flipped_weight(model: ModelProto) -> str:
    node = [node for node in model.graph.node if node.op_type == "Conv"][1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[int(np.argmax(np.abs(values)))] *= -1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return node.output[0]


@pytest.mark.parametrize("mutate", [other_constant, min_for_max, flipped_weight])
@pytest.mark.parametrize("anonymous", [False, True])
def test_wrong_rewrites_are_located(mutate: Mutation, anonymous: bool) -> None:
    """Under their own names, and when nothing has its name any longer."""
    before = load(LEAKY_DIGITS)
    wrong = copied(onnxact.decompose(before, form="mul-max").proto)
    where = mutate(wrong)
    after, new = renamed(wrong) if anonymous else (wrong, {})
    found = found_in(before, after)
    assert (found.value.before, found.value.after) == (where, new.get(where, where))
    assert found.is_origin
    assert all(item.differing == 0 for item in found.inputs)


@pytest.mark.skipif(FOLDER is None, reason="ONNXACT_CORPUS names no folder")
@pytest.mark.parametrize("name", CORPUS, ids=lambda name: Path(name).stem)
def test_large_models_are_located(name: str) -> None:
    """One node in the middle computes something else; with little memory, and under other names."""
    path = Path(str(FOLDER)) / name
    before, (op, other) = load(path), CORPUS[name]
    wrong = copied(before)
    nodes = [node for node in wrong.graph.node if node.op_type == op]
    node = nodes[len(nodes) // 2]
    node.op_type, where = other, node.output[0]
    del node.attribute[:]
    for after, shown in ((wrong, where), (renamed(wrong)[0], None)):
        found = found_in(before, after, folder=path.parent, memory_budget=1 << 23)
        assert found.value.before == where
        assert shown is None or found.value.after == shown
        assert found.is_origin
        assert not found.too_large
