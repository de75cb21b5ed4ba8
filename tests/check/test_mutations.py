"""Wrong rewrites of real models: none is called equivalent, and each reason names the site. Right ones all are."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import onnxact
from onnxact.check import Verdict, check
from onnxact.check.rewritten import needs_exact, probes
from onnxact.rewrite.site import Site
from tests.check import mutations
from tests.check.models import net

FOLDER = os.environ.get("ONNXACT_CORPUS")
MODELS = Path(__file__).parents[2] / "models"
CORPUS = (
    "Hsintao+pfld_106_face_landmarks/output/lite.onnx",
    "NeuralNetworkVerification+Marabou/resources/onnx/cifar10/cifar_base_kw_simp.onnx",
    "NeuralNetworkVerification+Marabou/resources/onnx/conv_mp1_intermediateOutput.onnx",
    "NeuralNetworkVerification+Marabou/resources/onnx/multiInput_add.onnx",
    "alrevuelta+cONNXr/test/mnist_quantized/model_quantized.onnx",
    "dscripka+openWakeWord/wakeword_models/hey_zelda/hey_Zelda_med_multi_phrase@8aa28d3.onnx",
    "espressif+esp-dl/tutorial/tvm_example/model@f4838e5.onnx",
    "espressif+esp-dl/examples/tutorial/how_to_deploy_streaming_model/test_streaming_model/main/models/esp32s3/streaming_model.onnx",
    "scailable+sclblonnx/examples/onnx/cifar10-resnet20-augmented.onnx",
    "scailable+sclblonnx/examples/onnx/tf-keras-dynamic.onnx",
    "tracel-ai+burn-onnx/crates/onnx-ir/tests/fixtures/deep_chain.onnx",
    "webonnx+wonnx/data/models/opt-mnist.onnx",
    "yalue+onnxruntime_go_examples/mnist_float16/mnist_float16.onnx",
)
"""Small models of the corpus that run and have several Relu in the main graph."""


class Subject(NamedTuple):
    """A model with LeakyRelu at several places, in the op and in two exact forms, and the sites."""

    op: ModelProto
    mul_max: ModelProto
    relu_neg: ModelProto
    prelu: ModelProto
    sites: tuple[Site, ...]


def paths() -> list[Path]:
    return [MODELS / "digits_relu.onnx", *(Path(FOLDER or "") / name for name in CORPUS if FOLDER)]


@cache
def subject(path: Path) -> Subject:
    swapped = onnxact.swap_relu(onnx.load(path), alpha=0.2)
    op = swapped.model
    mul_max, relu_neg = (onnxact.decompose(op, form=form, provenance=False).model for form in ("mul-max", "relu-neg"))
    prelu = onnxact.swap_relu(onnx.load(path), to="prelu", alpha=0.2, per_channel=True).model
    sites = tuple(change.site for change in swapped.sites if not change.site.scope.path)
    return Subject(op, mul_max, relu_neg, prelu, sites)


class Wrong(NamedTuple):
    """A way to spoil a rewrite: what it is compared with, what is spoilt, how, and whether a site is at fault."""

    name: str
    before: Callable[[Subject], ModelProto]
    after: Callable[[Subject], ModelProto]
    spoil: mutations.Spoil
    names_site: bool = True


WRONG = (
    Wrong("alpha", lambda s: s.op, lambda s: s.op, mutations.another_alpha),
    Wrong("forgotten", lambda s: s.op, lambda s: s.op, mutations.forgotten),
    Wrong("constant", lambda s: s.op, lambda s: s.mul_max, mutations.another_constant),
    Wrong("min", lambda s: s.op, lambda s: s.mul_max, mutations.other_op("Max", "Min")),
    Wrong("neg", lambda s: s.op, lambda s: s.relu_neg, mutations.other_op("Neg", "Identity")),
    Wrong("order", lambda s: s.op, lambda s: s.relu_neg, mutations.swapped_operands),
    Wrong("channel", lambda s: s.prelu, lambda s: s.prelu, mutations.one_channel),
    Wrong("removed", lambda s: s.op, lambda s: s.op, mutations.removed),
    Wrong("weight", lambda s: s.op, lambda s: s.mul_max, mutations.one_weight, names_site=False),
    *(
        Wrong(f"weight-{seed}", lambda s: s.op, lambda s: s.mul_max, mutations.some_weight(seed), names_site=False)
        for seed in range(3)
    ),
    Wrong("branch", lambda s: s.op, lambda s: s.op, mutations.behind_a_branch(), names_site=False),
    Wrong("negated", lambda s: s.op, lambda s: s.op, mutations.behind_a_branch("Neg", limit=1e3), names_site=False),
    Wrong("loop", lambda s: s.op, lambda s: s.op, mutations.behind_a_branch(turns=2), names_site=False),
    Wrong("mask", lambda s: s.op, lambda s: s.op, mutations.masked(), names_site=False),
    Wrong("mask-high", lambda s: s.op, lambda s: s.op, mutations.masked(1e5), names_site=False),
    Wrong("dropped", lambda s: s.op, lambda s: s.mul_max, mutations.dropped_output, names_site=False),
    Wrong("swapped", lambda s: s.op, lambda s: s.mul_max, mutations.swapped_outputs, names_site=False),
)


def judged(before: ModelProto, after: ModelProto) -> Verdict:
    return check(before, after, providers=["cpu"], diagnose=False)


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_right_rewrites_are_equivalent(path: Path) -> None:
    model = subject(path)
    for after in (model.mul_max, model.relu_neg):
        verdict = judged(model.op, after)
        assert verdict.equivalent, verdict.summary()
        named = {item.site.output for item in verdict.sites if item.site.after and item.site.after.form != "op"}
        assert {site.output for site in model.sites} <= named
        assert all(item.after is None or not item.after.is_outside for item in verdict.sites)


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_wrong_rewrites_are_not_equivalent(wrong: Wrong, path: Path) -> None:
    model = subject(path)
    site = model.sites[len(wrong.name) % len(model.sites)]
    after = wrong.spoil(wrong.after(model), site)
    if after is None:
        pytest.skip("the model has nothing of that kind")
    verdict = judged(wrong.before(model), after)
    assert not verdict.equivalent, verdict.summary()
    if wrong.names_site:
        at_fault = [item.site for item in verdict.sites if item.differs]
        assert [probe.output for probe in at_fault] == [site.output]
        assert any(str(at_fault[0]) in reason for reason in verdict.reasons)


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_the_larger_of_x_and_alpha_x_where_alpha_is_above_one(path: Path) -> None:
    """Every site is wrong, and every one is named."""
    before = onnxact.swap_relu(onnx.load(path), alpha=1.5).proto
    right = onnxact.decompose(before, form="mul-min", provenance=False)
    after = right.proto
    for site in (change.site for change in right.sites):
        mutated = mutations.other_op("Min", "Max")(after, site)
        after = after if mutated is None else mutated
    verdict = judged(before, after)
    assert verdict.outcome != "equivalent"
    assert {item.site.output for item in verdict.sites if item.differs} == {c.site.output for c in right.sites}


def test_the_form_that_loses_digits_in_a_model_of_16_bits() -> None:
    """0.505 x + 0.495 |x| is passed as a form that keeps every bit."""
    found = [path for path in paths() if "float16" in path.name]
    if not found:
        pytest.skip("ONNXACT_CORPUS names no folder with a model of 16 bits")
    before = onnxact.swap_relu(onnx.load(found[0]), alpha=0.01).proto
    claimed = onnxact.decompose(before, form="mul-max")
    lossy = onnxact.decompose(before, form="mul-abs-add").proto
    assert claimed.sites
    verdict = check(before, lossy, sites=probes(claimed.sites), exact=True, providers=["cpu"], diagnose=False)
    assert verdict.outcome == "different"


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_the_same_claims_for_a_wrong_model(path: Path) -> None:
    """A model that is not what a rewrite made, checked as if it were."""
    model = subject(path)
    right = onnxact.decompose(model.op, form="mul-max")
    site = model.sites[-1]
    after = mutations.other_op("Max", "Min")(right.proto, site)
    assert after is not None
    exact = needs_exact(right.sites)
    verdict = check(model.op, after, sites=probes(right.sites), exact=exact, providers=["cpu"], diagnose=False)
    assert not verdict.equivalent
    assert [item.site.output for item in verdict.sites if item.differs] == [site.output]


def test_max_where_the_slope_is_above_one() -> None:
    before = net("float[N, 32] x", "float[N, 32] y", "n = Neg(x) [it] y = LeakyRelu<alpha = 1.5>(n)")
    after = net("float[N, 32] x", "float[N, 32] y", "n = Neg(x) m = Mul(n, a) [it] y = Max(n, m)", "float[1] a = {1.5}")
    verdict = judged(before, after)
    assert verdict.outcome == "different"
    assert any("site 'it'" in reason for reason in verdict.reasons)


def test_a_site_in_a_branch_that_no_input_takes() -> None:
    """Neither the wrong site nor that nothing took the branch is hidden by outputs that agree."""
    other = "else_branch = e () => (float[8] b) {{ b = Neg(x) }}"
    body = f"y = If (c) <then_branch = t () => (float[8] a) {{{{ [it] a = {{}} }}}}, {other}>"
    never = {"c": np.array(False)}
    models = {
        text: net("float[8] x, bool c", "float[8] y", body.format(text))
        for text in ("LeakyRelu<alpha = 0.2>(x)", "LeakyRelu<alpha = 0.201>(x)", "Abs(x)")
    }
    before, *wrong = models.values()
    for after in wrong:
        verdict = check(before, after, providers=["cpu"], inputs=never, diagnose=False)
        assert verdict.outcome == "inconclusive"
        assert "site 'it'" in verdict.reasons[0]
    right = onnxact.decompose(before).check(providers=["cpu"], inputs=never)
    assert right.equivalent
    assert "everything around it is the same" in right.sites[0].reason


def test_the_form_that_loses_digits_passed_as_exact() -> None:
    """0.505 x + 0.495 |x| in float16: 7 % off where x is negative."""
    before = net("float16[N, 32] x", "float16[N, 32] y", "[it] y = LeakyRelu<alpha = 0.01>(x)")
    claimed = onnxact.decompose(before, form="mul-max")
    lossy = onnxact.decompose(before, form="mul-abs-add")
    for sites in ((), probes(claimed.sites)):
        verdict = check(before, lossy.proto, sites=sites, exact=True, providers=["cpu"], diagnose=False)
        assert verdict.outcome == "different"
        assert any("site 'it'" in reason for reason in verdict.reasons)
    assert lossy.check(providers=["cpu"]).equivalent


def test_every_constant_of_a_model_is_looked_at() -> None:
    """The sign of a weight that only ever meets zeros."""
    weights = "float[2, 2] w = {{1, 2, 3, {}}}, float[1, 2] mask = {{1, 0}}"
    models = [
        net("float[N, 2] x", "float[N, 2] y", "m = Mul(x, mask) r = Relu(m) y = MatMul(r, w)", weights.format(last))
        for last in (4, -4)
    ]
    verdict = judged(*models)
    assert verdict.outcome == "inconclusive"
    assert "constant 'w' is not the same in both models" in verdict.reasons[0]


def test_a_slope_that_is_a_tensor_in_one_model_and_a_number_in_the_other() -> None:
    before = net("float[1, 2, 8] x", "float[1, 2, 8] y", "y = LeakyRelu<alpha = 0.25>(x)")
    after = net("float[1, 2, 8] x", "float[1, 2, 8] y", "y = PRelu(x, s)")
    for slopes, outcome in (([0.25, 0.25], "equivalent"), ([0.25, 0.251], "different")):
        model = mutations.copied(after)
        model.graph.initializer.append(numpy_helper.from_array(np.array(slopes, np.float32).reshape(2, 1), "s"))
        assert model.graph.initializer[0].data_type == TensorProto.FLOAT
        assert judged(before, model).outcome == outcome
