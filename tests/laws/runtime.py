"""ONNX Runtime as an oracle: does it load, what does it compute with optimisation off; and signed inputs for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

Feeds = dict[str, NDArray[Any]]
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan)
ort.set_default_logger_severity(4)


def session(model: ModelProto, folder: str = "") -> tuple[Any, str]:
    """Return an unoptimised CPU session, or None and the reason."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if folder:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), ""
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base but Exception
        return None, str(error).splitlines()[0]


def run(running: Any, feeds: Feeds) -> tuple[list[Any] | None, str]:
    """Return all outputs, or None and the reason."""
    try:
        return list(running.run(None, feeds)), ""
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base but Exception
        return None, str(error).splitlines()[0]


def outputs(model: ModelProto, feeds: Feeds) -> list[Any] | None:
    """Return what ONNX Runtime computes, or where it has no kernel for the dtype onnx.reference; None for neither."""
    running = None if _has_bfloat16(feeds) else session(model)[0]
    if running is not None:
        return run(running, feeds)[0]
    try:
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(None, feeds))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _has_bfloat16(feeds: Feeds) -> bool:
    """Tell whether a feed is of a type that ONNX Runtime does not take from NumPy."""
    return any(value.dtype == ml_dtypes.bfloat16 for value in feeds.values())


def lacks_kernel(reason: str) -> bool:
    """Tell whether ONNX Runtime refuses a model only because it has no kernel for a valid node on the CPU."""
    return "NOT_IMPLEMENTED" in reason


def values(dtype: Any, count: int, *, special: bool, seed: int = 0) -> NDArray[Any]:
    """Return `count` signed numbers, log-spaced in magnitude over the whole dtype, and the special values if wanted."""
    random = np.random.default_rng(seed)
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    exponents = random.uniform(float(limits.minexp) / 2, float(limits.maxexp) - 2, count)
    wide = random.choice([-1.0, 1.0], count) * 2.0**exponents
    near = random.normal(0, 3, count)
    mixed = np.where(np.arange(count) % 2 == 0, wide, near)
    if special:
        fixed = [*SPECIAL, float(limits.max), -float(limits.max), float(limits.smallest_subnormal), -1.0, 1.0, 6.0]
        mixed[: len(fixed)] = fixed[:count]
    return mixed.astype(dtype)


def feeds_for(model: ModelProto, running: Any, seed: int = 0) -> Feeds:
    """Return moderate signed inputs for every graph input that has to be fed; symbolic dimensions are 2."""
    declared = {value.name: value for value in model.graph.input}
    random = np.random.default_rng(seed)
    return {value.name: _feed(declared[value.name], random) for value in running.get_inputs()}


def _feed(value: ValueInfoProto, random: np.random.Generator) -> NDArray[Any]:
    if not value.type.HasField("tensor_type"):
        raise TypeError("not a tensor")
    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else 2 for dim in kind.shape.dim]
    if kind.elem_type == TensorProto.STRING:
        return np.full(shape, "a", object)
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if dtype.kind in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    return (random.normal(0, 1, shape) * 2.0 ** random.integers(-3, 3, shape)).astype(dtype)


def unequal(left: Any, right: Any, *, zeros: bool = False) -> str:
    """Return how two outputs differ in their bits, "" where they do not; NaN is NaN, and -0 is 0 unless `zeros`."""
    if isinstance(left, (list, dict)):
        pairs = zip(_items(left), _items(right), strict=True)
        return next(filter(None, (unequal(a, b, zeros=zeros) for a, b in pairs)), "")
    first, second = np.asarray(left), np.asarray(right)
    if first.dtype != second.dtype or first.shape != second.shape:
        return f"{first.dtype}{first.shape} and {second.dtype}{second.shape}"
    same = first == second
    if first.dtype.kind in "fV":
        same |= np.isnan(first) & np.isnan(second)
        if zeros:
            same &= np.isnan(first) | (np.signbit(first) == np.signbit(second))
    if np.all(same):
        return ""
    where = np.unravel_index(int(np.argmin(same)), same.shape)
    return f"{int(np.sum(~same))} of {same.size} differ, first {first[where]!r} and {second[where]!r}"


def _items(value: Any) -> list[Any]:
    return [value[key] for key in sorted(value)] if isinstance(value, Mapping) else list(value)
