"""Proofs on an NVIDIA GPU, with inputs made and compared there. Skipped visibly where no session gets CUDA."""

from __future__ import annotations

import numpy as np
import pytest

from onnxact import prove
from onnxact.check.prove.device import DeviceEngine
from onnxact.check.prove.model import write
from onnxact.check.providers import available_names, resolve_providers
from onnxact.errors import OnnxactError
from tests.prove.engines import subject


def _cuda_runs() -> bool:
    try:
        return "cuda" in available_names() and "cuda" in resolve_providers(["cuda"]).names
    except OnnxactError:
        return False


pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not _cuda_runs(), reason="no session gets CUDA here")]


def engine(*names: str, length: int = 1 << 16) -> DeviceEngine:
    held = subject("leaky_relu", alpha=0.25)
    forms = {name: held.activation.forms[name] for name in names}
    return DeviceEngine(write(held, forms), held, names, "cuda", length)


@pytest.mark.parametrize("first", [0, 0x007FFF00, 0x7F800000, 0x80000000, 0xFFFF0000])
def test_inputs_made_on_the_device_have_the_right_bits(first: int) -> None:
    """Subnormal numbers, infinities and every NaN among them."""
    made = engine("op")
    made.start(first)
    wanted = (np.arange(1 << 16, dtype=np.uint64) + first).astype(np.uint32)
    np.testing.assert_array_equal(made.input(), wanted)


@pytest.mark.parametrize(
    ("left", "right"), [(0x80000000, 0), (1, 2), (0x7FC00000, 0x7FC00001), (0x3F800000, 0x3F800001)]
)
def test_outputs_are_compared_by_their_bits_on_the_device(left: int, right: int) -> None:
    made = engine("op", "mul-max", length=64)
    values = np.zeros((2, 64), np.uint32)
    values[0, 63], values[1, 63] = left, right
    for index in range(2):
        made._outputs[index].update_inplace(values[index].view(np.int32))
    assert not made.same(0, 1)
    made._outputs[1].update_inplace(values[0].view(np.int32))
    assert made.same(0, 1)


def test_mul_max_has_the_bits_of_leaky_relu_for_every_float32() -> None:
    found = prove("leaky_relu", "mul-max", parameters={"alpha": 0.2}, provider="cuda")
    assert (found.outcome, found.inputs) == ("proven", 1 << 32), found.summary()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("activation", ["leaky_relu", "prelu"])
def test_exact_forms_are_exact_on_cuda(activation: str, dtype: str) -> None:
    found = prove(activation, dtype=dtype, provider="cuda", sample=True)
    assert found.forms
    for form in found.forms:
        assert not form.exact or form.outcome != "refuted", found.summary()


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu", "elu", "softplus", "gelu"])
def test_every_form_that_cuda_runs_is_measured(activation: str) -> None:
    """Kernels differ from the CPU's, for which the bounds were measured: what they give is shown, not demanded."""
    found = prove(activation, provider="cuda", sample=True, against="reference")
    print(found.summary())  # noqa: T201
    assert all(form.tally.tried == found.inputs for form in found.forms)
    assert found.provider == "cuda"
