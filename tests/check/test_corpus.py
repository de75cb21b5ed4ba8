"""Every model of the corpus that runs in ONNX Runtime, against a reserialized copy of itself."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from onnx import ModelProto

from onnxact.check import SiteProbe, check
from onnxact.check.subject import open_subject

FOLDER = os.environ.get("ONNXACT_CORPUS")
KINKED = {"Relu": None, "LeakyRelu": None, "PRelu": 1}
# No elements in, no elements out: there is nothing to compare.
NOTHING = "zero_sized_dims.onnx"


def running() -> list[Path]:
    if FOLDER is None:
        return []
    with (Path(FOLDER) / "manifest.tsv").open(newline="") as file:
        return [Path(FOLDER) / row["file"] for row in csv.DictReader(file, delimiter="\t") if row["ort_run"] == "ok"]


def probes(model: ModelProto) -> list[SiteProbe]:
    return [
        SiteProbe("", node.name, node.input[0], node.output[0], (0.0,), KINKED[node.op_type])
        for node in model.graph.node
        if node.op_type in KINKED
    ]


@pytest.mark.skipif(FOLDER is None, reason="ONNXACT_CORPUS names no folder")
@pytest.mark.parametrize("path", running(), ids=lambda path: path.name)
def test_reserialized_copy_is_equivalent(path: Path) -> None:
    model = open_subject(path).model
    copied = ModelProto()
    copied.ParseFromString(model.SerializeToString(deterministic=True))
    verdict = check(path, copied, folder=path.parent, sites=probes(model), providers=["cpu"])
    expected = "inconclusive" if path.name == NOTHING else "equivalent"
    assert verdict.outcome == expected, "\n".join(verdict.summary())
    assert all(run.before == run.after == "ran" for run in verdict.runs)
    assert all(item.differing == 0 for item in verdict.outputs)
