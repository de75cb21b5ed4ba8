"""Bit patterns -> what each form makes of them, as bit patterns, in buffers that are made once.

    load(patterns), or start(first) and advance() for consecutive ones;  run();  outputs[form][:count]

HostEngine runs a model on an execution provider with its inputs and outputs in NumPy's memory; NumpyEngine evaluates
the forms op by op in the dtype. `same` compares two whole outputs, which is all that most calls need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_PAGE = 1 << 12
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
    """Aligned memory for x and the outputs, and the patterns in it.

    The memory of each is a bytearray: two of these are compared at once, by C's memcmp, several times as fast as by
    NumPy's `==` and `all`.
    """

    def __init__(self, space: Space, count: int, lanes: int, length: int) -> None:
        self.space, self.length, self.lanes = space, length, max(lanes, 1)
        size = self.lanes * length * space.word.itemsize
        x, *self._memory = (_aligned(size, number) for number in range(count + 1))
        self.x = np.frombuffer(x, space.word).reshape(self.lanes, length)
        self.outputs = [np.frombuffer(memory, space.word) for memory in self._memory]
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
        return self._memory[left] == self._memory[right]

    def run(self) -> None:
        """Compute."""
        raise NotImplementedError

    def skim(self, pairs: Sequence[tuple[int, int]], calls: int) -> int:
        """Run and advance while every pair of outputs is the same; return how often that was.

        Nearly all calls of a proof that compares bits are made here, so that every name is looked up before.
        """
        run, add, x, step = self.run, np.add, self.x.reshape(-1), self._step
        memory = [(self._memory[left], self._memory[right]) for left, right in pairs]
        for number in range(calls):
            run()
            for left, right in memory:
                if left != right:
                    return number
            add(x, step, x)
        return calls


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


def _aligned(size: int, number: int) -> bytearray:
    """Return memory that begins on a cache line, for each number on another one of its page; if small, anywhere."""
    memory = bytearray(size + 2 * _PAGE)
    begin = (5 * _LINE * number - np.frombuffer(memory, np.uint8).ctypes.data) % _PAGE
    del memory[:begin], memory[size:]
    return memory
