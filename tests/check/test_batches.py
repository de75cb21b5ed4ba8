"""Memory: results are held within the budget, and a value that cannot be is named."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from onnxact.check import check, providers
from onnxact.check import pairs as room
from onnxact.check.batches import COPIES, byte_count, plan_batches
from onnxact.check.inputs import Feed
from onnxact.check.subject import open_subject
from onnxact.check.tolerance import Tolerance
from onnxact.errors import UsageError
from tests.check.models import net

SIZES = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(0, 100), min_size=1)


def feeds(count: int) -> list[Feed]:
    return [Feed(f"seed {number}", {}) for number in range(count)]


@given(SIZES, st.integers(1, 5), st.integers(1, 1000))
def test_batches_cover_everything_once_and_fit(sizes: dict[str, int], count: int, budget: int) -> None:
    if any(size * COPIES > budget for size in sizes.values()):
        with pytest.raises(UsageError, match="memory budget of"):
            plan_batches(feeds(count), sizes, budget)
        return
    batches = plan_batches(feeds(count), sizes, budget)
    covered = [(feed.label, name) for batch in batches for feed in batch.feeds for name in batch.outputs or sizes]
    assert sorted(covered) == sorted((feed.label, name) for feed in feeds(count) for name in sizes)
    for batch in batches:
        held = sum(sizes[name] for name in batch.outputs or sizes) * len(batch.feeds) * COPIES
        assert held <= budget
    assert [batch.is_first for batch in batches] == [True] + [False] * (len(batches) - 1)


def test_a_value_that_does_not_fit_is_named_with_its_size() -> None:
    with pytest.raises(UsageError) as caught:
        plan_batches(feeds(1), {"y": 10, "wide": 4000}, 5000)
    assert str(caught.value) == (
        "memory budget of 5,000 bytes: output wide takes 4,000 bytes, and 3 of it are held at a time; "
        "give at least 12,000 (memory_budget, --memory-budget)"
    )


def test_bytes_of_an_output() -> None:
    assert byte_count(np.zeros((2, 3), np.float32)) == 24
    assert byte_count([np.zeros(2, np.int64), None, {"a": np.zeros(1, np.int8)}]) == 17
    assert byte_count(np.array(["a", "b"], object)) > 2


@pytest.mark.parametrize(("budget", "batches"), [(1 << 20, 1), (7000, 2), (3600, 4)])
def test_a_small_budget_changes_no_verdict(budget: int, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """y and z take 1,024 bytes each: both sets of inputs at once, one at a time, one output at a time."""
    seen: list[Any] = []
    original = plan_batches

    def planned(given: Sequence[Feed], sizes: Any, limit: int) -> Any:
        found = original(given, sizes, limit)
        seen.extend(found)
        return found

    monkeypatch.setattr(room, "plan_batches", planned)
    body = "y = {}(x) n = Neg(x) z = Abs(n)"
    before, right, wrong = (
        net("float[32, 8] x", "float[32, 8] y, float[32, 8] z", body.format(op)) for op in ("Relu", "Relu", "Elu")
    )
    verdict = check(before, right, providers=["cpu"], memory_budget=budget)
    assert verdict.equivalent, verdict.summary()
    assert len(seen) == batches
    assert {(item.name, str(item.run)) for item in verdict.outputs} == {
        (name, f"seed {seed}, cpu, optimisation {level}") for name in "yz" for seed in (0, 1) for level in ("off", "on")
    }
    assert check(before, wrong, providers=["cpu"], memory_budget=budget).outcome == "different"


def test_budget_too_small_for_an_output() -> None:
    model = net("float[1024] x", "float[1024] y", "y = Relu(x)")
    with pytest.raises(UsageError, match="output y takes 4,096 bytes") as caught:
        check(model, net("float[1024] x", "float[1024] y", "y = Abs(x)"), providers=["cpu"], memory_budget=5000)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="expected a number of bytes above 0"):
        check(model, net("float[1024] x", "float[1024] y", "y = Abs(x)"), providers=["cpu"], memory_budget=0)


def test_one_session_is_alive_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []
    most = 0
    original = providers._session_class()

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal most
        gc.collect()
        session = original(*arguments, **options)
        alive.append(weakref.ref(session))
        most = max(most, sum(reference() is not None for reference in alive))
        return session

    monkeypatch.setattr(providers, "_session_class", lambda: counted)
    before, after = (open_subject(net("float[32, 8] x", "float[32, 8] y", "y = Relu(x)")) for _ in range(2))
    feed = Feed("given", {"x": np.ones((32, 8), np.float32)})
    evidence = room.run_pair(room.Pair(before, after, "cpu", (feed,), Tolerance()))
    assert len(evidence.runs) == 2
    assert len(alive) == 4
    assert most == 1


PEAK = """
import resource, sys
import numpy as np
from onnxact.check import check
from onnxact.check.session import open_session, run_session
from onnxact.check.subject import open_subject

if sys.argv[1] == "session":
    session = open_session(open_subject(sys.argv[2]), "cpu", optimise=False)
    run_session(session, {"x": np.ones((4, 2048), np.float32)})
else:
    verdict = check(sys.argv[2], sys.argv[3], providers=["cpu"], memory_budget=1 << 24)
    assert verdict.outcome == sys.argv[1], verdict.summary()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_is_that_of_one_model_and_the_budget(tmp_path: Path) -> None:
    """64 MB of external weights and a budget of 16 MB, whether the models are equivalent or looked into."""
    rows = np.tile(np.linspace(-1, 1, 2048, dtype=np.float32), 32)
    with (tmp_path / "w.bin").open("wb") as file:
        for _ in range(256):
            file.write(rows.tobytes())
    for name, op in (("a", "Relu"), ("b", "Relu"), ("c", "Abs")):
        model = net("float[4, 2048] x", "float[4, 8192] y", f"m = MatMul(x, w) y = {op}(m)")
        weights = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2048, 8192])
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="w.bin")
        onnx.save(model, tmp_path / f"{name}.onnx")

    def peak(*arguments: str) -> int:
        files = [tmp_path / f"{name}.onnx" for name in arguments[1:]]
        command = [sys.executable, "-c", PEAK, arguments[0], *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    allowed = peak("session", "a") + (1 << 24) + (1 << 25)
    assert peak("equivalent", "a", "b") < allowed
    assert peak("different", "a", "c") < allowed
