"""A picture shows what is computed, and is written like every other file: whole, and over nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.cli.app import run
from onnxact.errors import FileConflictError, MissingPackageError, UsageError
from onnxact.report.plot import FORMATS, curves, draw

LEAKY = ACTIVATIONS["leaky_relu"]
DRAWN = [name for name in ACTIVATIONS if name != "noisy_relu"]
BEGINS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def test_exact_forms_are_exact_and_the_known_one_is_not() -> None:
    shown = curves(LEAKY, {"alpha": 0.01})
    assert {name for name, error in shown.errors.items() if not error.any()} >= {"op", "prelu", "mul-max", "where"}
    # 114 u at alpha = 0.01 over all of float32; here over 4,001 numbers.
    assert 50 < shown.errors["mul-abs-add"].max() < 114
    assert not shown.errors["mul-abs-add"][shown.x > 0].max() > 2


def test_errors_are_in_units_of_the_dtype() -> None:
    shown = curves(LEAKY, {"alpha": 0.01}, dtype="float16", forms=["mul-abs-add"])
    assert list(shown.errors) == ["mul-abs-add"]
    # A relative error of 7 % is 0.07 / 2^-11 u.
    assert 10 < shown.errors["mul-abs-add"].max() < 0.08 * 2**11
    assert np.array_equal(shown.x, shown.x.astype(np.float16))


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_activation_has_curves(name: str, dtype: str) -> None:
    shown = curves(ACTIVATIONS[name], {}, dtype=dtype)
    assert shown.errors
    assert all(error.shape == shown.x.shape and not np.isnan(error).any() for error in shown.errors.values())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_is_written_and_never_over_another_file(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, shown = tmp_path / f"net.{suffix}", curves(LEAKY, {})
    draw(shown, path)
    first = path.read_bytes()
    assert first.startswith(BEGINS[suffix])
    with pytest.raises(FileConflictError, match="--force"):
        draw(shown, path)
    assert path.read_bytes() == first
    draw(curves(ACTIVATIONS["gelu"], {}), path, force=True)
    assert path.read_bytes() != first
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_without_matplotlib_the_pip_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxact\[plot\]'"):
        draw(curves(LEAKY, {}), tmp_path / "net.png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["noisy-relu"], "no one curve"),
        (["leaky-relu", "--form", "mul-min"], "does not hold"),
        (["leaky-relu", "--form", "nonsense"], "nonsense"),
        (["leaky-relu", "--param", "beta=1"], "its parameters: alpha"),
        (["leaky-relu", "--dtype", "float8"], "known: float16"),
        (["leaky-relu", "--range", "4:-4"], "lower one first"),
        (["leaky-relu", "--range", "4"], "finite"),
        (["leaky-relu", "--range", "a:b"], "LOW:HIGH"),
        (["leaky-relu", "-o", "picture.jpg"], ".png, .svg, .pdf"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plot", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("onnxact: ")
    assert said in error
    assert error.count("\n") == 1


def test_unknown_activations_are_a_usage_error() -> None:
    with pytest.raises(UsageError):
        curves(LEAKY, {"slope": 1.0})
