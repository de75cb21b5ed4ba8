"""(integer graph input, what reads it, seed) -> its values: within what bounds them, else signed and of all sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from onnxact.check.drawing import signed_integers
from onnxact.check.ranges import UNLIMITED, Range, range_of
from onnxact.check.readers import Use
from onnxact.check.sizes import Shape
from onnxact.errors import UsageError

Array = npt.NDArray[Any]

_MODEST = 100
"""The largest magnitude of integers that nothing limits, for even seeds."""
_MOST = 1024
"""The largest value that is tried where it decides how much is computed."""
_SMALL_INTEGERS = {TensorProto.UINT8, TensorProto.INT8}


@dataclass(frozen=True)
class InputRecipe:
    """What the value of one input depends on; `number` counts the inputs, `named`: it is by name that it has limits;
    `decides`: how large its values are decides how much is computed.
    """

    name: str
    number: int
    shape: Shape
    uses: tuple[Use, ...]
    limits: tuple[float, float] | None
    named: bool
    decides: bool
    choices: tuple[int, ...]
    seed: int
    rng: np.random.Generator


def integers(elem_type: int, recipe: InputRecipe) -> Array:
    """The values of one input.

    For even seeds, one half (all, for a single element) are values that the model compares the input with.
    """
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    found = whole_limits(recipe) if recipe.limits is not None else range_of(recipe.uses)
    values = _in_range(found, dtype, recipe) if found.limited else _unlimited(elem_type, dtype, recipe)
    low, ends = found.low if found.limited else -UNLIMITED, np.iinfo(dtype)
    high = found.high if found.limited else ends.max
    choices = [choice for choice in found.choices if max(low, ends.min) <= choice <= ends.max]
    if recipe.decides and not found.limited:
        low, high = 0, _MOST
    choices += [choice for choice in recipe.choices if max(low, ends.min) <= choice <= min(high, ends.max)]
    if not choices or recipe.seed % 2:
        return values
    chosen = recipe.rng.random(recipe.shape) < (1.0 if values.size == 1 else 0.5)
    return np.where(chosen, recipe.rng.choice(np.array(choices, dtype), recipe.shape), values)


def _in_range(found: Range, dtype: Any, recipe: InputRecipe) -> Array:
    ends = np.iinfo(dtype)
    low, high = max(found.low, ends.min), min(found.high, ends.max)
    return np.asarray(recipe.rng.integers(low, max(low, high), recipe.shape, dtype, endpoint=True))


def _unlimited(elem_type: int, dtype: Any, recipe: InputRecipe) -> Array:
    """8-bit ones anything; 0..2 where the size decides an amount; else signed, up to 100 for even seeds, up to the
    largest of the dtype for odd ones. A single element is 0..2 for even seeds, large for odd ones, and in turn below 0.
    """
    if elem_type in _SMALL_INTEGERS:
        return _in_range(Range(), dtype, recipe)
    is_single = math.prod(recipe.shape) == 1
    if recipe.decides or (is_single and recipe.seed % 2 == 0):
        return _in_range(Range(0, 2), dtype, recipe)
    ends = np.iinfo(dtype)
    if not is_single:
        return signed_integers(recipe.rng, recipe.shape, dtype, int(ends.max) if recipe.seed % 2 else _MODEST)
    above, below = np.sort(signed_integers(recipe.rng, (2,), dtype, int(ends.max)))[::-1]
    return np.full(recipe.shape, below if recipe.seed % 4 == 1 else above, dtype)


def whole_limits(recipe: InputRecipe) -> Range:
    """The limits of a caller, in whole numbers. Raises UsageError where there is none within them."""
    low, high = recipe.limits or (0.0, 0.0)
    if math.ceil(low) > math.floor(high):
        raise UsageError(f"value range of {recipe.name}: no whole number lies in [{low:g}, {high:g}]")
    return Range(math.ceil(low), math.floor(high))
