"""The laws for rewriting for targets: over the corpus for five of them, over onnx's node tests and random models."""

from __future__ import annotations

from pathlib import Path
from random import Random

import onnxruntime  # noqa: F401 - imported before hypothesis measures anything
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

import onnxact
from onnxact.model.files import load
from tests.laws.graphs import models, shuffled
from tests.laws.laws import Subject, Verb, violations
from tests.laws.models import CORPUS, corpus, node_cases
from tests.laws.test_laws_graphs import BUDGET

TARGETS = ("ort-web-webgl", "onnx-mlir-nnpa-z16", "hls4ml", "jaxonnxruntime", "ti-tidl")
"""No Max and Where; constants of full shape; none shared; op versions; patterns, and shapes for all new values."""
VERBS = [
    Verb(f"decompose --target {name}", onnxact.decompose, {"target": name, "allow_inexact": True, "partial": True})
    for name in TARGETS
]
ROWS = [row for row in corpus() if row["external_data"] != "y"]
CHUNK, CHUNKS = 80, 24


@pytest.mark.skipif(not ROWS, reason="ONNXACT_CORPUS is not set: no corpus of real models")
@pytest.mark.parametrize("row", ROWS or [{"file": "no corpus"}], ids=lambda row: row["file"])
def test_corpus(row: dict[str, str]) -> None:
    subject = Subject(load(Path(CORPUS) / row["file"]))
    found = [line for verb in VERBS for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@BUDGET
@given(models(tidy=True))
def test_random_models(model: ModelProto) -> None:
    subject = Subject(model)
    found = [line for verb in VERBS for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@BUDGET
@given(models(tidy=False), st.randoms(use_true_random=False))
def test_random_models_with_nodes_out_of_order(model: ModelProto, random: Random) -> None:
    subject = Subject(shuffled(model, random.shuffle))
    found = [line for verb in VERBS[:2] for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_node_tests(chunk: int) -> None:
    cases = list(node_cases().items())[chunk * CHUNK : (chunk + 1) * CHUNK]
    found = []
    for name, model in cases:
        found += [f"{name}: {line}" for verb in VERBS[:3] for line in violations(Subject(model), verb)]
    assert not found, "\n".join(found)


def test_the_chunks_hold_every_node_test() -> None:
    assert len(node_cases()) < CHUNK * CHUNKS
