"""The laws over onnx's own models: its backend node tests and the models that it ships."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.laws.laws import VERBS, Subject, violations
from tests.laws.models import SHIPPED, node_cases, shipped

CHUNK = 40
CHUNKS = 48


def test_the_chunks_hold_every_node_test() -> None:
    assert CHUNK * CHUNKS > len(node_cases()) > 1800


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_node_tests(chunk: int) -> None:
    cases = list(node_cases().items())[chunk * CHUNK : (chunk + 1) * CHUNK]
    found = []
    for name, model in cases:
        subject = Subject(model)
        found += [f"{name}: {line}" for verb in VERBS.values() for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: str(path.relative_to(SHIPPED)))
def test_shipped_models(path: Path) -> None:
    large = "light" in path.parts[-2:][0]
    subject = Subject(onnx.load(path), runs=not large)
    verbs = ["swap-relu", "decompose", "fuse"] if large else list(VERBS)
    found = [line for verb in verbs for line in violations(subject, VERBS[verb])]
    assert not found, "\n".join(found)
