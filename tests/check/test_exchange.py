"""Constants that are not the same have to be shown to matter, whatever else differs within its tolerance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnxact
from onnxact.check import Verdict, check
from tests.check.models import net

BODY = "m = Mul(x, mask) [it] r = LeakyRelu<alpha = 0.3>(m) y = MatMul(r, w)"
NODE = "w = Constant<value = float[2, 2] {{1, 2, 3, {}}}>() "
REASON = "constant 'w' is not the same in both models, and no output shows what it does"


def masked(last: float, body: str = BODY, *, as_node: bool = False) -> ModelProto:
    """The last two elements of `w` meet a column that is zero."""
    stored = "float[1, 2] mask = {1, 0}" + ("" if as_node else f", float[2, 2] w = {{1, 2, 3, {last}}}")
    return net("float[N, 2] x", "float[N, 2] y", (NODE.format(last) if as_node else "") + body, stored)


def on_cpu(before: ModelProto | Path, after: ModelProto | Path) -> Verdict:
    return check(before, after, providers=["cpu"])


@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("form", ["", "relu-neg", "mul-abs-add"])
def test_what_no_output_depends_on_is_not_known(form: str, as_node: bool) -> None:
    before, after = masked(4, as_node=as_node), masked(-4, as_node=as_node)
    verdict = on_cpu(before, onnxact.decompose(after, form=form).model if form else after)
    assert verdict.outcome == "inconclusive"
    assert REASON in verdict.reasons


def test_a_change_elsewhere_does_not_hide_a_constant() -> None:
    verdict = on_cpu(masked(4), masked(-4, BODY.replace("y =", "z =") + " y = Identity(z)"))
    assert (verdict.outcome, REASON in verdict.reasons) == ("inconclusive", True)


def test_a_constant_that_outputs_show_within_their_tolerance_is_compared() -> None:
    for body in (BODY, BODY.replace("y =", "z =") + " y = Identity(z)"):
        visible = masked(4, body)
        weights = onnx.numpy_helper.to_array(visible.graph.initializer[1]).copy()
        weights[0] = np.nextafter(weights[0], np.float32(9))
        visible.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
        verdict = on_cpu(masked(4), visible)
        assert verdict.equivalent, verdict.summary()
        assert any(output.differing for output in verdict.outputs)


def test_a_file_with_external_weights(tmp_path: Path) -> None:
    paths = []
    for number, last in enumerate((4, -4)):
        paths.append(tmp_path / f"m{number}.onnx")
        onnx.save(masked(last), paths[-1], save_as_external_data=True, location=f"w{number}", size_threshold=0)
    assert REASON in on_cpu(*paths).reasons


def test_a_constant_in_a_body_cannot_be_exchanged() -> None:
    branch = "{0} = b () => (float[N, 2] {1}) <float[2, 2] w = {{1, 2, 3, {2}}}> {{ {1} = MatMul(r, w) }}"
    text = "c = Equal(mask, mask) d = Slice(c, i, j, j) e = Squeeze(d) r = Mul(x, mask) y = If(e) <{}, {}>"
    stored = "float[1, 2] mask = {1, 0}, int64[1] i = {0}, int64[1] j = {1}"
    before, after = (
        net(
            "float[N, 2] x",
            "float[N, 2] y",
            text.format(branch.format("then_branch", "t", last), branch.format("else_branch", "u", 5)),
            stored,
        )
        for last in (4, -4)
    )
    assert on_cpu(before, after).outcome == "inconclusive"
