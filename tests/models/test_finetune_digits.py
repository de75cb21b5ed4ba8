"""The worked example: what it prints is true of the files that it writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxact
from tests.models.networks import MODELS

pytest.importorskip("sklearn")
EPOCHS = 2
SLOPES = {"act1": 16, "act2": 32, "act3": 32, "act4": 32}
STEP = re.compile(r"^(\d+\.\d\d)%  (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the example prints, and the file that it exported."""
    output = tmp_path_factory.mktemp("digits") / "tuned.onnx"
    command = [sys.executable, "finetune_digits.py", str(output), "--epochs", str(EPOCHS)]
    done = subprocess.run(command, cwd=MODELS, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, output


def accuracy(model: Path) -> float:
    """Share of the test images that a file of images -> logits reads rightly, in per cent."""
    import onnxruntime

    test = np.load(MODELS / "digits_test.npz")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: test["images"]})
    return 100 * float(np.mean(logits.argmax(axis=1) == test["labels"]))


def test_every_step_has_its_accuracy(run: tuple[str, Path]) -> None:
    steps = [(float(share), what) for share, what in STEP.findall(run[0])]
    assert [what.partition(",")[0] for _, what in steps] == [
        "ReLU",
        "PReLU",
        *(f"epoch {epoch}" for epoch in range(1, EPOCHS + 1)),
        "exported: 4 PRelu",
        "decomposed: 4 Mul",
    ]
    assert steps[0][0] == pytest.approx(98.0), "as models/README.md has it"
    assert all(share > 95 for share, _ in steps)
    trained, exported, decomposed = (share for share, _ in steps[-3:])
    assert exported == decomposed == pytest.approx(accuracy(run[1]), abs=0.005)
    assert exported == pytest.approx(trained, abs=0.25), "kernels differ in the last bit: one image of 450 at most"


def test_the_learned_slopes_are_in_the_file(run: tuple[str, Path]) -> None:
    nodes = {node.name: node for node in onnx.load(run[1]).graph.node}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(run[1]).graph.initializer}
    for path, count in SLOPES.items():
        slopes = weights[nodes[f"{path}/PRelu"].input[1]]
        assert slopes.size == count
        assert np.unique(slopes).size > 1, "each channel has learned a slope of its own"
        assert f"{path}: {count} slopes, {slopes.min():.3f} to {slopes.max():.3f}" in run[0]


def test_the_decomposed_file_is_exact_and_has_no_prelu(run: tuple[str, Path]) -> None:
    output, decomposed = run[1], run[1].with_suffix(".decomposed.onnx")
    assert sorted(path.name for path in output.parent.iterdir()) == ["tuned.decomposed.onnx", "tuned.onnx"]
    assert accuracy(decomposed) == accuracy(output)
    assert not [node for node in onnx.load(decomposed).graph.node if node.op_type == "PRelu"]
    again = onnxact.fuse(onnx.load(decomposed)).model
    assert again == onnx.load(output)
    verdict = onnxact.check(output, decomposed, providers=["cpu"])
    assert verdict.outcome == "equivalent"
    assert {row.max_abs for row in verdict.outputs} == {0.0}
