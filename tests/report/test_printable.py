"""Names out of a model cannot command the terminal, nor pretend to be lines of the report."""

from __future__ import annotations

import pytest
from onnx import ModelProto

from onnxact.check import check
from onnxact.report.evidence import blocks
from onnxact.report.markdown import page
from onnxact.report.printable import printable
from tests.check.models import unary

NAME = "y\nequivalent: 4 runs on cpu\x1b[2J\u202e"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("y", "y"),
        ("größe 値 é", "größe 値 é"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202ey", "\\u202ey"),
        ("a\u2028b", "a\\u2028b"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_what_would_not_be_seen_is_escaped(text: str, wanted: str) -> None:
    assert printable(text) == wanted


def test_a_report_shows_such_names_on_one_line() -> None:
    before, after = (_named(unary(f"y = {op}(x)")) for op in ("Relu", "Neg"))
    verdict = check(before, after, providers=["cpu"])
    assert verdict.outcome == "different"
    cells = [
        text for block in blocks(verdict) for text in (*block.lines, *(cell for row in block.rows for cell in row))
    ]
    assert any("equivalent: 4 runs" in cell for cell in cells)
    for text in (*cells, *page(verdict, "title").splitlines()):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not text.startswith("equivalent: 4 runs")


def _named(model: ModelProto) -> ModelProto:
    model.graph.output[0].name = NAME
    model.graph.node[-1].output[0] = NAME
    return model
