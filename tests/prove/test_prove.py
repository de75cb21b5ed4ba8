"""onnxact.prove as it is called: what it refuses, what it falls back on, what it says."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import onnxact
from onnxact import Proof, prove
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.errors import ProviderError, UsageError

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown activation", {"activation": "leky-relu"}, "did you mean 'leaky-relu'"),
    ("unknown form", {"form": "mul-mx"}, "did you mean 'mul-max'.*its forms: op, prelu, mul-max"),
    ("no form", {"form": []}, "no form is named"),
    ("all and another", {"form": ["all", "op"]}, "has no form 'all'"),
    ("unknown parameter", {"parameters": {"beta": 1}}, "no parameter 'beta'; its parameters: alpha"),
    ("parameter of none", {"activation": "relu", "form": "op", "parameters": {"a": 1}}, "its parameters: none"),
    ("nan", {"parameters": {"alpha": float("nan")}}, "must be a number, not nan"),
    ("infinite", {"parameters": {"alpha": float("inf")}}, "not finite"),
    ("several numbers", {"parameters": {"alpha": [0.1, 0.2]}}, "is one number, not 2"),
    ("no number", {"activation": "prelu", "parameters": {"slope": []}}, "0 numbers"),
    ("too large for the dtype", {"parameters": {"alpha": 1e6}, "dtype": "float16"}, "more than float16 can hold"),
    ("outside when", {"parameters": {"alpha": 1.5}}, "mul-max: holds when alpha <= 1"),
    ("unknown dtype", {"dtype": "float8"}, "known: float16, bfloat16, float32, float64"),
    ("unknown provider", {"provider": "nonsense"}, "unknown provider 'nonsense'; known: cpu, cuda"),
    ("opset too old", {"opset": 6}, "opset 6: cpu takes 7 to"),
    ("opset too new", {"opset": 99}, "opset 99: cpu takes 7 to"),
    ("no op to compare with", {"activation": "log_sigmoid", "form": "softplus", "against": "op"}, "ONNX has no op"),
    ("random", {"activation": "noisy-relu", "form": "relu"}, "draws random numbers"),
]


@pytest.mark.parametrize(("arguments", "words"), [pytest.param(a, w, id=name) for name, a, w in REFUSED])
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments: dict[str, Any], words: str) -> None:
    call = {"activation": "leaky_relu", "form": "mul-max", "dtype": "float16", **arguments}
    with pytest.raises(UsageError, match=words) as caught:
        prove(call.pop("activation"), call.pop("form"), **call)
    assert caught.value.exit_code == 2


def test_a_provider_that_is_not_there_is_an_error() -> None:
    if "cuda" in onnxact.check.available_names():  # type: ignore[attr-defined]
        pytest.skip("CUDA is listed here")
    with pytest.raises(ProviderError, match=r"cuda.*onnxruntime-gpu") as caught:
        prove("leaky_relu", "mul-max", dtype="float16", provider="cuda")
    assert caught.value.exit_code == 3


def test_a_dtype_that_the_provider_does_not_compute_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ProviderError, match=r"no bfloat16 kernel of Mul-14 on cpu.*numpy") as caught:
        prove("leaky_relu", "mul-max", dtype="bfloat16")
    assert caught.value.exit_code == 3
    with pytest.raises(ProviderError, match="no bfloat16 kernel"):
        prove("leaky_relu", "all", dtype="bfloat16")
    assert prove("leaky_relu", "mul-max", dtype="bfloat16", provider="numpy").outcome == "proven"


def test_without_the_op_the_reference_is_the_standard() -> None:
    """ONNX Runtime 1.31 has no kernel of Swish-24; before opset 24 ONNX has no such op."""
    found = prove("swish", "mul-sigmoid", dtype="float16", opset=18)
    assert (found.forms[0].against, found.opset, found.op) == ("reference", 18, "")
    assert any("held against the reference" in note and "Swish" in note for note in found.notes)
    assert prove("log_sigmoid", "softplus", dtype="float16").forms[0].against == "reference"
    assert prove("leaky_relu", "mul-max", dtype="float16").forms[0].against == "op"
    assert prove("leaky_relu", "mul-max", dtype="float16", against="reference").forms[0].against == "reference"


def test_all_forms_are_tried_or_left_out_with_a_reason() -> None:
    found = prove("leaky_relu", dtype="float16")
    tried = {form.form for form in found.forms}
    assert tried | {form for form, _ in found.left_out} == set(ACTIVATIONS["leaky_relu"].forms)
    assert dict(found.left_out)["mul-min"] == "holds when alpha >= 1"
    assert [form.against for form in found.forms if form.form == "op"] == ["reference"]
    assert {form.against for form in found.forms if form.form != "op"} == {"op"}


def test_forms_with_a_part_computed_another_way_are_proven_too() -> None:
    found = prove("leaky_relu", "relu-neg[neg=mul]", parameters={"alpha": 0.25}, dtype="float16")
    assert (found.outcome, found.forms[0].exact) == ("proven", True)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "noisy_relu"])
def test_every_activation_can_be_tried_in_float16(activation: str) -> None:
    """Clip without a bound clips at the largest number (ONNX Clip-13), which changes infinity."""
    found = prove(activation, dtype="float16", against="reference")
    refuted = {form.form for form in found.forms if form.outcome == "refuted"}
    assert refuted == {"relu": {"clip"}, "clip": {"op"}}.get(activation, set()), found.summary()
    assert found.inputs == found.total == 65536


def test_float64_is_a_sample_and_says_so() -> None:
    found = prove("leaky_relu", "mul-max", dtype="float64")
    assert (found.outcome, found.exit_code) == ("not refuted", 0)
    assert found.inputs < found.total == 1 << 64
    assert "not refuted" in found.summary()


def test_one_slope_as_a_number_and_as_a_tensor_are_the_same() -> None:
    number = prove("prelu", "mul-max", parameters={"slope": 0.25}, dtype="float16")
    tensor = prove("prelu", "mul-max", parameters={"slope": np.array([0.25])}, dtype="float16")
    assert number.forms[0].tally == tensor.forms[0].tally
    assert number.lanes == 0


def test_a_slope_for_each_channel_is_tried_with_every_input() -> None:
    found = prove("prelu", "mul-max", parameters={"slope": np.array([[0.25], [0.5], [1.0]])}, dtype="float16")
    assert (found.lanes, found.inputs) == (3, 65536)
    assert found.forms[0].tally.tried == 3 * 65536
    assert found.outcome == "proven"
    assert {special.lane for special in found.forms[0].specials} == {0, 1, 2}
    with pytest.raises(UsageError, match="holds when slope <= 1"):
        prove("prelu", "mul-max", parameters={"slope": [0.25, 1.5]}, dtype="float16")


def test_a_wrong_slope_of_one_channel_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxact.activation.catalog import Form
    from onnxact.activation.expr import TRUE, Parameter, x
    from onnxact.activation.primitives import Max
    from tests.prove.engines import with_forms

    slope = Parameter("slope")
    wrong = Form(Max(x, slope * slope * x), exact=TRUE)
    with_forms(monkeypatch, "prelu", {"wrong": wrong})
    found = prove("prelu", "wrong", parameters={"slope": [1.0, 0.5, 1.0]}, dtype="float16", against="reference")
    assert {example.lane for example in found.forms[0].tally.examples} == {1}


def test_parameters_are_rounded_to_the_dtype_and_that_is_said() -> None:
    found = prove("leaky_relu", "mul-max", parameters={"alpha": 0.2}, dtype="float16")
    assert found.parameters["alpha"] == float(np.float16(0.2))
    assert found.notes[0] == "in float16 alpha is 0.19995117, not 0.2: that is what was tried"
    assert "itself has other bits at" in found.notes[1]
    assert prove("leaky_relu", "mul-max", parameters={"alpha": 0.2}, sample=True).notes == ()
    assert prove("leaky_relu", "mul-max", parameters={"alpha": 0.25}, dtype="float16").notes == ()


def test_special_inputs_are_all_reported() -> None:
    found = prove("hard_swish", "clip", dtype="float16", against="reference")
    named = {special.name: special for special in found.forms[0].specials}
    assert {"+0", "-0", "+inf", "-inf", "nan", "largest", "smallest normal", "kink -3", "kink 3"} <= set(named)
    assert named["-inf"].got == 0x7E00 or named["-inf"].got == 0xFE00
    assert named["-inf"].reference == 0
    assert named["-inf"].op is None


def test_the_end_of_a_tensor_is_tried_too() -> None:
    """Eigen's Log has another approximation for the last few values of a tensor than for the others."""
    found = prove("softplus", "stable", sample=True)
    form = found.forms[0]
    assert form.ends is not None
    assert form.ends.tried == 2048
    assert prove("softplus", "stable", dtype="float16", provider="numpy").forms[0].ends is None


def test_the_report_is_plain_data() -> None:
    found = prove("leaky_relu", "all", dtype="float16")
    text = json.dumps(found.to_json(), allow_nan=False)
    report = json.loads(text)
    assert (report["schema"], report["verb"], report["outcome"]) == ("onnxact/1", "prove", "proven")
    assert report["optimisation"] == "off"
    form = report["forms"][0]
    kinds = ("bit_equal", "nan_payload", "zero_sign", "numbers_differ", "nan_or_infinite_on_one_side")
    assert sum(form[kind] for kind in kinds) == form["tried"] == 65536
    assert set(report["versions"]) == {"onnxact", "onnx", "numpy", "onnxruntime"}
    worst = next(form["worst"] for form in report["forms"] if form["form"] == "mul-abs-add")
    assert np.array([int(worst["x_bits"], 16)], np.uint16).view(np.float16)[0] == worst["x"]


def test_it_is_frozen_and_public() -> None:
    found = prove("relu", "max", dtype="float16")
    assert isinstance(found, Proof)
    with pytest.raises(AttributeError):
        found.dtype = "float32"  # type: ignore[misc]


def test_the_same_call_finds_the_same() -> None:
    first, second = (prove("gelu", "erf", sample=True) for _ in range(2))
    assert first.forms == second.forms


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "threads: expected a whole number from 1 on, not 0"),
        ({"threads": -1}, "not -1"),
        ({"threads": "2"}, "not '2'"),
        ({"opset": "13"}, "opset: expected a whole number"),
        ({"provider": None}, "provider: expected one name"),
        ({"against": "x"}, "against: 'x'; give op or reference"),
        ({"parameters": {"alpha": "0.2"}}, "'0.2' is no number"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        prove("leaky_relu", "mul-max", dtype="float16", **options)


@pytest.mark.parametrize("alpha", [2.0, 2.5, 10.0])
@pytest.mark.parametrize("form", ["relu-affine", "mul-abs-add", "fixed-slope"])
def test_a_form_that_says_it_overflows_may_give_nan_there(form: str, alpha: float) -> None:
    found = prove("leaky_relu", form, parameters={"alpha": alpha}, sample=True)
    assert found.outcome == "not refuted"
    assert found.forms[0].tally.overflowed > 0
