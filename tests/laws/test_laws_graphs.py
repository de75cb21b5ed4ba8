"""The laws over random models: fan-out, subgraphs, functions, name clashes, and nodes out of order."""

from __future__ import annotations

import os
from random import Random

import onnxruntime  # noqa: F401 - imported before hypothesis measures anything
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

import onnxact
from tests.laws import runtime
from tests.laws.graphs import models, shuffled
from tests.laws.laws import VERBS, Subject, refused, violations

DEFAULT = 40
EXAMPLES = int(os.environ.get("ONNXACT_EXAMPLES", DEFAULT))
"""How many models to draw; more than the default are other ones each time, and failures are shrunk."""
BUDGET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= DEFAULT,
    suppress_health_check=list(HealthCheck),
    phases=list(Phase) if EXAMPLES > DEFAULT else [Phase.generate],
)


@BUDGET
@given(models(tidy=True))
def test_every_law_holds(model: ModelProto) -> None:
    subject = Subject(model)
    assert not subject.refused
    assert subject.session is not None, runtime.session(model)[1]
    found = [line for verb in VERBS.values() for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@BUDGET
@given(models(tidy=False), st.randoms(use_true_random=False))
def test_every_law_holds_for_nodes_out_of_order(model: ModelProto, random: Random) -> None:
    subject = Subject(shuffled(model, random.shuffle))
    found = [line for verb in VERBS.values() for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@BUDGET
@given(models(tidy=True))
def test_one_verb_after_the_other(model: ModelProto) -> None:
    """Swap, decompose, fuse: the decomposition of a swapped model is undone to the byte, and all of it stays valid."""
    swapped = onnxact.swap_relu(model, alpha=0.25).proto
    decomposed = onnxact.decompose(swapped, allow_inexact=True).proto
    fused = onnxact.fuse(decomposed).proto
    assert fused.SerializeToString() == swapped.SerializeToString() or decomposed is swapped or not _holds(decomposed)
    again = onnxact.fuse(onnxact.decompose(swapped, allow_inexact=True, provenance=False).proto).proto
    for after in (swapped, decomposed, fused, again):
        assert not refused(after)
        assert runtime.session(after)[0] is not None


def _holds(model: ModelProto) -> bool:
    """Tell whether a model holds provenance."""
    return b"onnxact" in model.SerializeToString() and b'{"activation"' in model.SerializeToString()
