"""signed_values: many numbers repeat few, and no row of them can stand for another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxact.check import Verdict, check
from onnxact.check.drawing import signed_values
from tests.check.models import net


@pytest.mark.parametrize("row", [1 << 16, 1 << 17, 1 << 18, 1 << 19])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_have_other_norms(row: int, seed: int) -> None:
    rows = signed_values(np.random.default_rng(seed), (6, row), np.float32).astype(np.float64)
    for statistic in (np.linalg.norm(rows, axis=1), np.abs(rows).mean(axis=1), rows.sum(axis=1)):
        ordered = np.sort(statistic)
        assert np.diff(ordered).min() > 2**-16 * np.abs(ordered).max()


def test_what_is_drawn_is_signed_and_of_many_magnitudes() -> None:
    x = signed_values(np.random.default_rng(0), (3, 1 << 18), np.float32)
    for part in x:
        assert abs(np.mean(part > 0) - np.mean(part < 0)) < 0.01
        assert np.mean(part == 0) > 1 / 80
        assert np.abs(part).max() > 4.9
        assert np.abs(part[part != 0]).min() < 2e-3
        assert np.mean(part * 2 == np.rint(part * 2)) > 1 / 20
    assert not np.signbit(x[x == 0]).any()


@pytest.mark.parametrize("shape", ["1, 3, 256, 256", "1, 3, 512, 512"])
def test_norms_of_other_channels_are_told_apart(shape: str) -> None:
    body = "axes = Constant<value_ints=[2, 3]>() n = ReduceL2<keepdims=1>(x, axes) {} y = Div(x, m)"
    before = net(f"float[{shape}] x", f"float[{shape}] y", body.format("m = Identity(n)"))
    reverse = "order = Constant<value_ints=[2, 1, 0]>() m = Gather<axis=1>(n, order)"
    after = net(f"float[{shape}] x", f"float[{shape}] y", body.format(reverse))
    assert check(before, after, providers=["cpu"]).outcome == "different"


@pytest.mark.parametrize("size", [64, 1000, 1 << 18, 1 << 19, 3 << 19])
def test_no_two_extremes_are_alike_and_they_lie_anywhere(size: int) -> None:
    places = []
    for seed in range(40):
        x = signed_values(np.random.default_rng(seed), (size,), np.float32)
        for top in (x.max(), x.min()):
            assert np.count_nonzero(x == top) == 1
            assert 10 < abs(top) < 11.01
        places += [int(np.argmax(x)), int(np.argmin(x))]
    shares = np.histogram(places, 4, (0, size))[0] / len(places)
    assert shares.min() > 0.1


@pytest.mark.parametrize("kept", [(0, 512), (0, 1023), (1, 1024)])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_a_maximum_of_fewer_rows_is_told_apart(op: str, kept: tuple[int, int]) -> None:
    """One row of 1024 is rarely where the maximum is: the part on its own is tried on rising and falling values."""
    whole = "axes = Constant<value_ints=[2, 3]>() z = Identity(x)"
    ends = f"first = Constant<value_ints=[{kept[0]}]>() last = Constant<value_ints=[{kept[1]}]>()"
    part = (
        f"axes = Constant<value_ints=[2, 3]>() {ends} rows = Constant<value_ints=[2]>() z = Slice(x, first, last, rows)"
    )
    before, after = (
        net("float[1, 1, 1024, 512] x", "float y", f"{body} y = {op}<keepdims=0>(z, axes)") for body in (whole, part)
    )
    assert check(before, after, providers=["cpu"]).outcome != "equivalent"


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float16"])
def test_a_maximum_of_half_the_rows_is_told_apart_in_every_type(dtype: str) -> None:
    assert _of_rows(dtype, 256, 128).outcome != "equivalent"


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_maximum_of_fewer_rows_is_told_apart_between_limits(limits: tuple[float, float]) -> None:
    assert _of_rows("float", 224, 223, val_range=limits).outcome != "equivalent"


def _of_rows(dtype: str, rows: int, kept: int, **options: Any) -> Verdict:
    head = "axes = Constant<value_ints=[0, 1]>() first = Constant<value_ints=[0]>()"
    ends = f"last = Constant<value_ints=[{kept}]>() rows = Constant<value_ints=[0]>()"
    before, after = (
        net(f"{dtype}[{rows}, 64] x", f"{dtype} y", f"{head} {ends} z = {part} y = ReduceMax<keepdims=0>(z, axes)")
        for part in ("Identity(x)", "Slice(x, first, last, rows)")
    )
    return check(before, after, providers=["cpu"], diagnose=False, **options)
