"""A choice by bits is np.where, to the bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxact.activation.selection import select

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int8, bool]


@pytest.mark.parametrize("size", [0, 3, 1023, 1024, 5000])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_it_has_the_bits_of_where(dtype: Any, size: int) -> None:
    """NaN payloads, zeros of both signs and infinities among them."""
    rng = np.random.default_rng(size)
    itemsize = np.dtype(dtype).itemsize
    words = rng.integers(0, 2, (2, size), np.uint8) if dtype is bool else rng.bytes(2 * size * itemsize)
    one, other = np.frombuffer(bytes(words), dtype).reshape(2, size)
    condition = rng.random(size) < 0.5
    found = select(condition, one, other)
    assert (found.dtype, found.shape) == (one.dtype, one.shape)
    assert found.tobytes() == np.where(condition, one, other).tobytes()


def test_other_shapes_and_types_are_those_of_where() -> None:
    x = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64)
    for chosen in (0.0, x[0], x.astype(np.float64), x.T, x[::-1]):
        found, wanted = select(x < 0, chosen, x), np.where(x < 0, chosen, x)
        assert (found.dtype, found.tobytes()) == (wanted.dtype, wanted.tobytes())
    assert select(-1.0 < 0, 2.0, 3.0) == 2.0
