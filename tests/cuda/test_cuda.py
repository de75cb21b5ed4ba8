"""Rewrites on an NVIDIA GPU: equivalent there too, and really run there. Skipped visibly where no session gets CUDA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import onnxact
from onnxact.check import available_names
from onnxact.errors import OnnxactError
from onnxact.model.files import load

ROOT = Path(__file__).resolve().parents[2]
OWN = sorted((ROOT / "models").glob("*.onnx"))
CORPUS = Path(os.environ["ONNXACT_CORPUS"]) if os.environ.get("ONNXACT_CORPUS") else None


def _cuda_runs() -> bool:
    from onnxact.check import resolve_providers

    try:
        return "cuda" in resolve_providers(["cuda"]).names
    except OnnxactError:
        return False


pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif("cuda" not in available_names() or not _cuda_runs(), reason="no session gets CUDA here"),
]


def _corpus() -> list[Path]:
    if CORPUS is None:
        return []
    lines = (CORPUS / "manifest.tsv").read_text().splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=False)) for line in lines[1:]]
    return [CORPUS / row["file"] for row in rows if row["ort_run"] == "ok"]


def _judge(result: onnxact.Result, path: Path) -> None:
    verdict = result.check(providers=["cuda"], folder=path.parent)
    assert verdict.outcome != "different", "\n".join(verdict.summary())
    placed = [dict(run.placement) for run in verdict.runs if run.provider == "cuda" and run.after == "ran"]
    assert placed
    assert all(run.get("cuda", 0) > 0 for run in placed)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_own_models_are_equivalent_on_cuda(path: Path) -> None:
    model = load(path)
    for result in (onnxact.swap_relu(model, alpha=0.2), onnxact.decompose(model, activations=["leaky-relu", "prelu"])):
        if result.changed:
            _judge(result, path)


@pytest.mark.parametrize("path", _corpus(), ids=lambda path: path.stem)
def test_corpus_models_are_not_different_on_cuda(path: Path) -> None:
    model = load(path)
    for result in (onnxact.swap_relu(model, alpha=0.2), onnxact.decompose(model)):
        if result.changed:
            _judge(result, path)
