"""surroundings: two models outside their sites, from the outputs back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnxact.check import SiteProbe
from onnxact.check.scopes import matching_paths
from onnxact.check.subject import open_subject
from onnxact.check.surroundings import Surroundings, surroundings
from onnxact.model.view import View
from tests.check.models import net

SITE = SiteProbe("", "", "n", "r")
WEIGHTS = "float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}"


def vector(body: str, weights: str = WEIGHTS, **options: str) -> ModelProto:
    return net("float[8] x", "float[8] y", body, weights, **options)  # type: ignore[arg-type]


def compared(
    before: ModelProto, after: ModelProto, sites: Sequence[SiteProbe] = (SITE,), folder: Path | None = None
) -> Surroundings:
    views = View(before), View(after)
    subjects = open_subject(before, folder=folder), open_subject(after, folder=folder)
    return surroundings(*subjects, views, sites, matching_paths(*views))


def test_the_same_but_for_the_site() -> None:
    before = vector("n = Mul(x, w) r = LeakyRelu<alpha = 0.5>(n) y = Neg(r)")
    after = vector("n = Mul(x, w) m = Mul(n, a) r = Max(n, m) y = Neg(r)", f"{WEIGHTS}, float[1] a = {{0.5}}")
    assert compared(before, after) == Surroundings()
    assert "'r'" in compared(before, after, []).structure


def test_names_order_and_what_nothing_reads_do_not_count() -> None:
    before = vector("[one] n = Mul(x, w) r = Relu(n) [two] y = Neg(r)")
    after = vector("d = Exp(x) r = Relu(n) y = Neg(r) [other] n = Mul(x, w)")
    assert compared(before, after) == Surroundings()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("n = Add(x, w) r = Relu(n) y = Neg(r)", "the node that makes 'n' is not the same (Mul)"),
        ("n = Mul(w, x) r = Relu(n) y = Neg(r)", "is a constant in one model only"),
        ("n = Mul(x, w) r = Relu(n) y = Exp(r)", "the node that makes 'y'"),
        ("n = Mul(x, w) r = Relu(n) z = Neg(r) y = Identity(z)", "the node that makes 'y'"),
        ("n = Mul(x, w) r = Relu(n) y = Neg(n)", "the node that makes 'r'"),
    ],
)
def test_other_structures(body: str, says: str) -> None:
    assert says in compared(vector("n = Mul(x, w) r = Relu(n) y = Neg(r)"), vector(body)).structure


def test_names_of_values_do_not_count() -> None:
    before = vector("n = Mul(x, w) r = LeakyRelu<alpha = 0.5>(n) s = Neg(r) y = Add(s, n)")
    after = vector("q = Mul(x, v) t = Mul(q, a) n = Max(q, t) r = Neg(n) y = Add(r, q)", WEIGHTS.replace("w", "v"))
    after.graph.initializer.append(numpy_helper.from_array(np.full(1, 0.5, np.float32), "a"))
    renamed = SiteProbe("", "", "n", "r", after_input="q", after_output="n")
    assert compared(before, after, [renamed]) == Surroundings()
    after.graph.node[-1].input[1] = "r"
    assert "the node that makes 'n'" in compared(before, after, [renamed]).structure


def test_attributes_and_operator_sets() -> None:
    before, after = (vector(f"n = Elu<alpha = {alpha}>(x) r = Relu(n) y = Neg(r)") for alpha in (1.0, 0.5))
    assert "'n'" in compared(before, after).structure
    other = vector("n = Elu<alpha = 1.0>(x) r = Relu(n) y = Neg(r)")
    other.opset_import[0].version = 17
    assert "operator sets" in compared(before, other).structure


def test_constants_are_compared_by_content() -> None:
    body = "n = Mul(x, w) r = Relu(n) y = Neg(r)"
    before, after = vector(body), vector(body, "float[8] w = {1, 2, 3, 4, 5, 6, 7, -8}")
    assert compared(before, after) == Surroundings("", (("w", "w"),))
    assert compared(before, after).difference == "the constant 'w' is another one"
    as_node = vector("w = Constant<value = float[8] {1, 2, 3, 4, 5, 6, 7, 8}>() " + body, "")
    assert compared(before, as_node) == Surroundings()
    raw = vector(body)
    raw.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.arange(1, 9, dtype=np.float32), "w"))
    assert compared(before, raw) == Surroundings()


def test_bodies_are_compared_inside() -> None:
    rest = "else_branch = e () => (float[8] b) {{ b = Neg(x) }}"
    body = f"y = If (c) <then_branch = t () => (float[8] a) {{{{ n = {{}}(x) a = Relu(n) }}}}, {rest}>"
    models = [net("float[8] x, bool c", "float[8] y", body.format(op)) for op in ("Neg", "Neg", "Exp")]
    before, same, other = models
    scope = next(iter(View(before).scopes[1:])).path
    sites = [SiteProbe(scope, "", "n", "a")]
    assert compared(before, same, sites) == Surroundings()
    assert "the node that makes 'n'" in compared(before, other, sites).structure


def test_functions_are_compared_inside() -> None:
    function = '<opset_import: ["" : 18], domain: "local"> f (u) => (v) {{ n = {}(u) v = Relu(n) }}'
    before, same, other = (vector("y = local.f(x)", "", functions=function.format(op)) for op in ("Neg", "Neg", "Exp"))
    sites = [SiteProbe("local:f", "", "n", "v")]
    assert compared(before, same, sites) == Surroundings()
    assert "the node that makes 'n'" in compared(before, other, sites).structure


def test_external_weights_are_read_only_where_they_lie_elsewhere(tmp_path: Path) -> None:
    model = vector("n = Mul(x, w) r = Relu(n) y = Neg(r)")
    folders = []
    for name, last in (("a", 8), ("b", 8), ("c", 9)):
        (tmp_path / name).mkdir()
        copied = ModelProto()
        copied.CopyFrom(model)
        values = np.array([1, 2, 3, 4, 5, 6, 7, last], np.float32)
        copied.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
        onnx.save(copied, tmp_path / name / "m.onnx", save_as_external_data=True, size_threshold=8, location="m.bin")
        folders.append(tmp_path / name / "m.onnx")
    subjects = [open_subject(path) for path in folders]
    views = [View(subject.model) for subject in subjects]
    for other, constants in ((1, ()), (2, (("w", "w"),))):
        paths = matching_paths(views[0], views[other])
        found = surroundings(subjects[0], subjects[other], (views[0], views[other]), [SITE], paths)
        assert found == Surroundings("", constants)
