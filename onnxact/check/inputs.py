"""(model, seed) -> values for every graph input that needs one: signed, of many magnitudes, within what reads them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto, helper

from onnxact.check.graph import elem_type_text, overridable_inputs, required_inputs, type_text
from onnxact.check.ranges import Range, integer_range, with_default
from onnxact.check.sizes import DEFAULT, Guess, Shape, bind, concrete, mismatch
from onnxact.errors import ModelError, UsageError

Array = npt.NDArray[Any]

_WORDS = ("", "a", "B", "onnx", "Überprüfung", "0.5", "two words")
_GIVE = "give one with --load-inputs (inputs= in Python)"
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_SMALL_INTEGERS = {TensorProto.UINT8, TensorProto.INT8}
_INTEGERS = _SMALL_INTEGERS | {
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
}


class NoInputError(UsageError):
    """A graph input of a type for which no value can be made up; the message names it."""


@dataclass(frozen=True)
class Feed:
    """One set of inputs, and how it came about."""

    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class _Recipe:
    """What the value of one input depends on."""

    model: ModelProto
    name: str
    shape: Shape
    seed: int
    rng: np.random.Generator


def make_inputs(
    model: ModelProto,
    *,
    seed: int,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    given: Mapping[str, Any] | None = None,
    guess: Guess = DEFAULT,
) -> dict[str, Any]:
    """A value for every graph input without an initializer; the same arguments give the same values.

    Floating inputs: half from N(0, 1), half of log-uniform magnitude 1e-3..1e1 and random sign, one in 64 zero.
    Integer inputs: within what reads them (see ranges), else 0..2, 8-bit ones anything. One-element bools are True for
    even seeds and False for odd ones. `given` values are taken as they are. Dimensions of one symbol are equal; what
    the model leaves open is `guess`. Sequences get two elements, optionals a value.

    Raises UsageError for names, shapes or types that do not fit the model, NoInputError for a type that NumPy or ONNX
    Runtime's Python interface lacks.
    """
    given = {} if given is None else given
    shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    _demand_known(model.graph, [*shapes, *given])
    _demand_fitting(model.graph, shapes, given)
    required = required_inputs(model.graph)
    sizes = bind(required, {**shapes, **_array_shapes(given)}, guess)
    rng = np.random.default_rng(seed)
    made = {name: given[name] for name in overridable_inputs(model.graph) if name in given}
    for value in required:
        shape = shapes.get(value.name, concrete(value, sizes, guess))
        recipe = _Recipe(model, value.name, shape, seed, rng)
        made[value.name] = given[value.name] if value.name in given else _of_type(value.type, recipe)
    return made


def load_inputs(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Raises ModelError where it is missing or no .npz; pickles are refused."""
    try:
        with Path(path).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ModelError(f"{path} holds one array without a name; an .npz with one array per input is expected")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a readable .npz file: {error}") from error


def signed_values(rng: np.random.Generator, shape: Shape) -> Array:
    """float64 values of both signs and many magnitudes, some of them zero (see make_inputs)."""
    magnitude = 10.0 ** rng.uniform(-3, 1, shape)
    logarithmic = np.where(rng.random(shape) < 0.5, magnitude, -magnitude)
    values = np.where(rng.random(shape) < 0.5, rng.standard_normal(shape), logarithmic)
    return np.where(rng.random(shape) < 1 / 64, 0.0, values)


def moved(values: Mapping[str, Any], scale: float, shift: float) -> dict[str, Any]:
    """The same inputs with every floating array x replaced by scale * x + shift, in its own dtype."""
    return {name: _moved(value, scale, shift) for name, value in values.items()}


def is_float(value: object) -> bool:
    """Whether `value` is a floating array, ml_dtypes' bfloat16 included."""
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16")


def _moved(value: Any, scale: float, shift: float) -> Any:
    if not is_float(value):
        return value
    with np.errstate(over="ignore"):
        return (value.astype(np.float64) * scale + shift).astype(value.dtype)


def _demand_known(graph: GraphProto, names: Iterable[str]) -> None:
    known = [value.name for value in required_inputs(graph)] + overridable_inputs(graph)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"the model has no input {', '.join(unknown)}; its inputs: {', '.join(known) or 'none'}")


def _demand_fitting(graph: GraphProto, shapes: Mapping[str, Shape], given: Mapping[str, Any]) -> None:
    for value in graph.input:
        if value.name in shapes:
            _demand_shape(value, shapes[value.name])
        array = given.get(value.name)
        if isinstance(array, np.ndarray):
            _demand_shape(value, array.shape)
            _demand_dtype(value, array)


def _demand_shape(value: ValueInfoProto, shape: Shape) -> None:
    problem = mismatch(value, shape)
    if problem is not None:
        raise UsageError(f"input {value.name}: shape [{', '.join(map(str, shape))}] does not fit, {problem}")


def _demand_dtype(value: ValueInfoProto, array: Array) -> None:
    elem_type = value.type.tensor_type.elem_type
    if elem_type in {TensorProto.UNDEFINED, TensorProto.STRING}:
        return
    expected = helper.tensor_dtype_to_np_dtype(elem_type)
    if array.dtype != expected:
        raise UsageError(f"input {value.name}: {array.dtype} given, the model takes {expected}")


def _array_shapes(given: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: value.shape for name, value in given.items() if isinstance(value, np.ndarray)}


def _of_type(kind: TypeProto, recipe: _Recipe) -> Any:
    if kind.HasField("tensor_type"):
        return _tensor(kind.tensor_type.elem_type, recipe)
    if kind.HasField("sequence_type") and kind.sequence_type.elem_type.HasField("tensor_type"):
        return [_of_type(kind.sequence_type.elem_type, recipe) for _ in range(2)]
    if kind.HasField("optional_type"):
        return _of_type(kind.optional_type.elem_type, recipe)
    raise NoInputError(f"input {recipe.name} is of type {type_text(kind)}, for which no value can be made up; {_GIVE}")


def _tensor(elem_type: int, recipe: _Recipe) -> Array:
    if elem_type in _FLOATS:
        return signed_values(recipe.rng, recipe.shape).astype(helper.tensor_dtype_to_np_dtype(elem_type))
    if elem_type in _INTEGERS:
        return _integers(elem_type, recipe)
    if elem_type == TensorProto.BOOL:
        return _bools(recipe)
    if elem_type == TensorProto.STRING:
        return recipe.rng.choice(np.array(_WORDS, object), recipe.shape)
    raise NoInputError(
        f"input {recipe.name} is of type {elem_type_text(elem_type)}, which cannot be fed from NumPy; {_GIVE}"
    )


def _integers(elem_type: int, recipe: _Recipe) -> Array:
    """For even seeds, one half (all, for a single element) are values that the model compares the input with."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    limits = np.iinfo(dtype)
    default = Range(limits.min, limits.max) if elem_type in _SMALL_INTEGERS else Range(0, 2)
    found = with_default(integer_range(recipe.model, recipe.name), default)
    low, high = max(found.low, limits.min), min(found.high, limits.max)
    choices = [choice for choice in found.choices if low <= choice <= limits.max]
    values = recipe.rng.integers(low, max(low, high), recipe.shape, dtype, endpoint=True)
    if not choices or recipe.seed % 2:
        return np.asarray(values)
    chosen = recipe.rng.random(recipe.shape) < (1.0 if values.size == 1 else 0.5)
    return np.where(chosen, recipe.rng.choice(np.array(choices, dtype), recipe.shape), values)


def _bools(recipe: _Recipe) -> Array:
    if int(np.prod(recipe.shape)) == 1:
        return np.full(recipe.shape, recipe.seed % 2 == 0)
    return recipe.rng.random(recipe.shape) < 0.5
