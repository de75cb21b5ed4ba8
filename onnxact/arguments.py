"""What callers hand in -> what functions take, or one sentence that says what was expected.

include="relu$"  ->  ("relu$",)        ops=["Mul", "Max"]  ->  ("Mul", "Max")        alpha="abc"  ->  UsageError
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from onnxact.errors import UsageError

_LONGEST = 80
"""Characters of a value in a message."""


def texts(name: str, given: str | Iterable[str]) -> tuple[str, ...]:
    """Return texts; a bare one is one item, and is not taken apart into letters."""
    if isinstance(given, str):
        return (given,)
    items = tuple(given) if isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)) else None
    if items is None or not all(isinstance(item, str) for item in items):
        raise UsageError(f"{name}: expected a text or several, not {_shown(given)}")
    return items


def text(name: str, given: str) -> str:
    """Return a text."""
    if not isinstance(given, str):
        raise UsageError(f"{name}: expected a text, not {_shown(given)}")
    return given


def number(name: str, given: Any) -> float:
    """Return a number as a float, NumPy's and those of arrays with one element included."""
    if isinstance(given, Real):
        return float(given)
    if getattr(given, "size", None) == 1 and getattr(getattr(given, "dtype", None), "kind", "") in ("f", "i", "u"):
        return float(given.item())
    raise UsageError(f"{name}: expected a number, not {_shown(given)}")


def whole(name: str, given: Any) -> int:
    """Return a whole number."""
    if isinstance(given, bool) or not (hasattr(given, "__index__")):
        raise UsageError(f"{name}: expected a whole number, not {_shown(given)}")
    return int(given.__index__())


def mapping(name: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a mapping with texts for keys, an empty one for None."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise UsageError(f"{name}: expected a mapping from names to values, not {_shown(given)}")
    return given


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """Return " (did you mean 'x'?)" for the known names that are like this one; nothing where none is."""
    near = difflib.get_close_matches(name, list(known), n=most)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def _shown(given: Any) -> str:
    shown = repr(given)
    return shown if len(shown) <= _LONGEST else f"{type(given).__name__} {shown[:_LONGEST]}..."
