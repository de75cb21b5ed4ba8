"""chunks: values as outputs of sessions, as many at a time as the memory budget holds."""

from __future__ import annotations

import numpy as np
import pytest

from onnxact.check.inputs import Feed
from onnxact.check.observe import TooLarge, chunks
from onnxact.check.session import RunFailure, Session, run_session
from onnxact.check.subject import open_subject
from tests.check.models import net

BODY = "v0 = Neg(x) " + " ".join(f"v{index} = Neg(v{index - 1})" for index in range(1, 9)) + " y = Neg(v8)"
FEED = Feed("given", {"x": np.arange(10, dtype=np.float32)})


def groups(*pairs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {" ".join(names): names for names in pairs}


@pytest.mark.parametrize("budget", [40, 100, 1 << 20])
def test_the_budget_is_kept_and_every_value_given(budget: int) -> None:
    subject = open_subject(net("float[N] x", "float[N] y", BODY))
    names = [f"v{index}" for index in range(1, 9)]
    sizes, values = [], {}
    for chunk in chunks(subject, {name: [name] for name in names}, FEED, provider="cpu", memory_budget=budget):
        assert isinstance(chunk.session, Session)
        found = run_session(chunk.session, FEED.values, chunk.names)
        assert isinstance(found, dict)
        sizes.append(len(chunk.names))
        values.update(found)
    assert list(values) == names
    assert sizes == {40: [1] * 8, 100: [2] * 4, 1 << 20: [8]}[budget]


def test_the_values_of_a_group_stay_together_and_shared_ones_count_once() -> None:
    subject = open_subject(net("float[N] x", "float[N] y", BODY))
    asked = groups(("v1", "v2"), ("v2", "v3"), ("v3", "v4"))
    for budget, expected in ((80, [2, 2, 2]), (120, [3, 2]), (160, [4])):
        found = list(chunks(subject, asked, FEED, provider="cpu", memory_budget=budget))
        assert [len(chunk.names) for chunk in found] == expected


def test_what_does_not_fit_is_refused_with_what_it_takes() -> None:
    subject = open_subject(net("float[N] x", "float[N] y", "a = Neg(x) b = Concat<axis = 0>(a, a, a) y = Neg(a)"))
    found = {
        chunk.keys: chunk.session
        for chunk in chunks(subject, groups(("a",), ("b",)), FEED, provider="cpu", memory_budget=60)
    }
    assert isinstance(found[("a",)], Session)
    refused = found[("b",)]
    assert isinstance(refused, TooLarge)
    text = str(refused)
    assert "more than the memory budget of 60 bytes" in text
    assert "--memory-budget" in text


def test_a_value_that_cannot_be_given_does_not_cost_the_others() -> None:
    subject = open_subject(net("float[N] x", "float[N] y", "a = Neg(x) y = Neg(a)"))
    found = {
        chunk.keys: isinstance(chunk.session, RunFailure)
        for chunk in chunks(subject, groups(("a",), ("gone",), ("y",)), FEED, provider="cpu", memory_budget=1000)
    }
    assert found == {("a",): False, ("gone",): True, ("y",): False}


def test_nothing_asked_for_opens_nothing() -> None:
    subject = open_subject(net("float[N] x", "float[N] y", BODY))
    assert list(chunks(subject, {}, FEED, provider="cpu", memory_budget=1)) == []
