"""One command from module to deployable file: swapped and decomposed at export, each step checked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

import onnxact
from tests.cli.runner import contents, invoke
from tests.export.conftest import CPU, Shared
from tests.export.nets import Linear, net

EXPORT = ("export", "nets.py:Linear", "-o", "out.onnx", "--input", "x:2,4", "--providers", "cpu")


def test_swap_and_decompose_in_one_command(here: Path) -> None:
    steps = ("--swap", "relu=leaky-relu:alpha=0.2", "--decompose", "mul-max", "--include", "^layer1[.]")
    done = invoke("export", "nets.py:net", "-o", "out.onnx", "--providers", "cpu", *steps)
    assert done.code == 0, done.err
    assert "  opset 20; evaluation mode, although the module came in training mode" in done.out
    assert done.out.count("equivalent: 4 runs on cpu") == 3
    assert "How far the swap moves the outputs" in done.out
    assert done.out.splitlines()[-1] == "wrote out.onnx"
    ops = Counter(node.op_type for node in onnx.load("out.onnx").graph.node)
    assert (ops["Relu"], ops["LeakyRelu"], ops["Max"], ops["Mul"]) == (3, 2, 4, 4)
    fused = onnxact.fuse(onnx.load("out.onnx"))
    assert Counter(node.op_type for node in fused.model.graph.node)["LeakyRelu"] == 6


def test_the_same_as_the_verbs_one_after_the_other(shared: Shared, tmp_path: Path) -> None:
    found = onnxact.export(
        net(),
        None,
        tmp_path / "out.onnx",
        dynamic=["image:0=batch"],
        swap=["relu=prelu:slope=0.3:per-channel"],
        decompose="mul-max",
        check=False,
    )
    assert not found.verdicts
    model = onnx.load(shared.path)
    swapped = onnxact.swap(model, "relu", "prelu", parameters={"slope": 0.3}, per_channel=True)
    decomposed = onnxact.decompose(swapped.model, form="mul-max")
    assert onnx.load(found.files[0]) == decomposed.model
    assert [step.result.verb for step in found.steps] == ["swap", "decompose"]
    assert found.proto == decomposed.model


def test_the_report_of_each_step(here: Path) -> None:
    done = invoke(*EXPORT, "--swap", "relu=elu", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["verb"] == "export"
    assert report["mode"].startswith("evaluation mode")
    assert [site["node"] for site in report["sites"]] == ["Relu"]
    (step,) = report["steps"]
    assert (step["verb"], step["what"]) == ("swap", "swap relu=elu")
    assert step["check"]["verdict"] == report["check"]["verdict"] == "equivalent"
    assert step["sites"][0]["after"]["activation"] == "elu"
    assert step["drift"][0]["max_abs"] > 0


def test_a_step_that_finds_nothing(here: Path) -> None:
    before = contents(here)
    done = invoke(*EXPORT, "--swap", "gelu=relu")
    assert done.code == 4
    assert "nothing written: swap gelu=relu found nothing to rewrite" in done.out
    assert {name: content for name, content in contents(here).items() if "__pycache__" not in name} == before
    assert invoke(*EXPORT, "--swap", "gelu=relu", "--allow-none").code == 0
    assert Path("out.onnx").is_file()


def test_a_dry_run_writes_nothing(here: Path) -> None:
    done = invoke(*EXPORT[:-2], "--dry-run", "--swap", "relu=elu")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "dry run, nothing checked and nothing written"
    assert not Path("out.onnx").exists()


def test_a_step_that_goes_wrong_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours in a rewrite is found by the check of that step."""
    from onnxact import verbs

    original = verbs.Rewrite.run

    def damaged(self: verbs.Rewrite, source: object, target: Path | None) -> onnxact.Result:
        result = original(self, source, target)  # type: ignore[arg-type]
        for node in result.proto.graph.node:
            if node.op_type == "LeakyRelu":
                node.attribute[0].f = 0.9
        return result

    monkeypatch.setattr(verbs.Rewrite, "run", damaged)
    output = tmp_path / "out.onnx"
    found = onnxact.export(
        Linear(), torch.zeros(2, 4), output, swap=["relu=leaky-relu:alpha=0.2"], decompose="mul-max", check=CPU
    )
    assert [verdict.outcome for verdict in found.verdicts] == ["equivalent", "different"]
    assert len(found.steps) == 1
    assert (found.exit_code, found.files) == (1, ())
    assert not output.exists()
    with pytest.raises(onnxact.NotEquivalent):
        found.raise_unless_equivalent()
