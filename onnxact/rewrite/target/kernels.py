"""The kernels of the installed ONNX Runtime -> a target: `ort:cpu` has PRelu in float32 and not in float16.

A kernel says from which version of an op to which it goes; one without an end serves the version that it starts with
(onnxruntime/core/framework/kernel_registry.cc, VerifyKernelDef). An op without any kernel runs all the same in float32
where ONNX gives it a function body, which ONNX Runtime computes node by node; and on the CPU an op without a float16
kernel runs in float32, between casts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from onnx import defs

from onnxact.errors import MissingPackageError, ProviderError, UsageError
from onnxact.rewrite.target.condition import Condition
from onnxact.rewrite.target.rules import Rule, Target, Wrong

_OPEN_END = 2**31 - 1
_FLOATS = {"tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16", "tensor(float)": "float32",
           "tensor(double)": "float64"}  # fmt: skip
_PACKAGES = {
    "cpu": "onnxruntime", "cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "dml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino", "qnn": "onnxruntime-qnn", "migraphx": "onnxruntime-migraphx",
    "webgpu": "onnxruntime-webgpu", "coreml": "onnxruntime",
}  # fmt: skip
"""Provider -> the package that has it."""
_SUFFIX = "executionprovider"


@cache
def target_of(provider: str) -> Target:
    """Return what a provider of the installed ONNX Runtime has kernels for: "cpu", "cuda", ...

    Raises MissingPackageError without onnxruntime, UsageError for a name that is no provider's, ProviderError for one
    that the installed package does not have or that has no kernels of its own.
    """
    wanted = provider.strip().lower().removesuffix(_SUFFIX)
    runtime, state = _runtime()
    definitions = [one for one in state.get_all_opkernel_def() if _plain(one.provider) == wanted]
    if definitions:
        return _target(wanted, definitions, runtime.__version__)
    here = {_plain(name) for name in runtime.get_available_providers()}
    if wanted in here:
        raise ProviderError(
            f"provider {wanted!r} compiles whole parts of a graph and lists no kernels; `onnxact targets` may know it"
        )
    if wanted not in _PACKAGES:
        raise UsageError(f"unknown provider {provider!r} in 'ort:{provider}'; known: {', '.join(sorted(_PACKAGES))}")
    installed = f"onnxruntime {runtime.__version__} as installed has {', '.join(sorted(here))}"
    raise ProviderError(f"no provider {wanted!r}: {installed}; pip install {_PACKAGES[wanted]} in its place")


def _plain(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX)


def _runtime() -> tuple[Any, Any]:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise MissingPackageError("onnxruntime", "cpu", "a target ort:...") from error
    return onnxruntime, state


def _target(provider: str, definitions: Iterable[Any], version: str) -> Target:
    rules: dict[str, list[Rule]] = {}
    histories = _histories()
    for one in definitions:
        op = f"{one.domain}::{one.op_name}" if one.domain else one.op_name
        versions = frozenset(_served(histories.get(op, ()), *one.version_range))
        dtypes = _dtypes(one.type_constraints)
        if dtypes and (one.domain or versions):
            rules.setdefault(op, []).append(Rule(versions=versions or None, dtypes=dtypes))
    detour = "no kernel, ONNX Runtime computes ONNX's function body"
    for op, versions in _bodies().items():
        if op not in rules:
            rules[op] = [Rule(versions=versions, dtypes=frozenset({"float32"}), indirect=detour)]
    if provider == "cpu":
        _add_casts(rules)
    return Target(
        name=f"ort:{provider}",
        title=f"ONNX Runtime {version}, {provider} provider, as installed",
        version=version,
        source="the kernel registry of the installed package",
        date="now",
        ran=True,
        ops={op: tuple(found) for op, found in rules.items()},
        wrong=_WRONG if provider == "cuda" else {},
    )


_WRONG: Mapping[str, tuple[Wrong, ...]] = {
    "com.microsoft::FusedConv": (Wrong("only Relu is fused there", when=Condition("activation != 'Relu'")),)
}
"""What the CUDA provider refuses although it has a kernel: what a model that was optimised for the CPU may hold."""


def _add_casts(rules: dict[str, list[Rule]]) -> None:
    """On the CPU, a float16 op without a kernel runs in float32, between casts."""
    detour = "no float16 kernel, ONNX Runtime casts to float32 and back"
    for found in rules.values():
        single = [rule for rule in found if rule.dtypes is not None and "float32" in rule.dtypes]
        found += [Rule(versions=rule.versions, dtypes=frozenset({"float16"}), indirect=detour) for rule in single]


@cache
def _histories() -> dict[str, tuple[int, ...]]:
    """Op of ONNX -> every version that it ever had."""
    found: dict[str, set[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            found.setdefault(schema.name, set()).add(schema.since_version)
    return {op: tuple(sorted(versions)) for op, versions in found.items()}


def _served(history: Iterable[int], first: int, last: int) -> Iterator[int]:
    """Yield the versions of an op that a kernel from `first` to `last` serves."""
    for version in history:
        if version == first or (first < version <= last and last != _OPEN_END):
            yield version


def _dtypes(constraints: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the float types that every type variable which admits floats at all admits."""
    sets = [{_FLOATS[name] for name in names if name in _FLOATS} for names in constraints.values()]
    sets = [found for found in sets if found]
    return frozenset(set.intersection(*sets)) if sets else frozenset()


@cache
def _bodies() -> dict[str, frozenset[int]]:
    """Op of ONNX -> the versions that have a function body."""
    found: dict[str, set[int]] = {}
    schemas: list[Any] = list(defs.get_all_schemas_with_history())
    for schema in schemas:
        if not schema.domain and (schema.has_function or schema.has_context_dependent_function):
            found.setdefault(schema.name, set()).add(schema.since_version)
    return {op: frozenset(versions) for op, versions in found.items()}
