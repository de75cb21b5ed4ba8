"""names that people use -> execution providers that a session really gets, or an error that says what to install."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnxact.arguments import mapping, texts
from onnxact.check.options import RuntimeOptions, plain_options, set_session_options
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
    "tvm": ("TvmExecutionProvider", _OWN_BUILD),
    "webnn": ("WebNNExecutionProvider", _OWN_BUILD),
    "azure": ("AzureExecutionProvider", "it is part of onnxruntime on Linux and Windows"),
}

# Optimisation levels by name; `optimise` as a bool stands for the first and the last.
LEVELS: Mapping[str, str] = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_DEFAULTS = RuntimeOptions()
_TF32_NOTE = (
    "tensorrt may use TF32, which none of its options turns off; NVIDIA_TF32_OVERRIDE=0 in the environment does "
    "(docs.nvidia.com/cuda/cublas)"
)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : 1?(?:Load model from .*? failed:)?")
# Where in ONNX Runtime's sources a message comes from: "/onnxruntime_src/.../arena.cc:360 void* f(size_t, bool) ".
_LOCATION = re.compile(
    r"/onnxruntime\S*:\d+ [^()]*(?:operator\(\))?\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? "
)


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


@cache
def runtime_version() -> str:
    """The package that runs the models, with its version."""
    return f"onnxruntime {runtime().__version__}"


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model that it cannot load or run: its own classes derive from Exception alone."""
    state = runtime().capi.onnxruntime_pybind11_state
    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, ValueError, RuntimeError, TypeError, NotImplementedError, MemoryError)


def resolve_providers(names: str | Sequence[str] | None, options: RuntimeOptions = _DEFAULTS) -> Resolved:
    """The providers `names` ask for (a text is one name); for None: cpu, and cuda if a session really gets it.

    Names are short (`cpu`, `cuda`, ...) or ONNX Runtime's own, in any case; doubles are dropped. Raises UsageError for
    an unknown name, an empty list, or options that a provider does not take; ProviderError for a provider that a
    session does not get; MissingPackageError.
    """
    found = _default_providers() if names is None else _asked_providers(texts("providers", names))
    unused = sorted(set(options.provider_options) - set(found.names))
    if unused:
        raise UsageError(f"provider options for {', '.join(unused)}: the check runs on {', '.join(found.names)} only")
    for name in found.names:
        _demand_options(name, options)
    return found


def runtime_options(
    provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    session_options: Mapping[str, Any] | None = None,
    *,
    tf32: bool = False,
) -> RuntimeOptions:
    """Options of the caller's, by provider name in any spelling. Raises UsageError for what makes no sense."""
    chosen = dict(mapping("session_options", session_options))
    by_name = {
        short_name(name): plain_options(values)
        for name, values in mapping("provider_options", provider_options).items()
    }
    if tf32 and "use_tf32" in by_name.get("cuda", {}):
        raise UsageError("give tf32 or the provider option use_tf32, not both")
    if chosen:
        set_session_options(runtime().SessionOptions(), chosen)
    return RuntimeOptions(by_name, chosen, tf32)


def _default_providers() -> Resolved:
    problem = unavailable("cuda")
    return Resolved(("cpu", "cuda")) if problem is None else Resolved(("cpu",), (f"cuda left out: {problem}",))


def _asked_providers(names: tuple[str, ...]) -> Resolved:
    asked = tuple(dict.fromkeys(short_name(name) for name in names))
    if not asked:
        raise UsageError("no provider is named; name at least one, such as cpu")
    for name in asked:
        problem = unavailable(name)
        if problem is not None:
            raise ProviderError(f"provider {name}: {problem}; {PROVIDERS[name][1]}")
    return Resolved(asked, (_TF32_NOTE,) if "tensorrt" in asked else ())


def _demand_options(name: str, options: RuntimeOptions) -> None:
    """ONNX Runtime refuses unknown options of some providers; of others it ignores them, which says nothing."""
    chosen = options.provider_options.get(name, {})
    if not (chosen or options.session_options):
        return
    try:
        session = create(_one_node_model(), name, optimise=False, options=options)
    except runtime_errors() as error:
        given = {**chosen, **options.session_options}
        text = ", ".join(f"{key}={value}" for key, value in given.items())
        raise UsageError(f"provider {name} does not take the options {text}: {first_line(error)}") from error
    known = session.get_provider_options().get(PROVIDERS[name][0], {})
    ignored = sorted(chosen.keys() - known.keys()) if known or name == "cpu" else []
    if ignored:
        listed = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise UsageError(f"provider {name} ignores the option {', '.join(ignored)}; {listed}")


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
    if name == "cpu":
        return None
    try:
        session = create(_one_node_model(), name, optimise=False)
        if full not in session.get_providers():
            return f"{full} was built in but did not start (driver or libraries), sessions run on the CPU instead"
        session.run(None, {"x": np.ones(1, np.float32)})
    except runtime_errors() as error:
        return f"{full} does not run a one-node model: {first_line(error)}"
    return None


def create(
    source: str | bytes,
    name: str,
    *,
    optimise: bool | str,
    folder: str | None = None,
    threads: int = 0,
    options: RuntimeOptions = _DEFAULTS,
    record: bool = True,
    profile: str | None = None,
    optimised_path: str | None = None,
    disabled: Sequence[str] = (),
) -> Any:
    """An onnxruntime.InferenceSession with its own silent fallback to the CPU switched off.

    `source` is a path or a serialized model, `folder` the one its relative external data lie in. `optimise`: graph
    optimisation off, on, or at one of LEVELS. `threads` 0: as many as the options say, or ONNX Runtime sees fit.
    `record` has it remember which provider got which node; `profile` is where profiles begin, `optimised_path` where
    the optimised model goes, `disabled` are optimisations left out, by ONNX Runtime's names. Raises what
    `runtime_errors()` lists.
    """
    ort = runtime()
    chosen = ort.SessionOptions()
    set_session_options(chosen, options.session_options)
    chosen.log_severity_level = 4
    chosen.graph_optimization_level = _level(optimise)
    if threads:
        chosen.intra_op_num_threads = threads
    if folder is not None:
        chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if record:
        chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile is not None:
        chosen.enable_profiling, chosen.profile_file_prefix = True, profile
    if optimised_path is not None:
        chosen.optimized_model_filepath = optimised_path
    further = {"disabled_optimizers": list(disabled)} if disabled else {}
    session = _session_class()(source, chosen, providers=_provider_list(name, options), **further)
    session._model_bytes = None  # kept for set_providers alone, which is not called: a second copy of the model
    return session


@cache
def _session_class() -> Any:
    """InferenceSession without its fallback: it would try again on the CPU, and print (up to 1.23, unconditionally)."""

    class StrictSession(runtime().InferenceSession):  # type: ignore[misc]
        """A session that fails where its providers do."""

        _enable_fallback = property(lambda _self: False, lambda _self, _value: None)

    return StrictSession


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without ONNX Runtime's prefix and places in its sources."""
    text = str(error).strip() or type(error).__name__
    return _LOCATION.sub("", _PREFIX.sub("", text.splitlines()[0])).strip()


@cache
def short_name(full: str) -> str:
    """The short name of a provider that ONNX Runtime names, in any spelling; raises UsageError for an unknown one."""
    wanted = full.strip().lower()
    for short, (long, _) in PROVIDERS.items():
        if wanted in {short, long.lower()}:
            return short
    raise UsageError(
        f"unknown provider {full!r}; known: {', '.join(PROVIDERS)}; available here: {', '.join(available_names())}"
    )


def _level(optimise: bool | str) -> Any:
    name = optimise if isinstance(optimise, str) else "all" if optimise else "off"
    return getattr(runtime().GraphOptimizationLevel, LEVELS[name])


def _provider_list(name: str, options: RuntimeOptions) -> list[tuple[str, dict[str, str]]]:
    first = (PROVIDERS[name][0], options.of_provider(name))
    return [first] if name == "cpu" else [first, (PROVIDERS["cpu"][0], options.of_provider("cpu"))]


def _one_node_model() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())
