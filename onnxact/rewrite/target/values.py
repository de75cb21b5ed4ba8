"""What a target file may hold: its keys, and for each what its value must be.

    HEAD["opset"]("7-12, 14-")  ->  Spans(7 to 12, from 14)

A reader that refuses a value raises ValueError with what it must be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from onnxact.activation.numeric import FLOATS
from onnxact.rewrite.target.layout import LAYOUTS
from onnxact.rewrite.target.rules import UNBOUNDED, Span, Spans

Reader = Callable[[Any], Any]
"""Turns a value of a TOML document into what a target holds."""


def as_text(value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text in quotes")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("must be a whole number")
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts, none of them twice."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    if twice := [item for item in value if value.count(item) > 1]:
        raise ValueError(f"{twice[0]!r} is listed twice")
    return tuple(value)


def _versions(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of whole numbers")
    return frozenset(map(_whole, value))


def _spans(value: Any) -> Spans:
    text = str(_whole(value)) if isinstance(value, int) and not isinstance(value, bool) else as_text(value)
    return Spans(tuple(_span(part.strip()) for part in text.split(",")))


def _span(text: str) -> Span:
    match = re.fullmatch(r"(\d*)\s*-\s*(\d*)|(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is no range; write it like '7-12, 14-' or '4'")
    low, high, single = match.groups()
    if single:
        return Span(int(single), int(single))
    span = Span(int(low or 0), int(high or UNBOUNDED))
    if span.low > span.high:
        raise ValueError(f"{text!r} is an empty range")
    return span


def _dtypes(value: Any) -> frozenset[str]:
    return _among(value, FLOATS)


def as_layouts(value: Any) -> tuple[str, ...]:
    """Return layouts of constants, the preferred one first."""
    _among(value, LAYOUTS)
    return as_texts(value)


def _among(value: Any, known: Iterable[str]) -> frozenset[str]:
    for item in as_texts(value):
        if item not in known:
            raise ValueError(f"{item!r} is none of {', '.join(known)}")
    return frozenset(value)


def as_table(value: Any) -> dict[str, Any]:
    """Return a table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    return value


def _shape(value: Any) -> str:
    return next(iter(_among([value], ("one", "scalar", "full"))))


def _storage(value: Any) -> bool:
    return next(iter(_among([value], ("initializer", "node")))) == "node"


HEAD: Mapping[str, Reader] = {
    "title": as_text, "version": as_text, "source": as_text, "date": as_text, "commit": as_text, "ran": _flag,
    "remarks": as_texts, "standard": _flag, "ops": as_texts, "missing": as_texts, "dtypes": _dtypes, "opset": _spans,
    "value_info": _flag, "quantised": _flag,
    "constants": as_table, "restricted": as_table, "wrong": as_table, "notes": as_table, "patterns": as_table,
}  # fmt: skip
"""The keys of a target file. `standard`: instead of `ops`, every op of the ONNX standard."""
REQUIRED = ("title", "version", "source", "date")
CONSTANTS: Mapping[str, Reader] = {"shape": _shape, "shared": _flag, "as": _storage}
RESTRICTED: Mapping[str, Reader] = {
    "opset": _spans, "versions": _versions, "dtypes": _dtypes, "rank": _spans, "axes": _spans, "same_shape": _flag,
    "when": as_text, "constant": as_texts, "may_be_constant": as_texts, "computed": _whole, "shapes": as_table,
    "stated": as_texts, "pattern_only": _flag, "indirect": as_text, "doubt": as_text, "note": as_text,
}  # fmt: skip
WRONG: Mapping[str, Reader] = {"why": as_text, "when": as_text, "inputs": as_text, "unless_stated": as_texts}
