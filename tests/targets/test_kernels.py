"""`ort:cpu`: what the installed ONNX Runtime says about itself, against what it loads."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import onnxact
from onnxact.activation.catalog import Activation
from onnxact.errors import MissingPackageError, ProviderError, UsageError
from onnxact.rewrite.target import kernels
from onnxact.rewrite.target.judge import Judge, Place
from onnxact.rewrite.target.known import find_target
from onnxact.rewrite.target.use import Use
from tests.laws import runtime
from tests.laws.models import DTYPES, natives, one_node, settings
from tests.rewrite.texts import net

OPSETS = (7, 13, 18, 24)


@pytest.mark.parametrize("row", list(natives()), ids=lambda row: row.name)
def test_what_it_says_it_runs_it_loads(row: Activation) -> None:
    target = find_target("ort:cpu")
    for dtype in DTYPES:
        for opset in OPSETS:
            model = one_node(row, opset, dtype, settings(row)[0])
            if model is None or row.native is None:
                continue
            refusal = Judge(target, Place(opset, dtype, row.defaults, (2, 3, 4))).call(row.native)
            if refusal is None or refusal.kind == "indirect":
                assert runtime.session(model)[0] is not None, (dtype, opset, refusal)
            elif dtype == "float32":
                assert runtime.session(model)[0] is None, (opset, refusal)


def test_there_is_no_float16_prelu_on_the_cpu() -> None:
    model = net("[act] y = PRelu (x, s)", shape="float16[2,3,4]", more="float16[3,1] s")
    found = onnxact.inspect(model, target="ort:cpu").decisions[0]
    assert (found.status, found.why) == ("indirect", "PRelu: no float16 kernel, ONNX Runtime casts to float32 and back")
    single = net("[act] y = PRelu (x, s)", more="float[3,1] s")
    assert onnxact.inspect(single, target="ort:cpu").decisions[0].status == "native"


def test_a_double_is_written_in_ops_that_have_a_kernel_for_it() -> None:
    model = net("[act] y = LeakyRelu <alpha: float = 0.25> (x)", shape="double[2,3,4]", opset=20)
    assert runtime.session(model)[0] is None
    result = onnxact.decompose(model, target="ort:cpu")
    assert [node.op_type for node in result.proto.graph.node] == ["Mul", "Max"]
    assert runtime.session(result.proto)[0] is not None


def test_a_provider_that_is_not_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError, match=r"no provider 'qnn': .* pip install onnxruntime-qnn"):
        find_target("ort:qnn")
    with pytest.raises(UsageError, match=re.escape("unknown provider 'cdua'")):
        find_target("ort:cdua")
    kernels.target_of.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install 'onnxact"):
        find_target("ort:cpu")
    kernels.target_of.cache_clear()


def _definition(op: str, versions: tuple[int, int], types: list[str], domain: str = "") -> Any:
    return SimpleNamespace(
        op_name=op,
        domain=domain,
        version_range=versions,
        provider="CUDAExecutionProvider",
        type_constraints={"T": [f"tensor({name})" for name in types]},
    )


def test_the_kernels_of_another_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without an end serves the version that it starts with; one with an end, all between."""
    found = [
        _definition("LeakyRelu", (6, 15), ["float", "float16"]),
        _definition("LeakyRelu", (16, 2**31 - 1), ["float", "float16"]),
        _definition("Elu", (6, 2**31 - 1), ["float"]),
        _definition("Relu", (6, 2**31 - 1), ["int32"]),
        _definition("Mul", (7, 2**31 - 1), ["float", "float16"]),
        _definition("FusedConv", (1, 2**31 - 1), ["float"], "com.microsoft"),
    ]
    state = SimpleNamespace(get_all_opkernel_def=lambda: found)
    monkeypatch.setattr(kernels, "_runtime", lambda: (SimpleNamespace(__version__="9.9"), state))
    kernels.target_of.cache_clear()
    target = kernels.target_of("CUDAExecutionProvider")
    kernels.target_of.cache_clear()
    assert (target.name, target.version) == ("ort:cuda", "9.9")

    def judged(op: str, opset: int, dtype: str) -> str:
        refusal = Judge(target, Place(opset, dtype, {}, (2,))).node(Use(op, {}, frozenset()))
        return "" if refusal is None else refusal.kind

    assert judged("LeakyRelu", 24, "float16") == judged("LeakyRelu", 13, "float32") == ""
    assert judged("LeakyRelu", 24, "float64") == "restricted"
    assert judged("Elu", 13, "float32") == ""
    assert judged("Elu", 22, "float32") == "restricted"
    assert (judged("Relu", 13, "float32"), judged("Sub", 13, "float32")) == ("restricted", "missing")
    assert judged("HardSwish", 22, "float32") == "indirect"
    fused = Judge(target, Place(13, "float32", {}, (2,)))
    relu, leaky = (Use("com.microsoft::FusedConv", {"activation": name}, frozenset()) for name in ("Relu", "LeakyRelu"))
    assert fused.node(relu) is None
    assert fused.node(leaky) is not None


def test_a_provider_without_kernels_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_, state = kernels._runtime()

    class Compiling:
        __version__ = "1"

        @staticmethod
        def get_available_providers() -> list[str]:
            return ["OpenVINOExecutionProvider", "CPUExecutionProvider"]

    def fake() -> tuple[Any, Any]:
        return Compiling, state

    monkeypatch.setattr(kernels, "_runtime", fake)
    with pytest.raises(ProviderError, match="lists no kernels"):
        kernels.target_of("openvino")
    assert runtime_.__version__
