"""Threads, interruption, and what goes wrong while inputs are tried."""

from __future__ import annotations

from typing import Any

import pytest

from onnxact import ProofInterrupted, prove
from onnxact.activation.catalog import Form
from onnxact.activation.expr import TRUE, x
from onnxact.activation.primitives import Max
from onnxact.check.prove import place, running
from onnxact.check.prove.engine import CALL, Engine, HostEngine
from onnxact.check.prove.running import Task
from tests.prove.engines import subject, with_forms


def _stop(_what: str, _done: float) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_leaves_with_what_was_covered_and_is_no_proof() -> None:
    with pytest.raises(ProofInterrupted) as caught:
        prove("leaky_relu", "mul-max", progress=_stop)
    found = caught.value.proof
    assert (found.outcome, found.exit_code) == ("interrupted", 130)
    assert 0 < found.inputs < found.total
    assert found.forms[0].tally.tried == found.inputs
    assert isinstance(caught.value, KeyboardInterrupt)
    assert f"{found.inputs:,} of 4,294,967,296" in str(caught.value)
    assert "proven" not in found.summary()


def _interrupt_after_the_last_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any) -> None:
        for thread in arguments[0]:
            thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_wait", late)


def test_an_interrupt_after_the_last_input_is_no_proof_either(monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_after_the_last_input(monkeypatch)
    with pytest.raises(ProofInterrupted) as caught:
        prove("relu", "max", dtype="float16")
    assert caught.value.proof.inputs == 65536
    assert caught.value.proof.outcome == "interrupted"


def test_a_counterexample_stays_one_when_the_rest_was_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_after_the_last_input(monkeypatch)
    with_forms(monkeypatch, "relu", {"wrong": Form(Max(x, 1), exact=TRUE)})
    with pytest.raises(ProofInterrupted) as caught:
        prove("relu", "wrong", dtype="float16")
    assert caught.value.proof.outcome == "refuted"


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sample", [True, False])
def test_the_number_of_threads_changes_nothing(threads: int, sample: bool) -> None:
    dtype = "float32" if sample else "float16"
    found = prove("elu", "relu-exp-min", dtype=dtype, sample=sample, threads=threads)
    alone = prove("elu", "relu-exp-min", dtype=dtype, sample=sample, threads=1)
    assert found.forms[0].tally == alone.forms[0].tally
    assert found.threads == (threads if sample else min(threads, (1 << 16) // CALL))


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_blocks_cover_every_input_once_in_whole_calls(dtype: str, threads: int) -> None:
    task = Task(subject("leaky_relu", dtype, alpha=0.2), {}, _never, CALL)
    blocks = list(task.blocks(threads))
    ends = [0, *(block.stop for block in blocks)]
    assert [block.start for block in blocks] == ends[:-1]
    assert ends[-1] == 1 << (16 if dtype == "float16" else 32)
    assert all(len(block) % CALL == 0 and 0 < len(block) <= task.block for block in blocks)


def _never() -> Engine:
    raise AssertionError


@pytest.mark.parametrize("length", [1 << 12, 1 << 14])
def test_the_length_of_a_call_changes_nothing(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = prove("leaky_relu", "relu-neg", dtype="float16")
    monkeypatch.setattr(place, "CALL", length)
    assert prove("leaky_relu", "relu-neg", dtype="float16").forms[0].tally == wanted.forms[0].tally


def test_what_kills_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(HostEngine):
        def start(self, first: int) -> None:
            raise MemoryError("no more of it")

    monkeypatch.setattr(place, "HostEngine", Dying)
    with pytest.raises(MemoryError, match="no more of it"):
        prove("relu", "max", dtype="float16")


def test_progress_is_told() -> None:
    told: list[float] = []
    prove("elu", "relu-exp-min", sample=True, progress=lambda _what, done: told.append(done))
    assert told
    assert all(0 <= done <= 1 for done in told)
