"""Models checked on other runtimes: what a backend gives, refuses, or does not know."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

import onnxact
from onnxact.check.runners import BACKENDS, Backend, Interface, Refused, Run, find_backend
from onnxact.check.runners import known as rows
from onnxact.check.session import RunFailure
from onnxact.check.subject import Subject, open_subject
from onnxact.errors import MissingPackageError, ProviderError, UsageError
from tests.cli.runner import invoke, write

Arrays = Mapping[str, Any]


def model(op: str = "Softplus", shape: list[int | str] | None = None, **attributes: Any) -> ModelProto:
    """z = op(x + w)."""
    weights = numpy_helper.from_array(np.linspace(-1, 1, 4).astype(np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node(op, ["y"], ["z"], "act", **attributes)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or [2, 4]) for name in ("x", "z")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def backend(change: Any = None, fails: Exception | None = None) -> Backend:
    """onnx.reference under another name, whose outputs are changed, or which raises."""
    reference = find_backend("onnx-reference")

    def load(path: Path, interface: Interface) -> Run:
        if fails is not None:
            raise fails
        run = reference.load(path, interface)
        return lambda feeds: {name: (change or (lambda y: y))(y) for name, y in named(interface, run(feeds)).items()}

    return Backend("mine", "1.0", load)


def named(interface: Interface, found: Any) -> Arrays:
    return dict(zip(interface.outputs, found, strict=True))


def decomposed(before: ModelProto) -> ModelProto:
    found = onnxact.decompose(before, allow_inexact=True).model
    assert isinstance(found, ModelProto)
    return found


@pytest.mark.parametrize("op", ["Softplus", "LeakyRelu", "Elu", "HardSwish"])
def test_the_reference_evaluator_agrees(op: str) -> None:
    before = model(op)
    verdict = onnxact.check(before, decomposed(before), backend="onnx-reference")
    assert verdict.equivalent, verdict.summary()
    assert verdict.providers == ("onnx-reference",)
    assert verdict.runtime.startswith("onnx-reference ")
    assert {(run.provider, run.is_backend, str(run)) for run in verdict.runs} == {
        ("onnx-reference", True, f"seed {seed}, onnx-reference") for seed in (0, 1)
    }
    assert any("1 site cut out and run on onnx-reference" in note for note in verdict.notes)


def test_what_a_backend_computes_otherwise_is_different() -> None:
    before = model()
    verdict = onnxact.check(before, decomposed(before), backend=backend(lambda y: y * np.float32(1.001)))
    assert verdict.outcome == "different"
    assert any("output z (seed 0, mine)" in reason for reason in verdict.reasons)
    assert any("does not compute the model before, either" in note for note in verdict.notes)


def test_what_only_the_rewrite_gets_wrong_is_said() -> None:
    before, after = model(), model("Relu")
    verdict = onnxact.check(before, after, backend="onnx-reference")
    assert verdict.outcome == "different"
    assert any("computes the model before as ONNX Runtime does" in note for note in verdict.notes)


def test_a_site_that_is_wrong_where_no_input_goes_is_inconclusive() -> None:
    """As tract's Softplus is from 88.7 on."""
    before = model()
    verdict = onnxact.check(before, decomposed(before), backend=backend(lambda y: np.where(y > 88, np.inf, y)))
    assert verdict.outcome == "inconclusive"
    assert "on its own on mine 1.0, it differs: at x = " in verdict.reasons[0]
    assert [site.outcome for site in verdict.sites] == ["different"]
    assert all(output.outcome == "equivalent" for output in verdict.outputs)


def test_a_site_on_its_own_is_declared_in_full() -> None:
    """wonnx takes no value without a shape."""
    reference = find_backend("onnx-reference")

    def load(path: Path, interface: Interface) -> Run:
        graph = onnx.load(path).graph
        declared = {value.name for value in (*graph.value_info, *graph.output)}
        if not {name for node in graph.node for name in node.output} <= declared:
            raise Refused("a value has no shape")
        return reference.load(path, interface)

    before = shape_inference.infer_shapes(model())
    verdict = onnxact.check(before, decomposed(before), backend=Backend("strict", "1.0", load))
    assert any("1 site cut out and run on strict 1.0" in note for note in verdict.notes), verdict.summary()


def test_a_tolerance_of_the_caller_holds_for_sites_too() -> None:
    before = model()
    verdict = onnxact.check(before, decomposed(before), backend=backend(lambda y: y + np.float32(1e-3)), atol=2e-3)
    assert verdict.equivalent, verdict.summary()


@pytest.mark.parametrize("error", [Refused("no Softplus here"), NotImplementedError("no Softplus here")])
def test_a_refusal_is_different_and_says_why(error: Exception) -> None:
    verdict = onnxact.check(model(), decomposed(model()), backend=backend(fails=error))
    assert (verdict.outcome, verdict.exit_code) == ("different", 1)
    assert "mine 1.0 refuses the model after: it does not load: " in verdict.reasons[0]
    assert verdict.reasons[0].endswith("no Softplus here")
    assert verdict.outputs == ()


def test_a_panic_is_a_refusal_and_an_interrupt_is_not() -> None:
    class PanicException(BaseException):
        """What PyO3 raises for a panic of Rust."""

    panics = Backend("mine", "1.0", _raising(PanicException("unwrap on an Err value")))
    found = panics.open(Subject(model(), None, None))
    assert isinstance(found, RunFailure)
    assert found.message == "PanicException: unwrap on an Err value"
    with pytest.raises(KeyboardInterrupt):
        Backend("mine", "1.0", _raising(KeyboardInterrupt())).open(Subject(model(), None, None))


def _raising(error: BaseException) -> Any:
    def load(_path: Path, _interface: Interface) -> Run:
        raise error

    return load


def test_missing_and_wrong_outputs() -> None:
    nothing = Backend("mine", "1.0", lambda _path, _interface: lambda _feeds: {})
    verdict = onnxact.check(model(), decomposed(model()), backend=nothing)
    assert "it does not run: it gave no output 'z'" in verdict.reasons[0]
    verdict = onnxact.check(model(), decomposed(model()), backend=backend(lambda y: y.astype(np.float64)))
    assert (verdict.outcome, "float32 before, float64 after" in verdict.reasons[0]) == ("different", True)


def test_no_memory_for_the_results_is_an_error_not_a_pass() -> None:
    with pytest.raises(UsageError, match="memory budget of 10 bytes"):
        onnxact.check(model(), decomposed(model()), backend="onnx-reference", memory_budget=10)


def test_one_set_of_inputs_at_a_time_gives_the_same() -> None:
    before = model()
    few = onnxact.check(before, decomposed(before), backend="onnx-reference", memory_budget=2 * 4 * 4 * 3)
    assert few.equivalent
    assert len(few.runs) == 2


def test_external_weights_are_handed_over(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    opened = find_backend("onnx-reference").open(open_subject(tmp_path / "net.onnx"))
    assert not isinstance(opened, RunFailure)
    found = opened.run({"x": np.zeros((2, 4), np.float32)})
    assert not isinstance(found, RunFailure)
    np.testing.assert_allclose(found["z"][0, 0], np.log1p(np.exp(-1)), rtol=1e-6)


# Programs


PROGRAM = """#!{python}
import sys
import numpy as np
if sys.argv[1:] == ["--version"]:
    print("board 7")
    sys.exit(0)
from onnx.reference import ReferenceEvaluator
model, inputs, outputs = sys.argv[1:]
if b"HardSwish" in open(model, "rb").read():
    sys.exit("no HardSwish on this board")
evaluator = ReferenceEvaluator(model)
found = evaluator.run(None, dict(np.load(inputs)))
np.savez(outputs, **dict(zip(evaluator.output_names, found)))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "runner"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def test_a_program_is_a_backend(program: str) -> None:
    before = model("HardSwish")
    verdict = onnxact.check(before, decomposed(before), backend=program)
    assert verdict.equivalent, verdict.summary()
    assert verdict.providers == ("board",)
    assert verdict.runtime.startswith("board 7, onnxruntime ")
    refused = onnxact.check(before, before, backend=program)
    assert refused.reasons[0].endswith("it does not run: no HardSwish on this board (exit code 1)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no program at this path"),
        ("exit 3", "--version gave nothing on stderr"),
        ('[ "$1" = --version ] && echo mine || true', "it wrote no outputs that can be read"),
        ('[ "$1" = --version ] && echo mine || kill -9 $$', "killed by signal 9"),
    ],
)
def test_programs_that_do_not_do_it(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "runner"
    if text is not None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    try:
        verdict = onnxact.check(model(), decomposed(model()), backend=str(path))
    except ProviderError as error:
        assert words in str(error)
    else:
        assert verdict.outcome == "different"
        assert words in verdict.reasons[0]


# What is wrong


def test_an_unknown_backend_names_the_known_and_the_installed() -> None:
    with pytest.raises(UsageError) as raised:
        find_backend("trakt")
    words = str(raised.value)
    assert "unknown backend 'trakt', nearest tract; known: onnxruntime, onnx-reference, tract, opencv" in words
    assert "installed: onnxruntime, onnx-reference" in words
    assert "a program of your own is named by its path" in words


def test_a_missing_package_has_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = rows.Row("tract", "no-such-package", "tract")
    monkeypatch.setattr(rows, "BACKENDS", {"tract": missing})
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxact\[tract\]'"):
        find_backend("tract")


def test_a_runtime_that_does_not_start_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BACKENDS", {"tract": rows.Row("no_such_module", "onnx", "tract")})
    with pytest.raises(ProviderError, match="backend tract does not start: ModuleNotFoundError"):
        find_backend("tract")


def test_providers_and_backend_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="give providers or a backend, not both"):
        onnxact.check(model(), decomposed(model()), backend="onnx-reference", providers=["cpu"])


def test_onnxruntime_is_the_default() -> None:
    verdict = onnxact.check(model(), decomposed(model()), backend="onnxruntime")
    assert (verdict.providers, verdict.equivalent) == (("cpu",), True)


def test_every_backend_has_an_extra() -> None:
    stated = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, row in BACKENDS.items():
        assert not row.extra or f"\n{row.extra} = [" in stated, name
        assert row.extra or row.package == "onnx", name


# The command line


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.onnx", model())
    write(tmp_path / "b.onnx", decomposed(model()))
    write(tmp_path / "c.onnx", model("Relu"))
    found = invoke("check", "a.onnx", "b.onnx", "--backend", "onnx-reference", "--json")
    assert found.code == 0
    assert json.loads(found.out)["check"]["providers"] == ["onnx-reference"]
    assert invoke("check", "a.onnx", "c.onnx", "--backend", "onnx-reference").code == 1
    assert invoke("check", "a.onnx", "b.onnx", "--backend", "nothing").code == 2
    assert invoke("check", "a.onnx", "b.onnx", "--backend", "./nothing").code == 3
    both = invoke("decompose", "a.onnx", "--allow-inexact", "-o", "d.onnx", "--backend", program)
    assert both.code == 0, both.err
    assert "2 runs on board, board 7, onnxruntime" in both.out


def test_an_export_is_not_checked_on_a_backend(tmp_path: Path) -> None:
    output = str(tmp_path / "x.onnx")
    found = invoke("export", "torch.nn:ReLU", "--input", "1,4", "-o", output, "--backend", "onnx-reference")
    assert (found.code, "run onnxact check on the file that it writes" in found.err) == (2, True), found.err
