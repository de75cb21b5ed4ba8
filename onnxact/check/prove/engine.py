"""Bit patterns -> what each form makes of them, as bit patterns, in buffers that are made once.

    load(patterns), or start(first) and advance() for consecutive ones;  run();  outputs[form][:count]

HostEngine runs a model on an execution provider with its inputs and outputs in NumPy's memory; NumpyEngine evaluates
the forms op by op in the dtype. `same` compares two whole outputs, which is all that most calls need.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from onnx import ModelProto

from onnxact.activation.catalog import Form
from onnxact.activation.numeric import evaluate
from onnxact.activation.primitives import Array
from onnxact.check.prove.model import INPUT, Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.providers import create
from onnxact.model.schema import FLOAT_TYPES

CALL = 1 << 15
"""Values in a call: x, two outputs and what is between them stay in 1 MB of cache, and a call is cheap next to them."""
_HUGE_PAGE = 1 << 21
_LINE = 64
_ELEM_TYPES = {name: int(elem_type) for elem_type, name in FLOAT_TYPES.items()}


class Results(Protocol):
    """A call that was made: its input, and what each form made of it, in the order of the forms."""

    length: int

    def input(self) -> Array:
        """Return the patterns taken, [length]."""

    def output(self, index: int) -> Array:
        """Return what a form made of them, [lanes, length]."""


class Engine(Results, Protocol):
    """What computes forms."""

    def load(self, patterns: Array) -> None:
        """Take at most `length` patterns as the input of the next run."""

    def start(self, first: int) -> None:
        """Take `length` consecutive patterns from `first` on."""

    def advance(self) -> None:
        """Take the patterns that follow."""

    def run(self) -> None:
        """Compute."""

    def same(self, left: int, right: int) -> bool:
        """Tell whether two outputs have the same bits throughout."""

    def skim(self, pairs: Sequence[tuple[int, int]], calls: int) -> int:
        """Run and advance, at most `calls` times, while every pair of outputs is the same; return how often that was.

        After fewer than `calls` the buffers hold the first call at which one is not.
        """


class Buffers:
    """Aligned memory for x and the outputs, and the patterns in it."""

    def __init__(self, space: Space, count: int, lanes: int, length: int) -> None:
        self.space, self.length, self.lanes = space, length, max(lanes, 1)
        x, *self.outputs = _aligned(count + 1, self.lanes * length, space.word)
        self.x = x.reshape(self.lanes, length)
        self._iota = np.arange(length, dtype=space.word)
        self._step = np.array(length, space.word)

    def load(self, patterns: Array) -> None:
        """Take at most `length` patterns; what is left over keeps what it had."""
        self.x[:, : patterns.size] = patterns

    def start(self, first: int) -> None:
        """Take `length` consecutive patterns from `first` on."""
        np.add(self._iota, self.space.word.type(first), out=self.x[0])
        self.x[1:] = self.x[0]

    def advance(self) -> None:
        """Take the patterns that follow."""
        np.add(self.x, self._step, out=self.x)

    def input(self) -> Array:
        """Return the patterns taken, [length]."""
        return np.asarray(self.x[0])

    def output(self, index: int) -> Array:
        """Return an output, [lanes, length]."""
        return self.outputs[index].reshape(self.lanes, self.length)

    def same(self, left: int, right: int) -> bool:
        """Tell whether two outputs have the same bits throughout."""
        return not _differ(*self._operands(left, right))

    def run(self) -> None:
        """Compute."""
        raise NotImplementedError

    def skim(self, pairs: Sequence[tuple[int, int]], calls: int) -> int:
        """Run and advance while every pair of outputs is the same; return how often that was.

        Nearly all calls of a proof that compares bits are made here, so that every name is looked up before.
        """
        run, differ, add, x, step = self.run, _differ, np.add, self.x, self._step
        operands = [self._operands(left, right) for left, right in pairs]
        for number in range(calls):
            run()
            for left, right, size in operands:
                if differ(left, right, size):
                    return number
            add(x, step, x)
        return calls

    def _operands(self, left: int, right: int) -> tuple[Any, Any, Any]:
        """Return what `_differ` takes: addresses and a size for memcmp, arrays for NumPy."""
        first, second = self.outputs[left], self.outputs[right]
        if _MEMCMP is None:
            return first, second, first.nbytes
        left_at, right_at = ctypes.c_void_p(first.ctypes.data), ctypes.c_void_p(second.ctypes.data)
        return left_at, right_at, ctypes.c_size_t(first.nbytes)


class HostEngine(Buffers):
    """A model on an execution provider, one thread, optimisation off: nothing is fused, and no kernel meets itself."""

    def __init__(self, model: ModelProto, subject: Subject, forms: Sequence[str], provider: str, length: int) -> None:
        super().__init__(Space(subject.dtype), len(forms), subject.lanes, length)
        self.session = create(model.SerializeToString(), provider, optimise=False, threads=1)
        shape = [subject.lanes, length] if subject.lanes else [length]
        elem_type = element_type(subject.dtype)
        binding = self.session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, elem_type, shape, self.x.ctypes.data)
        for name, buffer in zip(forms, self.outputs, strict=True):
            binding.bind_output(subject.output(name), "cpu", 0, elem_type, shape, buffer.ctypes.data)
        self.run = partial(self.session.run_with_iobinding, binding)  # type: ignore[method-assign]


class NumpyEngine(Buffers):
    """The forms evaluated by NumPy op by op in the dtype, as a runtime that rounds every op correctly would."""

    def __init__(self, subject: Subject, forms: Mapping[str, Form], length: int) -> None:
        super().__init__(Space(subject.dtype), len(forms), subject.lanes, length)
        self._subject = subject
        self._terms = [form.expr for form in forms.values()]

    def run(self) -> None:
        """Evaluate every form."""
        x = self.space.numbers(self.x if self._subject.lanes else self.x[0])
        for term, buffer in zip(self._terms, self.outputs, strict=True):
            value = np.ascontiguousarray(evaluate(term, x, self._subject.parameters)).view(self.space.word)
            buffer[:] = value.reshape(-1)


def element_type(dtype: str) -> Any:
    """Return what a binding takes: NumPy's type, or ONNX's number for bfloat16, which NumPy does not have."""
    return _ELEM_TYPES[dtype] if dtype == "bfloat16" else Space(dtype).kind.type


def _aligned(count: int, size: int, word: np.dtype[Any]) -> list[Array]:
    """Return arrays side by side in one huge page where there are such, each on a cache line of its own."""
    stride = -(-size * word.itemsize // _LINE) * _LINE + 5 * _LINE
    memory = np.zeros(max(count * stride, 2 * _HUGE_PAGE) + _HUGE_PAGE, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE
    begins = [start + number * stride for number in range(count)]
    return [memory[begin : begin + size * word.itemsize].view(word) for begin in begins]


def _memcmp() -> Callable[[Any, Any, Any], Any] | None:
    """Return C's memcmp, several times as fast as NumPy's `==` and `all`; None where the C library is not at hand."""
    try:
        found = ctypes.CDLL(None).memcmp
    except (OSError, TypeError, AttributeError):
        return None
    found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int
    return found


def _unequal(left: Array, right: Array, _size: object) -> bool:
    return not np.array_equal(left, right)


_MEMCMP = _memcmp()
_differ: Callable[[Any, Any, Any], Any] = _MEMCMP or _unequal
