"""names that people use -> execution providers that a session really gets, or an error that says what to install."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnxact.errors import MissingPackageError, ProviderError, UsageError

_GPU = "pip install 'onnxact[gpu]' (onnxruntime-gpu, in place of onnxruntime), with a CUDA driver it supports"
_OWN_BUILD = "it needs a build of ONNX Runtime with this provider (onnxruntime.ai/docs/execution-providers)"

# name -> (ONNX Runtime's name, how to get it). Source of the names: onnxruntime.get_all_providers() of 1.20 and 1.31;
# of the packages: onnxruntime.ai/docs/execution-providers, 2025.
PROVIDERS: Mapping[str, tuple[str, str]] = {
    "cpu": ("CPUExecutionProvider", "pip install 'onnxact[cpu]'"),
    "cuda": ("CUDAExecutionProvider", _GPU),
    "tensorrt": ("TensorrtExecutionProvider", f"{_GPU}, and TensorRT's libraries"),
    "nv_tensorrt_rtx": ("NvTensorRTRTXExecutionProvider", "pip install onnxruntime-trt-rtx"),
    "openvino": ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino, in place of onnxruntime"),
    "dml": ("DmlExecutionProvider", "pip install onnxruntime-directml, in place of onnxruntime (Windows)"),
    "qnn": ("QNNExecutionProvider", "pip install onnxruntime-qnn, in place of onnxruntime"),
    "migraphx": ("MIGraphXExecutionProvider", "pip install onnxruntime-migraphx, in place of onnxruntime (AMD ROCm)"),
    "rocm": ("ROCMExecutionProvider", "pip install onnxruntime-rocm, in place of onnxruntime (up to 1.22)"),
    "coreml": ("CoreMLExecutionProvider", "it is part of onnxruntime on macOS only"),
    "webgpu": ("WebGpuExecutionProvider", "pip install onnxruntime-webgpu, in place of onnxruntime"),
    "vitisai": ("VitisAIExecutionProvider", _OWN_BUILD),
    "cann": ("CANNExecutionProvider", _OWN_BUILD),
    "dnnl": ("DnnlExecutionProvider", _OWN_BUILD),
    "xnnpack": ("XnnpackExecutionProvider", _OWN_BUILD),
    "acl": ("ACLExecutionProvider", _OWN_BUILD),
    "armnn": ("ArmNNExecutionProvider", _OWN_BUILD),
    "nnapi": ("NnapiExecutionProvider", _OWN_BUILD),
    "rknpu": ("RknpuExecutionProvider", _OWN_BUILD),
    "vsinpu": ("VSINPUExecutionProvider", _OWN_BUILD),
    "js": ("JsExecutionProvider", _OWN_BUILD),
    "webnn": ("WebNNExecutionProvider", _OWN_BUILD),
    "azure": ("AzureExecutionProvider", "it is part of onnxruntime on Linux and Windows"),
}

# TF32 keeps 10 bits of a float32 product's 23, so CUDA would differ from itself by 1e-3 (FACTS.md).
_OPTIONS: Mapping[str, Mapping[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}


@dataclass(frozen=True)
class Resolved:
    """The providers to check on, by short name, and what was left out and why."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def runtime() -> ModuleType:
    """The onnxruntime module; raises MissingPackageError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError("onnxruntime", "cpu", "Checking a model") from error
    return onnxruntime  # type: ignore[no-any-return]


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model that it cannot load or run: its own classes derive from Exception alone."""
    state = runtime().capi.onnxruntime_pybind11_state
    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, ValueError, RuntimeError, TypeError, NotImplementedError, MemoryError)


def resolve_providers(names: Sequence[str] | None) -> Resolved:
    """The providers `names` ask for; for None: cpu, and cuda if a session really gets it.

    Names are short (`cpu`, `cuda`, ...) or ONNX Runtime's own, in any case; doubles are dropped. Raises UsageError for
    an unknown name or an empty list, ProviderError for one that a session does not get, MissingPackageError.
    """
    if names is None:
        problem = unavailable("cuda")
        return Resolved(("cpu", "cuda")) if problem is None else Resolved(("cpu",), (f"cuda left out: {problem}",))
    asked = tuple(dict.fromkeys(_short_name(name) for name in names))
    if not asked:
        raise UsageError("no provider is named; name at least one, such as cpu")
    for name in asked:
        problem = unavailable(name)
        if problem is not None:
            raise ProviderError(f"provider {name}: {problem}; {PROVIDERS[name][1]}")
    return Resolved(asked)


def available_names() -> tuple[str, ...]:
    """The short names of what this ONNX Runtime lists; a listed one may still fail to start."""
    listed = runtime().get_available_providers()
    return tuple(name for name, (full, _) in PROVIDERS.items() if full in listed)


def unavailable(name: str) -> str | None:
    """Why a session on a one-node model does not get and run on this provider; None where it does."""
    ort = runtime()
    full = PROVIDERS[name][0]
    if full not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} here was built without {full}"
    try:
        session = create(_one_node_model(), name, optimise=False)
        if full not in session.get_providers():
            return f"{full} was built in but did not start (driver or libraries), sessions run on the CPU instead"
        session.run(None, {"x": np.ones(1, np.float32)})
    except runtime_errors() as error:
        return f"{full} does not run a one-node model: {first_line(error)}"
    return None


def create(source: str | bytes, name: str, *, optimise: bool, folder: str | None = None, threads: int = 0) -> Any:
    """An onnxruntime.InferenceSession with its own silent fallback to the CPU switched off.

    `source` is a path or a serialized model, `folder` the one its relative external data lie in. Graph optimisation
    is at its highest level or off altogether. `threads` 0: as many as ONNX Runtime sees fit. Raises what
    `runtime_errors()` lists.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if name != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(source, options, providers=_provider_list(name), enable_fallback=0)


def placement(session: Any) -> tuple[tuple[str, int], ...] | None:
    """(short provider name, number of nodes it was given), None where this ONNX Runtime does not tell (before 1.24)."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        short = _short_name(part.ep_name)
        counts[short] = counts.get(short, 0) + len(part.get_nodes())
    return tuple(sorted(counts.items()))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, with ONNX Runtime's prefix taken off."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line.split(" : ", 2)[-1] if line.startswith("[ONNXRuntimeError]") else line


def _short_name(name: str) -> str:
    wanted = name.strip().lower()
    for short, (full, _) in PROVIDERS.items():
        if wanted in {short, full.lower()}:
            return short
    raise UsageError(
        f"unknown provider {name!r}; known: {', '.join(PROVIDERS)}; available here: {', '.join(available_names())}"
    )


def _provider_list(name: str) -> list[tuple[str, dict[str, str]]]:
    full = PROVIDERS[name][0]
    first = (full, dict(_OPTIONS.get(full, {})))
    return [first] if name == "cpu" else [first, (PROVIDERS["cpu"][0], {})]


def _one_node_model() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())
