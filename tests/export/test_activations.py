"""Every activation of torch.nn exports and equals eager PyTorch: both branches, special values, float32 and float16."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import onnxact
from onnxact.activation.rounding import limits, unit_roundoff
from onnxact.check.session import RunFailure, run
from onnxact.export.alone import ROUNDOFFS
from onnxact.export.eager import call, kernels, tensors_of
from onnxact.export.example import Example
from tests.export.activations import CHANNELS, FUNCTIONS, IN_PLACE, MODULES, Activations

Array = npt.NDArray[Any]
DTYPES = ("float32", "float16")
NO_ACTIVATION = {"MultiheadAttention", "Softmax", "Softmin", "Softmax2d", "LogSoftmax"}
# PyTorch's own kernel multiplies before it divides by 6, and overflows; the reference is x.
OVERFLOWS = {"float32": 5.6e37, "float16": np.inf}
ROOM = {"float32": 1e-5, "float16": 1e-3}
HARD_SWISH = {"Hardswish", "Hardswish in place", "F.hardswish"}


class Exports:
    """The one export of each dtype, shared by all tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cache  # noqa: B019 - it lives as long as the session
    def of(self, dtype: str) -> tuple[Activations, onnxact.Exported]:
        module = Activations()
        output = self.folder / f"{dtype}.onnx"
        options = {"providers": ["cpu"], "seeds": (0,)}
        found = onnxact.export(module, torch.from_numpy(points("float32")), output, dtype=dtype, check=options)
        return module.eval().to(getattr(torch, dtype)), found


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory.mktemp("activations"))


def test_the_table_is_complete() -> None:
    classes = {name for name in nn.modules.activation.__all__ if not name.startswith("_")} - NO_ACTIVATION
    tested = {type(build()).__name__ for build in MODULES.values()}
    assert tested == classes
    with_in_place = {name for name in classes if "inplace" in getattr(nn, name).__init__.__code__.co_varnames}
    assert {type(build()).__name__ for build in IN_PLACE.values()} == with_in_place
    functionals = {name for name in dir(torch.nn.functional) if name.endswith("_") and not name.startswith("_")}
    assert {f"F.{name}" for name in functionals if name in vars(torch.nn.functional)} <= set(FUNCTIONS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_they_are_shown_to_be_equivalent(exports: Exports, dtype: str) -> None:
    _, found = exports.of(dtype)
    assert found.verdict is not None
    assert found.verdict.equivalent, found.summary()
    assert found.files
    untried = {item.site.node for item in found.verdict.sites if item.alone != "same"}
    inside = {"plain.GLU/Sigmoid"}  # parts of one operator, whose values PyTorch's program does not have
    assert untried == inside | ({"plain.CELU/Celu"} if dtype == "float16" else set())
    assert all(item.reached and not item.missed for item in found.verdict.sites if not item.site.kinks)


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_branches_equal_eager(exports: Exports, dtype: str, optimise: bool) -> None:
    """At |x| <= 10 around every kink: |difference| <= 64 u (1 + |y|) in float32, 16 u in float16."""
    x = points(dtype)
    room = ROUNDOFFS[dtype] * float(unit_roundoff(np.dtype(dtype)))
    for name, (expected, given) in both(exports, dtype, x, optimise=optimise).items():
        wide = expected.astype(np.float64)
        assert np.isfinite(wide).all(), name
        apart = np.abs(given.astype(np.float64) - wide) / (1 + np.abs(wide))
        assert apart.max() <= room, f"{name}: {apart.max() / room * ROUNDOFFS[dtype]:.1f} u"


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_equal_eager(exports: Exports, dtype: str, optimise: bool) -> None:
    """At +-0, NaN, infinities, the largest and the subnormal numbers. Without oneDNN, whose GELU of +inf is NaN."""
    x = specials(dtype)
    with kernels(plain=True):
        found = both(exports, dtype, x, optimise=optimise)
    for name, (expected, given) in found.items():
        wide, other = expected.astype(np.float64), given.astype(np.float64)
        assert (np.isnan(wide) == np.isnan(other)).all(), name
        infinite = np.isinf(wide)
        if name in HARD_SWISH:
            infinite &= np.isinf(x) | (x.astype(np.float64) <= OVERFLOWS[dtype])
        assert (wide[infinite] == other[infinite]).all(), name
        finite = np.isfinite(wide)
        assert np.isfinite(other[finite]).all(), name
        scale = np.maximum(1.0, np.abs(wide[finite]))
        assert np.abs(other[finite] / scale - wide[finite] / scale).max() <= ROOM[dtype], name


@pytest.mark.parametrize("dtype", DTYPES)
def test_piecewise_linear_ones_keep_the_bits(exports: Exports, dtype: str) -> None:
    linear = ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "Threshold", "Hardtanh", "Hardshrink", "F.relu")
    x = points(dtype)
    for name, (expected, given) in both(exports, dtype, x, optimise=False).items():
        if name.startswith(linear) and "bounds" not in name:
            assert np.array_equal(expected, given), name


def test_what_was_mended_is_said(exports: Exports) -> None:
    _, found = exports.of("float32")
    by_reason: dict[str, set[str]] = {}
    for mend in found.mends:
        by_reason.setdefault(mend.reason.split()[0], set()).add(mend.node.rpartition("/")[0])
    assert set(by_reason) == {"RReLU", "LogSigmoid"}
    assert {"plain.RReLU", "plain.RReLU_bounds"} <= by_reason["RReLU"]
    assert "plain.LogSigmoid" in by_reason["LogSigmoid"]
    assert "Log" not in found.op_counts
    described = found.to_json()["mended"]
    assert {item["operator"] for item in described} >= {"aten.rrelu.default", "aten.log_sigmoid.default"}


def test_the_mends_are_needed(tmp_path: Path) -> None:
    """What PyTorch's exporter does without them; where it has learned better, they can go."""
    from onnxact.export.quiet import quietly

    x = torch.tensor([[-150.0, 1.0]])
    with quietly():
        program = torch.onnx.export(nn.LogSigmoid(), (x,), tmp_path / "log.onnx", dynamo=True, verbose=False)
        with pytest.raises(torch.onnx.OnnxExporterError):
            torch.onnx.export(nn.RReLU().eval(), (x,), dynamo=True, verbose=False)
    assert program is not None
    found = run(tmp_path / "log.onnx", {"input": x.numpy()})
    assert not isinstance(found, RunFailure)
    assert np.isinf(next(iter(found.values()))[0, 0])


def both(exports: Exports, dtype: str, x: Array, *, optimise: bool) -> Mapping[str, tuple[Array, Array]]:
    """Return output -> what PyTorch gives and what ONNX Runtime gives."""
    module, exported = exports.of(dtype)
    expected = tensors_of(call(module, Example((torch.from_numpy(x),), {}, ("x",))))
    given = run(exported.files[0], {"x": x}, optimise=optimise)
    assert not isinstance(given, RunFailure), given
    pairs = zip(module.names, expected, given.values(), strict=True)
    return {name: (first.numpy(), np.asarray(second)) for name, first, second in pairs}


def points(dtype: str) -> Array:
    """Return [1, 3, 400]: N(0, 2), and distances of 0.001 to 5 around every kink of the table."""
    rng = np.random.default_rng(0)
    distance = np.concatenate([np.geomspace(1e-3, 5, 12), -np.geomspace(1e-3, 5, 12)])
    around = [kink + distance for kink in (0.0, 0.5, -0.5, 3.0, -3.0, 6.0, -0.3, 2.5)]
    values = np.concatenate([rng.normal(0, 2, CHANNELS * 400 - 3 * 8 * 24), *around, *around, *around])
    return rng.permutation(np.clip(values, -10, 10)).reshape(1, CHANNELS, 400).astype(dtype)


def specials(dtype: str) -> Array:
    info = limits(np.dtype(dtype))
    largest, normal, tiny = (float(item) for item in (info.max, info.smallest_normal, info.smallest_subnormal))
    values = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, -20.0, -110.0, 60.0]
    values += [sign * size for size in (largest, largest / 2, normal, tiny, normal / 4) for sign in (1, -1)]
    row = np.resize(np.array(values), 400)
    return np.broadcast_to(row, (1, CHANNELS, 400)).astype(dtype)
