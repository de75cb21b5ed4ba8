"""Which sites a verb works on."""

from __future__ import annotations

import pytest

import onnxact
from onnxact.errors import UsageError
from onnxact.rewrite.select import Selection
from tests.rewrite.texts import net

MODEL = net(
    "  [stem_act] a = Relu (x)\n"
    "  b = Relu (a)\n"
    "  [head] y = If (c) <then_branch = t () => (float[2,3,4] d) { [inner] d = Relu (b) }, "
    "else_branch = e () => (float[2,3,4] e) { [other] e = LeakyRelu (b) }>",
    more="bool c",
)


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), ["stem_act", "", "inner"]),
        (("stem",), (), ["stem_act"]),
        (("^stem_act$", "inner"), (), ["stem_act", "inner"]),
        (("head",), (), ["inner"]),
        ((), ("then_branch",), ["stem_act", ""]),
        (("act",), ("stem",), []),
        (("ACT",), (), []),
        (("(?i)ACT",), (), ["stem_act"]),
    ],
)
def test_include_and_exclude(include: tuple[str, ...], exclude: tuple[str, ...], chosen: list[str]) -> None:
    result = onnxact.swap_relu(MODEL, include=include, exclude=exclude)
    assert [change.site.node for change in result.sites] == chosen


def test_activations() -> None:
    result = onnxact.decompose(MODEL, activations=["LeakyRelu"])
    assert [change.site.node for change in result.sites] == ["other"]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_bad_expression_is_named(option: str) -> None:
    with pytest.raises(UsageError, match=rf"--{option} '\(': is not a regular expression"):
        Selection(**{option: ("(",)})


def test_an_unknown_activation_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"unknown activation 'rellu' \(did you mean 'relu'\?\); known: relu, "):
        Selection(activations=["rellu"])


def test_what_is_excluded_is_not_reported() -> None:
    model = net("  [a] h = Clip (x, lo)\n  [b] y = Clip (h, lo)", more="float lo")
    skipped = onnxact.decompose(model, exclude=["^a$"]).skipped
    assert [skip.node for skip in skipped] == ["b"]


def test_a_second_name_selects_by_its_parameters() -> None:
    swishes = (
        "  g = Sigmoid (x)\n  [silu] h = Mul (x, g)\n  t = Mul (b, h)\n  u = Sigmoid (t)\n  [quick] y = Mul (h, u)"
    )
    model = net(swishes, "float b = {1.702}", opset=24)
    for name, node in (("quick-gelu", "quick"), ("silu", "silu")):
        assert [change.site.node for change in onnxact.fuse(model, activations=name).sites] == [node]
        swapped = onnxact.swap(model, name, "relu")
        assert [change.site.node for change in swapped.sites] == [node]
        assert [skip.reason for skip in swapped.skipped] == [f"is swish, and not {name}: its parameters are others"]
    assert len(onnxact.fuse(model, activations="swish").sites) == 2
