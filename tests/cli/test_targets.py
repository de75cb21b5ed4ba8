"""`targets`, `inspect --target`, `decompose --target`: what is shown, what is written, what it exits with."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.cli.runner import contents, invoke, write
from tests.rewrite.texts import net


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def save(name: str, body: str, opset: int = 18) -> None:
    onnx.save(net(body, opset=opset), name)


MIXED = "[relu] h = Relu (x)\n  [swish] k = HardSwish (h)\n  [odd] y = ThresholdedRelu (k)"


def test_all_targets_are_listed() -> None:
    outcome = invoke("targets")
    assert outcome.code == 0
    assert all(name in outcome.out for name in ("tract", "ti-tidl", "vitis-ai-dpu", "onnx-mlir-nnpa-z16"))
    report = json.loads(invoke("targets", "--json").out)
    assert len(report["targets"]) == 32
    assert report["targets"]["tract"]["wrong"]["Swish"] == [{"where": "alpha != 1", "why": "alpha is not read"}]


def test_one_target_is_shown_with_what_becomes_of_every_activation() -> None:
    outcome = invoke("targets", "opencv_dnn")
    assert outcome.code == 0
    for words in ("it gives NaN", "Wrong there", "5.0.0.93", "sigmoid", "gelu-tanh"):
        assert words in outcome.out
    report = json.loads(invoke("targets", "ti-tidl", "--json").out)
    assert report["targets"]["ti-tidl"]["activations"]["gelu"]["form"] == "erf-half"
    assert report["targets"]["ti-tidl"]["ops"]["Clip"][0]["only"] == (
        "up to 6 dimensions that are not 1; min <= 0 and max > 0"
    )


def test_an_installed_target_is_shown_by_the_ops_of_forms() -> None:
    short = invoke("targets", "ort:cpu").out.splitlines()
    rows = [line.split()[0] for line in short if " version " in line]
    assert len(rows) == len(set(rows)) < 60
    assert "PRelu" in rows
    assert any("other ops, which no form has; -v lists them" in line for line in short)
    assert len(invoke("targets", "ort:cpu", "-v").out.splitlines()) > 1000


def test_a_form_that_comes_near_says_how_to_pass_only_where_it_does_not() -> None:
    save("net.onnx", "[act] y = Gelu (x)", opset=20)
    arguments = ("decompose", "net.onnx", "--target", "wonnx", "--allow-inexact")
    passed = invoke(*arguments)
    assert passed.code == 0
    assert "another function, up to 2.2e-07 off" in passed.out
    assert "--atol" not in passed.out
    failed = invoke(*arguments, "--force", "--rtol", "1e-9", "--atol", "1e-12")
    assert failed.code == 1
    assert "--atol says how far outputs may move" in failed.out


def test_inspect_says_what_runs_and_what_would_be_written() -> None:
    save("net.onnx", MIXED)
    outcome = invoke("inspect", "net.onnx", "--target", "wonnx")
    assert outcome.code == 0
    assert "3 activations for wonnx" in outcome.out
    rows = [line.split() for line in outcome.out.splitlines()]
    assert any(row[1:5] == ["relu", "op", "native"] for row in rows if len(row) == 4)
    assert any("relu-sign" in row for row in rows)
    report = json.loads(invoke("inspect", "net.onnx", "--target", "wonnx", "--json").out)
    assert [site["target"]["status"] for site in report["sites"]] == ["native", "missing", "missing"]
    assert report["target"] == "wonnx"


def test_decompose_writes_the_model_for_the_target(folder: Path) -> None:
    save("net.onnx", MIXED)
    outcome = invoke("decompose", "net.onnx", "--target", "wonnx")
    assert outcome.code == 0, outcome.out + outcome.err
    assert "wrote net.wonnx.onnx" in outcome.out
    assert {node.op_type for node in onnx.load("net.wonnx.onnx").graph.node} <= {
        "Relu", "Mul", "Add", "Clip", "Div", "Sign", "Sub",
    }  # fmt: skip
    assert invoke("fuse", "net.wonnx.onnx", "-o", "back.onnx").code == 0
    assert (folder / "back.onnx").read_bytes() == (folder / "net.onnx").read_bytes()


def test_what_has_no_form_is_left_and_nothing_is_written_without_partial(folder: Path) -> None:
    save("net.onnx", MIXED)
    before = contents(folder)
    outcome = invoke("decompose", "net.onnx", "--target", "ort-nnapi")
    assert outcome.code == 4
    assert "nothing written: no form for 1 site that ort-nnapi lacks; --partial writes the others" in outcome.out
    assert "relu-sign: no Sign" in outcome.out
    assert contents(folder) == before
    quiet = invoke("decompose", "net.onnx", "--target", "ort-nnapi", "--quiet")
    assert (quiet.code, quiet.out) == (4, "")
    assert "--partial" in quiet.err
    report = json.loads(invoke("decompose", "net.onnx", "--target", "ort-nnapi", "--json").out)
    assert [skip["node"] for skip in report["left"]] == ["odd"]
    assert report["output"] is None
    assert contents(folder) == before
    partly = invoke("decompose", "net.onnx", "--target", "ort-nnapi", "--partial")
    assert partly.code == 0, partly.out
    assert "wrote net.ort-nnapi.onnx" in partly.out


def test_a_model_that_runs_as_it_stands() -> None:
    save("net.onnx", "[relu] y = Relu (x)")
    outcome = invoke("decompose", "net.onnx", "--target", "tract")
    assert outcome.code == 4
    assert "every activation runs as it stands on tract: nothing to rewrite" in outcome.out
    assert invoke("decompose", "net.onnx", "--target", "tract", "--allow-none").code == 0


def test_an_optimised_model_becomes_standard() -> None:
    model = net("[f] y = com.microsoft.QuickGelu (x)", opset=17)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, "net.onnx")
    outcome = invoke("decompose", "net.onnx", "--target", "onnx")
    assert outcome.code == 0, outcome.out
    assert [node.op_type for node in onnx.load("net.standard.onnx").graph.node] == ["Mul", "Sigmoid", "Mul"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("decompose", "net.onnx", "--target", "trakt"), 2, "did you mean 'tract'?"),
        (("inspect", "net.onnx", "--target", "trakt"), 2, "did you mean 'tract'?"),
        (("targets", "trakt"), 2, "did you mean 'tract'?"),
        (("decompose", "net.onnx", "--target", "no.toml"), 5, "No such file"),
        (("decompose", "net.onnx", "--target", "bad.toml"), 5, "line 2, key 'opz'"),
        (("decompose", "net.onnx", "--target", "old.toml"), 5, "opset 18, and old reads up to 15"),
        (("decompose", "net.onnx", "--target", "ort:qnn"), 3, "pip install onnxruntime-qnn"),
        (("decompose", "net.onnx", "--target", "tract", "--ops", "Mul"), 2, "not more than one"),
        (("decompose", "net.onnx", "--partial"), 2, "partial is for a target"),
        (
            ("decompose", "net.onnx", "--target", "tract", "--target", "onnx"),
            2,
            "give one --target, not 2: tract, onnx",
        ),
        (("inspect", "net.onnx", "--target", "tract", "--target", "tract"), 2, "give one --target, not 2"),
    ],
)
def test_bad_input(folder: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    write(folder / "other.onnx")
    save("net.onnx", MIXED)
    head = 'title = "t"\nversion = "1"\nsource = "s"\ndate = "d"\nops = ["Relu"]\n'
    (folder / "bad.toml").write_text('title = "t"\nopz = []\n')
    (folder / "old.toml").write_text(head + 'opset = "-15"\n')
    before = contents(folder)
    outcome = invoke(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert contents(folder) == before


def test_a_warning_is_shown() -> None:
    save("net.onnx", "[act] y = LeakyRelu (x)")
    outcome = invoke("decompose", "net.onnx", "--target", "vitis-ai-dpu", "--allow-inexact")
    assert outcome.code == 0, outcome.out
    assert "warning: Add: whether the DPU compiler places it was not established" in outcome.out


def test_what_is_wrong_and_has_no_form_is_left(folder: Path) -> None:
    save("net.onnx", "[swish] h = Swish <alpha: float = 1.5> (x)\n  [odd] y = Celu <alpha: float = -2.0> (h)", opset=24)
    before = contents(folder)
    outcome = invoke("decompose", "net.onnx", "--target", "tract")
    assert outcome.code == 4
    assert "odd: tract: Celu is wrong where alpha != 1" in outcome.out
    assert "the form holds only when alpha > 0" in outcome.out
    assert "no form for 1 site" in outcome.out
    assert contents(folder) == before
    shown = invoke("inspect", "net.onnx", "--target", "tract")
    assert "2 activations for tract: 2 wrong" in shown.out
    assert "Not counted" not in shown.out
    assert invoke("decompose", "net.onnx", "--target", "tract", "--partial").code == 0


def test_an_op_with_computed_bounds_that_the_target_lacks_is_left() -> None:
    save("net.onnx", "[act] h = HardSwish (x)\n  l = ReduceMin <keepdims: int = 0> (h)\n  [odd] y = Clip (h, l)")
    for target in ("hls4ml", "onnx-mlir-nnpa-z16"):
        report = json.loads(invoke("decompose", "net.onnx", "--target", target, "--json").out)
        assert [skip["node"] for skip in report["left"]] == ["odd"], target
        assert report["output"] is None
    assert invoke("decompose", "net.onnx", "--target", "tract").code == 4


def test_what_was_not_selected_is_not_said_to_run() -> None:
    save("net.onnx", MIXED)
    outcome = invoke("decompose", "net.onnx", "--target", "wonnx", "--include", "conv")
    assert outcome.code == 4
    assert "no activation was selected" in outcome.out
    assert "not selected: 2 activations that wonnx is not known to run" in outcome.out
    some = invoke("decompose", "net.onnx", "--target", "wonnx", "--activation", "relu")
    assert "every selected activation runs as it stands" in some.out
    assert "not selected: 2 activations" in some.out
    written = invoke("decompose", "net.onnx", "--target", "wonnx", "--activation", "hard-swish")
    assert "wrote net.wonnx.onnx; not selected: 1 activation that" in written.out
    save("none.onnx", "[neg] y = Neg (x)")
    assert "no activation was looked at" in invoke("decompose", "none.onnx", "--target", "wonnx").out


CONSTANTS = (
    "lo = Constant <value: tensor = float {0}> ()\n  hi = Constant <value: tensor = float {6}> ()\n"
    "  [act] h = Clip (x, lo, hi)"
)


def test_constant_nodes_become_initializers_where_the_target_takes_none(folder: Path) -> None:
    save("net.onnx", CONSTANTS + "\n  y = Relu (h)")
    assert "not like this" in invoke("inspect", "net.onnx", "--target", "ort-web-webgpu").out
    outcome = invoke("decompose", "net.onnx", "--target", "ort-web-webgpu")
    assert outcome.code == 0, outcome.out
    written = onnx.load("net.ort-web-webgpu.onnx")
    assert [node.op_type for node in written.graph.node] == ["Clip", "Relu"]
    assert len(written.graph.initializer) == 2
    assert "every activation runs" in invoke("decompose", "net.ort-web-webgpu.onnx", "--target", "ort-web-webgpu").out
    assert invoke("fuse", "net.ort-web-webgpu.onnx", "-o", "back.onnx").code == 0
    assert (folder / "back.onnx").read_bytes() == (folder / "net.onnx").read_bytes()


def test_constant_nodes_that_stay_are_remarked_on() -> None:
    save("net.onnx", CONSTANTS + "\n  y = Mul (h, hi)")
    outcome = invoke("decompose", "net.onnx", "--target", "ort-web-webgpu")
    assert outcome.code == 0, outcome.out
    assert "the model keeps 1 Constant node, and ort-web-webgpu takes none" in outcome.out
