"""(graph, values that a caller gave) -> the same as ONNX Runtime takes them, or a sentence on what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, TensorProto, TypeProto, ValueInfoProto, helper

from onnxact.check.graph import overridable_inputs, required_inputs, type_text
from onnxact.check.sizes import Shape, mismatch
from onnxact.errors import UsageError

Array = npt.NDArray[Any]


def demand_known(graph: GraphProto, names: Iterable[str]) -> None:
    """Raise UsageError for a name that is no input of the graph."""
    unknown = sorted(set(names) - {value.name for value in graph.input})
    if unknown:
        known = [value.name for value in required_inputs(graph)] + overridable_inputs(graph)
        raise UsageError(f"the model has no input {', '.join(unknown)}; its inputs: {', '.join(known) or 'none'}")


def demand_shapes(graph: GraphProto, shapes: Mapping[str, Shape]) -> None:
    """Raise UsageError for a shape that contradicts the declared one."""
    for value in graph.input:
        if value.name in shapes:
            _demand_shape(value.name, value, shapes[value.name])


def fitted(graph: GraphProto, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with numbers and other packages' tensors as arrays, and raw bits in the type that the model declares.

    Raises UsageError for names, element types or shapes that the model does not take.
    """
    demand_known(graph, given)
    declared = {value.name: value for value in graph.input}
    return {name: _fitted(name, declared[name], declared[name].type, value) for name, value in given.items()}


def remarks(given: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of a comparison on these values has to know: NaN, infinities, nothing at all."""
    for name, value in given.items():
        arrays = value if isinstance(value, list) else [value]
        for array in arrays:
            if isinstance(array, np.ndarray):
                yield from _remark(name, array)


def _remark(name: str, array: Array) -> Iterator[str]:
    if array.size == 0:
        yield f"input {name} as given holds no element (shape {list(array.shape)})"
    if array.dtype.kind in "fc" or array.dtype.name == "bfloat16":
        nan, infinite = int(np.count_nonzero(np.isnan(array))), int(np.count_nonzero(np.isinf(array)))
        found = [f"{count} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite")) if count]
        if found:
            yield f"input {name} as given holds {' and '.join(found)} of {array.size} values"


def _fitted(name: str, declared: ValueInfoProto, kind: TypeProto, value: Any) -> Any:
    if kind.HasField("optional_type"):
        return None if value is None else _fitted(name, declared, kind.optional_type.elem_type, value)
    if kind.HasField("sequence_type"):
        if not isinstance(value, list | tuple):
            raise UsageError(f"input {name}: {_what(value)} given, the model takes a list ({type_text(kind)})")
        return [_fitted(f"{name}[{i}]", declared, kind.sequence_type.elem_type, item) for i, item in enumerate(value)]
    if not kind.HasField("tensor_type"):
        return value
    array = _of_type(name, _array(name, value, kind), kind.tensor_type.elem_type)
    _demand_shape(name, declared, array.shape)
    return array


def _array(name: str, value: Any, kind: TypeProto) -> Array:
    if isinstance(value, np.ndarray | np.generic | bool | int | float) or hasattr(value, "__array__"):
        try:
            return np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, or one with a gradient
            raise UsageError(f"input {name}: {_what(value)} given that is no array: {error}") from error
    raise UsageError(f"input {name}: {_what(value)} given, the model takes an array ({type_text(kind)})")


def _of_type(name: str, array: Array, elem_type: int) -> Array:
    if elem_type == TensorProto.UNDEFINED:
        return array
    if elem_type == TensorProto.STRING:
        return _texts(name, array)
    expected = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    if array.dtype.kind == "V" and array.dtype.names is None and array.dtype.itemsize == expected.itemsize:
        return array.view(expected)  # how NumPy stores what it has no name for, such as bfloat16
    if array.dtype != expected:
        raise UsageError(f"input {name}: {array.dtype} given, the model takes {expected}")
    return array.astype(expected, copy=False)


def _texts(name: str, array: Array) -> Array:
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind not in "UO" or not all(isinstance(item, str) for item in array.ravel()):
        raise UsageError(f"input {name}: {array.dtype} given, the model takes strings")
    return array.astype(object)


def _what(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _demand_shape(name: str, value: ValueInfoProto, shape: Shape) -> None:
    problem = mismatch(value, shape)
    if problem is not None:
        raise UsageError(f"input {name}: shape [{', '.join(map(str, shape))}] does not fit, {problem}")
