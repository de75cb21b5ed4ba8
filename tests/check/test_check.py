"""check as a whole: what must be equivalent, and above all what must not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnxact.check import NotEquivalent, SiteProbe, Verdict, check, drift
from onnxact.check.providers import unavailable
from onnxact.errors import ModelError, ProviderError, UsageError
from tests.check.models import LEAKY, MUL_ABS_ADD, MUL_MAX, RELU, net, unary

SITE = SiteProbe("", "", "x", "y")


def on_cpu(before: ModelProto, after: ModelProto, sites: Sequence[SiteProbe] = (), **options: Any) -> Verdict:
    return check(before, after, sites=sites, providers=["cpu"], **options)


def copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def positive(size: int = 8) -> dict[str, Any]:
    return {"x": np.linspace(0.5, 3, 2 * size, dtype=np.float32).reshape(2, size)}


# What is the same.


@pytest.mark.parametrize("form", [LEAKY, MUL_MAX, MUL_ABS_ADD])
def test_forms_of_leaky_relu_are_equivalent(form: str) -> None:
    verdict = on_cpu(unary(LEAKY), unary(form), [SITE])
    assert verdict.equivalent, verdict.summary()
    assert {(run.inputs, run.optimise) for run in verdict.runs} == {
        (inputs, optimise) for inputs in ("seed 0", "seed 1") for optimise in (False, True)
    }
    assert verdict.exit_code == 0
    verdict.raise_unless_equivalent()


def test_exact_form_is_bit_equal_and_says_so() -> None:
    verdict = on_cpu(unary(LEAKY), unary(MUL_MAX), [SITE], exact=True)
    assert verdict.equivalent
    assert {item.judged_by for item in verdict.outputs} == {"bits"}
    assert {item.differing for item in verdict.outputs} == {0}


def test_exact_refuses_what_the_tolerance_accepts() -> None:
    assert on_cpu(unary(LEAKY), unary(MUL_ABS_ADD), [SITE]).equivalent
    verdict = on_cpu(unary(LEAKY), unary(MUL_ABS_ADD), [SITE], exact=True)
    assert verdict.outcome == "different"


def test_user_tolerance_replaces_the_default() -> None:
    wrong = unary("y = LeakyRelu<alpha = 0.201>(x)")
    assert on_cpu(unary(LEAKY), wrong).outcome == "different"
    assert on_cpu(unary(LEAKY), wrong, rtol=0.01).equivalent
    assert on_cpu(unary(LEAKY), unary(MUL_ABS_ADD), rtol=0.0, atol=0.0).outcome == "different"


def test_tolerance_of_one_output_holds_for_it_alone() -> None:
    outputs = "float[4, 8] y, float[4, 8] z"
    before, after = (
        net("float[4, 8] x", outputs, "y = Mul(x, k) z = Exp(x)", f"float k = {{{factor}}}") for factor in (0.2, 0.201)
    )
    assert on_cpu(before, after, rtol={"y": 0.01}).equivalent
    assert on_cpu(before, after, rtol={"z": 0.01}).outcome == "different"
    verdict = on_cpu(before, after, rtol={"": 1e-6, "y": 0.01}, atol={"z": 1e-9})
    applied = {item.name: (item.rtol, item.atol, item.tolerance) for item in verdict.outputs}
    assert applied == {"y": (0.01, 0.0, "given"), "z": (1e-6, 1e-9, "given")}
    report = verdict.to_json()["tolerance"]
    assert report == {
        "rtol": 1e-6,
        "atol": None,
        "outputs": {"y": {"rtol": 0.01, "atol": None, "outputs": {}}, "z": {"rtol": None, "atol": 1e-9, "outputs": {}}},
    }
    with pytest.raises(UsageError, match=r"tolerance for w: the model has no such output; its outputs: y, z"):
        on_cpu(before, after, atol={"w": 1.0})


def test_least_tolerances_make_it_pass() -> None:
    before, after = (unary(f"k = Constant<value_float = {factor}>() y = Mul(x, k)") for factor in (0.2, 0.201))
    least_rtol, least_atol = on_cpu(before, after, rtol=1e-5, atol=1e-6).least_tolerances()["y"]
    assert on_cpu(before, after, rtol=1e-5, atol=least_atol).equivalent
    assert on_cpu(before, after, rtol=least_rtol, atol=1e-6).equivalent
    assert on_cpu(before, after, rtol=1e-5, atol=float(np.nextafter(least_atol, 0))).outcome == "different"
    assert on_cpu(before, after, rtol=float(np.nextafter(least_rtol, 0)), atol=1e-6).outcome == "different"
    assert on_cpu(before, copied(before)).least_tolerances() == {"y": (0.0, 0.0)}


def test_outcome_of_every_output() -> None:
    outputs = "float[4] same, float[4] other, float[4] unclear, float[0] empty"
    body = "same = Relu(x) other = {}(x) n = RandomNormalLike(x) unclear = Add(n, x) empty = Identity(e)"
    before, after = (net("float[4] x, float[0] e", outputs, body.format(op)) for op in ("Relu", "Elu"))
    verdict = on_cpu(before, after)
    expected = {"same": "equivalent", "other": "different", "unclear": "inconclusive", "empty": "inconclusive"}
    assert verdict.output_outcomes() == expected
    assert verdict.to_json()["output_verdicts"] == expected
    assert verdict.outcome == "different"


def test_same_content_in_two_objects_is_equivalent_and_noted() -> None:
    model = unary(RELU)
    verdict = on_cpu(model, copied(model), [SITE])
    assert verdict.equivalent
    assert "the two models have the same content" in verdict.notes


@pytest.mark.parametrize("dtype", ["double", "float16"])
def test_other_floating_types(dtype: str) -> None:
    body = "a = Constant<value_float = 0.25>() b = CastLike(a, x) ax = Mul(x, b) y = Max(x, ax)"
    before = unary("y = LeakyRelu<alpha = 0.25>(x)", dtype=dtype)
    verdict = on_cpu(before, unary(body, dtype=dtype), [SITE])
    assert verdict.equivalent, verdict.summary()
    assert verdict.outputs[0].dtype == {"double": "float64", "float16": "float16"}[dtype]


def test_bfloat16_goes_in_and_comes_out() -> None:
    wide = "w = Cast<to = 1>(x) r = {}(w) y = Cast<to = 16>(r)"
    before, after = (unary(wide.format(op), dtype="bfloat16") for op in ("Relu", "Elu"))
    assert on_cpu(before, copied(before)).equivalent
    verdict = on_cpu(before, after)
    assert verdict.outcome == "different"
    assert verdict.outputs[0].dtype == "bfloat16"


def test_strings_and_integers_have_to_be_equal() -> None:
    strings = net("string[3] s", "string[3] t", "t = Identity(s)")
    assert on_cpu(strings, copied(strings)).equivalent
    integers = net("int64[3] i", "int64[3] j", "j = Neg(i)")
    assert on_cpu(integers, net("int64[3] i", "int64[3] j", "j = Abs(i)")).outcome == "different"


def test_sequences_are_compared_tensor_by_tensor() -> None:
    body = "r = {}(x) s = SequenceConstruct(x, r)"
    before, after = (net("float[4] x", "seq(float[4]) s", body.format(op)) for op in ("Relu", "Elu"))
    assert on_cpu(before, copied(before)).equivalent
    verdict = on_cpu(before, after)
    assert verdict.outcome == "different"
    assert {item.name for item in verdict.outputs if item.outcome == "different"} == {"s[1]"}


def test_integer_inputs_stay_within_the_table() -> None:
    table = ", ".join(str(-1 - value) for value in range(12))
    weights = f"float[6, 2] table = {{{table}}}"
    body = "i = Cast<to = 7>(ids) u = Unsqueeze(i, axes) e = Gather(table, u) y = {}(e)"
    axes = "int64[1] axes = {1}"
    models = [
        net("int32[N] ids", "float[N, 1, 2] y", body.format(op), f"{weights}, {axes}") for op in ("Relu", "Elu", "Relu")
    ]
    assert on_cpu(models[0], models[2]).equivalent
    assert on_cpu(models[0], models[1]).outcome == "different"


# What is not.


def test_relu_against_leaky_relu_is_different() -> None:
    verdict = on_cpu(unary(RELU), unary(LEAKY))
    assert verdict.outcome == "different"
    assert verdict.exit_code == 1
    with pytest.raises(NotEquivalent, match="different"):
        verdict.raise_unless_equivalent()


@pytest.mark.parametrize("alpha", [0.201, 0.199, -0.2, 0.0])
def test_another_alpha_is_different(alpha: float) -> None:
    assert on_cpu(unary(LEAKY), unary(f"y = LeakyRelu<alpha = {alpha}>(x)"), [SITE]).outcome == "different"


def test_positive_inputs_only_do_not_pass() -> None:
    verdict = on_cpu(unary(RELU), unary(LEAKY), [SITE], inputs=positive())
    assert verdict.outcome == "inconclusive"
    assert "no value below 0 entered it" in verdict.reasons[0]
    assert verdict.exit_code == 4
    with pytest.raises(NotEquivalent, match="inconclusive"):
        verdict.raise_unless_equivalent()


def test_positive_inputs_are_searched_out_of() -> None:
    """x + 3000 stays positive for all plain inputs, whose magnitude is at most 10; not for those times 1000."""
    body = "big = Constant<value_float = 3000.0>() s = Add(x, big) r = {}(s) y = Identity(r)"
    before, after = (unary(body.format(op), shape="N, 64") for op in ("Relu", "LeakyRelu"))
    verdict = on_cpu(before, after, [SiteProbe("", "", "s", "r")])
    assert verdict.outcome == "different"
    assert any("times" in run.inputs for run in verdict.runs)


def test_site_behind_something_that_hides_it_is_inconclusive() -> None:
    """ArgMax sees the positive branch alone, so the outputs agree; the site on its own does not."""
    body = "r = {}(x) i = ArgMax<axis = 1>(r) f = Cast<to = 1>(i) y = Identity(f)"
    models = [net("float[N, 64] x", "float[N, 1] y", body.format(op)) for op in ("Relu", "LeakyRelu<alpha = 0.2>")]
    verdict = on_cpu(models[0], models[1], [SiteProbe("", "", "x", "r")])
    assert verdict.outcome == "inconclusive"
    assert "on its own it differs" in verdict.reasons[0]


def test_one_channel_of_a_slope_that_no_input_reaches() -> None:
    """Channel 1 is always positive, by more than any made-up input can outweigh; its slope is wrong."""
    shift = "float[2, 1] shift = {0.0, 1e9}, float[2, 1] slope = {0.25, %s}"
    body = "s = Add(x, shift) y = PRelu(s, slope)"
    before, wrong = (net("float[1, 2, 8] x", "float[1, 2, 8] y", body, shift % value) for value in ("0.25", "0.5"))
    site = SiteProbe("", "", "s", "y", (0.0,), 1)
    verdict = on_cpu(before, wrong, [site])
    assert verdict.outcome == "inconclusive"
    assert "no value below 0 entered 1 of 2 channels (1)" in verdict.reasons[0]
    right = on_cpu(before, copied(before), [site])
    assert right.equivalent
    assert right.sites[0].alone == "identical"


def test_lost_output_is_different() -> None:
    before = net("float[4] x", "float[4] y, float[4] z", "y = Relu(x) z = Neg(x)")
    verdict = on_cpu(before, net("float[4] x", "float[4] y", "y = Relu(x)"))
    assert (verdict.outcome, verdict.reasons) == ("different", ("output 'z' is lost",))
    assert on_cpu(net("float[4] x", "float[4] y", "y = Relu(x)"), before).reasons == ("output 'z' is new",)


def test_swapped_outputs_are_different() -> None:
    one, other = "float[4] y, float[4] z", "float[4] z, float[4] y"
    before = net("float[4] x", one, "y = Relu(x) z = Neg(x)")
    reordered = on_cpu(before, net("float[4] x", other, "y = Relu(x) z = Neg(x)"))
    assert reordered.outcome == "different"
    assert "another order" in reordered.reasons[0]
    assert on_cpu(before, net("float[4] x", one, "z = Relu(x) y = Neg(x)")).outcome == "different"


def test_other_inputs_and_types_are_different() -> None:
    before = net("float[4] x, float[4] w", "float[4] y", "y = Add(x, w)")
    assert on_cpu(before, net("float[4] x", "float[4] y", RELU)).reasons == ("input 'w' is lost",)
    typed = net("float[4] x", "double[4] y", "y = Cast<to = 11>(x)")
    assert on_cpu(net("float[4] x", "float[4] y", RELU), typed).reasons == ("output 'y' was float, is double",)


def test_another_shape_is_different() -> None:
    before = net("float[4] x", "float[N] y", RELU)
    after = net("float[4] x", "float[N] y", "a = Relu(x) y = Concat<axis = 0>(a, a)")
    verdict = on_cpu(before, after)
    assert verdict.outcome == "different"
    assert "shape [4] before, [8] after" in verdict.reasons[0]


def test_nan_on_one_side_is_different_and_on_both_is_not() -> None:
    root = unary("y = Sqrt(x)")
    assert on_cpu(root, copied(root)).equivalent
    verdict = on_cpu(root, unary("a = Abs(x) y = Sqrt(a)"))
    assert verdict.outcome == "different"
    assert "NaN on one side only" in verdict.reasons[0]


def test_infinity_on_one_side_is_different() -> None:
    verdict = on_cpu(unary("z = Sub(x, x) y = Div(x, z)"), unary("y = Neg(x)"))
    assert verdict.outcome == "different"


NO_KERNEL = "h = Cast<to = 16>(x) i = PRelu(h, h) y = Cast<to = 1>(i)"


def test_model_that_no_longer_loads_is_different() -> None:
    verdict = on_cpu(unary(RELU), unary(NO_KERNEL))
    assert verdict.outcome == "different"
    assert "ran before, does not load: Could not find an implementation for" in verdict.reasons[0]


def test_model_that_no_longer_runs_is_different() -> None:
    before = net("float[4] x", "float[N] y", RELU)
    after = net("float[4] x", "float[N] y", "s = Constant<value_ints = [3, 5]>() r = Reshape(x, s) y = Relu(r)")
    verdict = on_cpu(before, after)
    assert verdict.outcome == "different"


# What cannot be known.


def test_model_before_that_does_not_run_is_inconclusive() -> None:
    failing = net("float[4] x", "float[N] y", "s = Constant<value_ints = [3, 5]>() r = Reshape(x, s) y = Relu(r)")
    verdict = on_cpu(failing, net("float[4] x", "float[N] y", RELU))
    assert verdict.outcome == "inconclusive"
    assert "nothing to compare with" in verdict.reasons[0]
    assert any("neither model runs" in reason for reason in on_cpu(failing, copied(failing)).reasons)


def test_random_model_is_inconclusive() -> None:
    noisy = unary("n = RandomNormalLike(x) s = Add(x, n) y = Relu(s)")
    verdict = on_cpu(noisy, unary(RELU))
    assert verdict.outcome == "inconclusive"
    assert any("differs between two runs of the unchanged model" in reason for reason in verdict.reasons)
    assert on_cpu(noisy, copied(noisy)).outcome == "inconclusive"


def test_outputs_without_elements_or_without_finite_ones_are_inconclusive() -> None:
    empty = net("float[0, 3] x", "float[0, 3] y", RELU)
    assert "had no element in any run" in on_cpu(empty, copied(empty)).reasons[0]
    nan = unary("z = Sub(x, x) y = Div(z, z)")
    assert "had no finite element in any run" in on_cpu(nan, copied(nan)).reasons[0]


def test_model_without_outputs_is_inconclusive() -> None:
    model = unary(RELU)
    del model.graph.output[:]
    assert on_cpu(model, copied(model)).outcome == "inconclusive"


def test_site_in_a_body_is_inconclusive() -> None:
    body = """
        y = If (c) <
            then_branch = yes () => (float[4] a) { a = Relu(x) },
            else_branch = no () => (float[4] b) { b = Neg(x) }
        >
    """
    model = net("float[4] x, bool c", "float[4] y", body)
    assert on_cpu(model, copied(model)).equivalent
    verdict = on_cpu(model, copied(model), [SiteProbe("then_branch", "", "x", "a")])
    assert verdict.outcome == "inconclusive"
    assert "then_branch" in verdict.reasons[0]


def test_both_branches_of_an_if_are_run() -> None:
    body = """
        y = If (c) <
            then_branch = yes () => (float[4] a) {{ a = {}(x) }},
            else_branch = no () => (float[4] b) {{ b = {}(x) }}
        >
    """
    before = net("float[4] x, bool c", "float[4] y", body.format("Relu", "Neg"))
    for changed in (("Elu", "Neg"), ("Relu", "Abs")):
        assert on_cpu(before, net("float[4] x, bool c", "float[4] y", body.format(*changed))).outcome == "different"


def test_unknown_site_is_inconclusive() -> None:
    verdict = on_cpu(unary(RELU), unary(RELU), [SiteProbe("", "n", "gone", "y")])
    assert verdict.outcome == "inconclusive"
    assert "no value 'gone'" in verdict.reasons[0]


def test_input_of_a_type_that_cannot_be_made_is_inconclusive() -> None:
    kind = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, []))
    graph = helper.make_graph(
        [helper.make_node("CastMap", ["m"], ["y"], domain="ai.onnx.ml", cast_to="TO_FLOAT", map_form="DENSE")],
        "g",
        [helper.make_value_info("m", kind)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, None])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    verdict = on_cpu(model, copied(model))
    assert verdict.outcome == "inconclusive"
    assert "map(int64, float)" in verdict.reasons[0]


# Wrong usage.


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    model = unary(RELU)
    with pytest.raises(UsageError, match="itself"):
        check(model, model)
    onnx.save(model, tmp_path / "a.onnx")
    (tmp_path / "b.onnx").symlink_to(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="itself"):
        check(tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.mark.parametrize(
    "options",
    [
        {"rtol": -1.0},
        {"atol": float("nan")},
        {"rtol": float("inf")},
        {"seeds": ()},
        {"seeds": (-1,)},
        {"providers": []},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        check(unary(RELU), unary(LEAKY), **options)


def test_cuda_asked_for_without_it_is_an_error() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ProviderError, match=r"onnxruntime-gpu"):
        check(unary(RELU), unary(RELU), providers=["cuda"])
    noted = check(unary(RELU), unary(RELU))
    assert noted.providers == ("cpu",)
    assert noted.notes[0].startswith("cuda left out: ")


@pytest.mark.cuda
def test_on_cuda() -> None:
    problem = unavailable("cuda")
    if problem is not None:
        pytest.skip(problem)
    verdict = check(unary(LEAKY), unary(MUL_MAX), sites=[SITE], providers=["cpu", "cuda"])
    assert verdict.equivalent, verdict.summary()
    assert all(dict(run.placement).get("cuda") for run in verdict.runs if run.provider == "cuda")
    assert check(unary(RELU), unary(LEAKY), providers=["cuda"]).outcome == "different"


def test_provider_that_gets_no_node_is_an_error() -> None:
    import onnxruntime

    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime was built without the Azure provider")
    with pytest.raises(ProviderError, match="was given no node of this model"):
        check(unary(RELU), unary(LEAKY), providers=["azure"])


def test_files_that_are_no_models(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    onnx.save(unary(RELU), good)
    for content in (b"", b"hello", good.read_bytes()[:-7], b"\x08\x08"):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=r"bad\.onnx"):
            check(good, bad)
    with pytest.raises(ModelError, match="directory"):
        check(good, tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        check(good, tmp_path / "none.onnx")


def test_external_data_are_found_from_a_path_and_from_a_folder(tmp_path: Path) -> None:
    model = net("float[N, 8] x", "float[N, 8] y", "m = MatMul(x, w) y = Relu(m)")
    model.graph.initializer.append(numpy_helper.from_array(np.full((8, 8), 1.5, np.float32), "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=8, location="m.bin")
    loaded = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    site = SiteProbe("", "", "m", "y")
    verdict = check(tmp_path / "m.onnx", loaded, folder=tmp_path, sites=[site], providers=["cpu"])
    assert verdict.equivalent, verdict.summary()
    assert check(tmp_path / "m.onnx", loaded, providers=["cpu"]).outcome == "different"


# What is reported.


def test_verdict_as_json_and_as_text() -> None:
    verdict = on_cpu(unary("y = Sqrt(x)"), unary("y = Exp(x)"), [SiteProbe("", "root", "x", "y")])
    report = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert report["verdict"] == "different"
    assert report["providers"] == ["cpu"]
    assert {"reasons", "notes", "runs", "outputs", "sites", "tolerance"} <= set(report)
    assert report["outputs"][0]["run"]["inputs"] == "seed 0"
    text = "\n".join(verdict.summary())
    assert text.startswith("different: 4 runs on cpu")
    assert "site 'root'" in text


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    on_cpu(unary(RELU), unary(LEAKY), [SITE], progress=lambda _what, done: seen.append(done))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_check_changes_neither_model() -> None:
    before, after = unary(RELU), unary(LEAKY)
    contents = before.SerializeToString(), after.SerializeToString()
    on_cpu(before, after, [SITE])
    assert (before.SerializeToString(), after.SerializeToString()) == contents


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    on_cpu(unary(RELU), unary(NO_KERNEL))
    assert capfd.readouterr() == ("", "")


def test_drift_measures_a_swap() -> None:
    found = drift(unary(RELU), unary(LEAKY))
    assert not found.reasons
    assert found.outputs[0].max_abs > 0
    assert 0 < found.outputs[0].relative < 1
    assert drift(unary(RELU), unary("y = NoSuchOp(x)")).reasons
    still = drift(unary(RELU), unary(RELU)).outputs[0]
    assert (still.changed, still.relative) == (0.0, 0.0)
