"""(model, seed) -> values for every graph input that needs one: signed, of many magnitudes, within what reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, TypeProto, helper, numpy_helper

from onnxact.check.drawing import FREE, Limits, ranged_values, signed_values
from onnxact.check.given import demand_known, demand_shapes, fitted
from onnxact.check.graph import elem_type_text, type_text
from onnxact.check.integers import InputRecipe, integers, whole_limits
from onnxact.check.magnitudes import decides_amounts
from onnxact.check.ranges import range_of
from onnxact.check.readers import Readers, Use
from onnxact.check.sizes import DEFAULT, Guess, Shape, Sizes, find_sizes
from onnxact.check.steering import is_positive, steering_value
from onnxact.errors import UsageError

Array = npt.NDArray[Any]

_WORDS = ("", "a", "B", "onnx", "Überprüfung", "0.5", "two words")
_GIVE = "give one with --load-inputs (inputs= in Python)"
_SMALLEST = 2.0**-10
"""The least that a variance or a scale gets."""
_OVERRIDABLE_FROM = 4
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_INTEGERS = {
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
}
_COMPLEX = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}


class NoInputError(UsageError):
    """A graph input of a type for which no value can be made up; the message names it."""


@dataclass(frozen=True)
class Feed:
    """One set of inputs, and how it came about.

    `steering`: the inputs that tell a node what to do (a shape, axes, ...), which a variation leaves alone. `origin`:
    the file that it was read from.
    """

    label: str
    values: Mapping[str, Any]
    steering: frozenset[str] = frozenset()
    origin: str = ""


@dataclass(frozen=True)
class Source:
    """A model, and what its made-up inputs depend on beside the seed; `choices` are integers that they may well be."""

    readers: Readers
    shapes: Mapping[str, Shape]
    limits: Limits = FREE
    guess: Guess = DEFAULT
    choices: tuple[int, ...] = ()

    @property
    def model(self) -> ModelProto:
        """The model that is fed."""
        return self.readers.model

    def uses(self, name: str, sizes: Sizes) -> tuple[Use, ...]:
        """Every use of an input; which they are depends on no seed."""
        key = name, tuple(sizes.shapes.items())
        if key not in self._uses:
            self._uses[key] = self.readers.uses(name, sizes)
        return self._uses[key]

    @cached_property
    def _uses(self) -> dict[tuple[str, tuple[tuple[str, Shape], ...]], tuple[Use, ...]]:
        return {}

    @cached_property
    def switches(self) -> dict[str, Array]:
        """The stored truth values that a caller may override; below IR version 4 every weight is an input."""
        names = set(self.readers.overridable) if self.model.ir_version >= _OVERRIDABLE_FROM else set()
        items = self.model.graph.initializer if names else ()
        stored = (item for item in items if item.data_type == TensorProto.BOOL and item.name in names)
        return {item.name: numpy_helper.to_array(item) for item in stored if item.data_location != TensorProto.EXTERNAL}

    @cached_property
    def has_large_integers(self) -> bool:
        """Whether there are integer inputs whose values nothing limits, which a model may not take after all."""
        return bool(self._unlimited)

    def lone_integers(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of a single element that are not given: an odd seed makes them large, but on one side of 0 only."""
        sizes = find_sizes(self.readers.required, {**self.shapes, **array_shapes(given)}, self.guess).shapes
        return tuple(name for name in self._unlimited if name not in given and math.prod(sizes[name]) == 1)

    @cached_property
    def _unlimited(self) -> tuple[str, ...]:
        values = (value for value in self.readers.required if _elem_type(value.type) in _INTEGERS)
        free = (v.name for v in values if v.name not in self.amounts and self.limits.of(v.name) is None)
        return tuple(name for name in free if not range_of(self.readers.uses(name)).limited)

    @cached_property
    def amounts(self) -> frozenset[str]:
        """The integer inputs that stay small: how large they are decides how much is computed, or the guess says so."""
        values = (value for value in self.readers.required if _elem_type(value.type) in _INTEGERS)
        names = (value.name for value in values)
        return frozenset(name for name in names if self.guess.small or decides_amounts(self.readers, name))


def make_inputs(
    model: ModelProto,
    *,
    seed: int,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    given: Mapping[str, Any] | None = None,
    guess: Guess = DEFAULT,
) -> dict[str, Any]:
    """A value for every graph input without an initializer; the same arguments give the same values.

    Floating inputs: half uniform of mean 0 and variance 1, half of log-uniform magnitude 1e-3..1e1 and random sign, one
    in 64 zero, one in 17 a multiple of 1/2, of 64 or more a few up to 11. Integer inputs: within what reads them (see
    ranges); 0..2 where their size decides how much is computed (see magnitudes); else signed, half within -2..2, half
    of log-uniform magnitude, up to 100 for even seeds, up to the largest of the type for odd ones; a single one is 0..2
    for even seeds, large for odd ones, below 0 for every other of these; 8-bit ones anything. What steers a node, such
    as the shape of a Reshape: something that it takes (see steering). One-element bools are True for seed 0 and False
    for seed 1; further pairs of seeds go through their combinations, and so do optionals that the model asks whether
    they are filled. Odd seeds override truth values that are stored, with the other one. `given` values are taken as
    they are. Dimensions of one symbol are equal; what the model leaves open is `guess`. Sequences get two elements.

    Raises UsageError for names, shapes or types that do not fit the model, NoInputError for a type that NumPy or ONNX
    Runtime's Python interface lacks.
    """
    shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    demand_known(model.graph, shapes)
    demand_shapes(model.graph, shapes)
    source = Source(Readers(model), shapes, guess=guess)
    return dict(made_feed(source, seed, fitted(model.graph, given or {})).values)


def made_feed(source: Source, seed: int, given: Mapping[str, Any]) -> Feed:
    """As make_inputs, from a model that is indexed; `given` is `fitted` already."""
    required = source.readers.required
    sizes = find_sizes(required, {**source.shapes, **array_shapes(given)}, source.guess)
    rng = np.random.default_rng(seed)
    made = {name: given[name] for name in source.readers.overridable if name in given}
    if seed % 2:
        made.update({name: np.asarray(~value) for name, value in source.switches.items() if name not in given})
    steering = set()
    for number, value in enumerate(required):
        if value.name in given:
            made[value.name] = given[value.name]
            continue
        name, limits = value.name, source.limits.of(value.name)
        uses = source.uses(name, sizes)
        named, decides = name in source.limits.names, name in source.amounts
        shape, choices = sizes.shapes[name], source.choices
        recipe = InputRecipe(name, number, shape, uses, limits, named, decides, choices, seed, rng)
        steered = _steered(value.type, recipe)
        made[value.name] = _of_type(value.type, recipe) if steered is None else steered
        if steered is not None:
            steering.add(value.name)
    return Feed(f"seed {seed}", made, frozenset(steering))


def truths(values: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """The single truth values among inputs, and which optionals are there: what may decide a branch."""
    single = {name: bool(value) for name, value in values.items() if _is_truth(value)}
    return tuple(sorted({**single, **{name: False for name, value in values.items() if value is None}}.items()))


def _is_truth(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == bool and value.size == 1


def array_shapes(given: Mapping[str, Any]) -> dict[str, Shape]:
    """The shapes of the values that are one array."""
    return {name: value.shape for name, value in given.items() if isinstance(value, np.ndarray)}


def is_float(value: object) -> bool:
    """Whether `value` is a floating array, ml_dtypes' bfloat16 included."""
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16")


def _elem_type(kind: TypeProto) -> int:
    """The element type of a tensor, or of those in a sequence or an optional."""
    while kind.WhichOneof("value") in {"sequence_type", "optional_type"}:
        kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
    return kind.tensor_type.elem_type


def _steered(kind: TypeProto, recipe: InputRecipe) -> Array | None:
    """The value of an input that steers a node; None for any other, and where a caller set its limits."""
    elem_type = kind.tensor_type.elem_type
    if recipe.limits is not None or elem_type not in _FLOATS | _INTEGERS | {TensorProto.BOOL}:
        return None
    found = steering_value(recipe.uses, math.prod(recipe.shape))
    if found is None:
        return None
    return np.array(found).astype(helper.tensor_dtype_to_np_dtype(elem_type)).reshape(recipe.shape)


def _of_type(kind: TypeProto, recipe: InputRecipe) -> Any:
    if kind.HasField("tensor_type"):
        return _tensor(kind.tensor_type.elem_type, recipe)
    if kind.HasField("sequence_type") and kind.sequence_type.elem_type.HasField("tensor_type"):
        return [_of_type(kind.sequence_type.elem_type, recipe) for _ in range(2)]
    if kind.HasField("optional_type"):
        asked = any(use.node.op_type == "OptionalHasElement" for use in recipe.uses)
        return None if asked and not _yes(recipe) else _of_type(kind.optional_type.elem_type, recipe)
    raise NoInputError(f"input {recipe.name} is of type {type_text(kind)}, for which no value can be made up; {_GIVE}")


def _tensor(elem_type: int, recipe: InputRecipe) -> Array:
    if elem_type in _FLOATS:
        return _floats(np.dtype(helper.tensor_dtype_to_np_dtype(elem_type)), recipe)
    if elem_type in _INTEGERS:
        return integers(elem_type, recipe)
    if elem_type == TensorProto.BOOL:
        return _bools(recipe)
    text = elem_type_text(elem_type)
    if recipe.limits is not None and recipe.named:
        raise UsageError(f"value range of {recipe.name}: it is of type {text}, which has none")
    if elem_type == TensorProto.STRING:
        return recipe.rng.choice(np.array(_WORDS, object), recipe.shape)
    if elem_type in _COMPLEX:
        raise NoInputError(f"input {recipe.name} is of type {text}, which ONNX Runtime does not take (1.31)")
    raise NoInputError(f"input {recipe.name} is of type {text}, which cannot be fed from NumPy; {_GIVE}")


def _floats(dtype: Any, recipe: InputRecipe) -> Array:
    if recipe.limits is not None:
        return ranged_values(recipe.rng, recipe.shape, dtype, *recipe.limits)
    values = signed_values(recipe.rng, recipe.shape, dtype)
    if is_positive(recipe.uses):
        values = np.maximum(np.abs(values), _SMALLEST)
    return np.asarray(values.astype(dtype, copy=False))


def _bools(recipe: InputRecipe) -> Array:
    if recipe.limits is not None and recipe.named:
        ends = whole_limits(recipe)
        return recipe.rng.integers(max(ends.low, 0), min(ends.high, 1), recipe.shape, endpoint=True).astype(bool)
    if math.prod(recipe.shape) == 1:
        trains = any((use.node.op_type, use.position) == ("Dropout", 2) for use in recipe.uses)
        return np.full(recipe.shape, _yes(recipe) != trains)
    return np.asarray(recipe.rng.random(recipe.shape) < 0.5)


def _yes(recipe: InputRecipe) -> bool:
    """All inputs True for seed 0, False for seed 1; each further pair of seeds turns other inputs round."""
    return (recipe.seed % 2 == 0) != bool(recipe.seed // 2 >> recipe.number % 16 & 1)
