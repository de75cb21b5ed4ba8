"""Inputs as Polygraphy saves them, read and written without it: JSON <-> sets of arrays.

[{"x": {"array": base64 of an .npy file, "polygraphy_class": "ndarray"}}, ...], one mapping an iteration. Source of the
format, the older one included: polygraphy 0.53.6, polygraphy/json/serde.py.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.inputs import Feed
from onnxact.check.npy import arrays_in, content_of, reading

Array = npt.NDArray[Any]

_CLASS = "polygraphy_class"
_OLD_CLASS = "__polygraphy_encoded_"
_OURS = "onnxact"
"""A member beside the array that Polygraphy passes over: the label of the set."""
_BEGINNING = 1 << 16


def feeds(document: Any) -> Iterator[Feed]:
    """The sets in a parsed document. Raises ValueError for anything but arrays by name, in one mapping or several."""
    for entry in document if isinstance(document, list) else [document]:
        if not isinstance(entry, dict):
            raise ValueError("it is not a list of mappings from input names to arrays, as Polygraphy saves inputs")
        kind = _kind(entry)
        if kind:
            raise ValueError(f"it holds {_article(kind)} of Polygraphy, not inputs; give what its --save-inputs wrote")
        yield Feed(_label(entry), {name: _value(name, value) for name, value in entry.items()})


def text(sets: Sequence[Feed]) -> str:
    """The sets as a document that Polygraphy loads."""
    return json.dumps(
        [{name: _entry(value, name, feed.label) for name, value in feed.values.items()} for feed in sets], indent=1
    )


def is_ours(path: Path) -> bool:
    """Whether onnxact wrote this file."""
    with path.open("rb") as stream:
        return f'"{_OURS}":'.encode() in stream.read(_BEGINNING)


def _kind(entry: dict[str, Any]) -> str:
    """The Python class that a mapping stands for; "" for a mapping."""
    marker = entry.get(_CLASS)
    if isinstance(marker, str):
        return marker
    return next((key for key in entry if key.startswith(_OLD_CLASS)), "").removeprefix(_OLD_CLASS)


def _label(entry: dict[str, Any]) -> str:
    for value in entry.values():
        label = value.get(_OURS) if isinstance(value, dict) else None
        if isinstance(label, str):
            return label
    return ""


def _value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, list):
        return None if value is None else [_value(f"{name}[{number}]", item) for number, item in enumerate(value)]
    kind = _kind(value) if isinstance(value, dict) else ""
    if kind == "ndarray" and isinstance(value.get("array"), str):
        return _array(name, value["array"])
    if kind in {"LazyArray", "LazyNumpyArray"}:
        return _value(name, value.get("values"))
    if kind == "Tensor":
        raise ValueError(f"{name} is a PyTorch tensor, saved as a pickle, which is not read; save NumPy arrays")
    raise ValueError(f"{name} is {_article(kind) if kind else 'plain JSON'}, not a NumPy array")


def _array(name: str, encoded: str) -> Array:
    """Older files hold the bytes as Latin-1 text, still older ones an .npz with one array."""
    try:
        content = base64.b64decode(encoded.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        content = encoded.encode("latin-1")
    with reading(name):
        found = arrays_in(BytesIO(content))
    arrays = [found] if isinstance(found, np.ndarray) else list(found.values())
    if len(arrays) != 1:
        raise ValueError(f"{name} holds {len(arrays)} arrays, not one")
    return np.asarray(arrays[0])


def _entry(value: Any, name: str, label: str) -> Any:
    if value is None or isinstance(value, list):
        return None if value is None else [_entry(item, name, label) for item in value]
    return {_OURS: label, "array": base64.b64encode(content_of(value, name)).decode(), _CLASS: "ndarray"}


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"
