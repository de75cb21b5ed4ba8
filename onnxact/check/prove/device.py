"""The engine for devices: inputs are made, computed with and compared on the device; only what differs comes back.

    first -> x = iota + first (int32)          generator session
    x, read as float -> op, mul-max            the forms' session
    op, mul-max, read as int32 -> how many     comparing sessions, one for each pair

An IO binding is given an address and an element type, so that one session's integers are the next one's floats without
a copy. Integer arithmetic and comparison leave every bit as it is: NaN, subnormal numbers and signs of zero count.
Dtypes of another width than 32 bits, and samples, are loaded from the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnxact.activation.primitives import Array
from onnxact.check.prove.engine import element_type
from onnxact.check.prove.model import INPUT, Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.providers import create, runtime
from onnxact.errors import ProviderError

DEVICES = {"cuda": "cuda", "rocm": "cuda"}
"""Provider -> what ONNX Runtime calls its memory (onnxruntime/core/framework/ortdevice.h)."""
DEVICE_CALL = 1 << 24
"""Values in a call: 64 MB for each buffer, and far more work than it costs to start a kernel."""
EXAMINED_CALL = 1 << 18
"""Values in a call where every value is looked at on the host."""
_WIDTH = 32


class DeviceEngine:
    """A model whose input and outputs stay on a device. `device` "cpu" runs the same sessions on the CPU, for tests."""

    def __init__(self, model: ModelProto, subject: Subject, forms: Sequence[str], provider: str, length: int) -> None:
        self.space, self.lanes = Space(subject.dtype), max(subject.lanes, 1)
        self.length = min(1 << (length // self.lanes).bit_length() - 1, self.space.total)
        self._subject, self._provider = subject, provider
        self._device = DEVICES.get(provider, "cpu")
        self.session = create(model.SerializeToString(), provider, optimise=False, threads=1)
        self._shape = [subject.lanes, self.length] if subject.lanes else [self.length]
        self._x = self._memory()
        self._outputs = [self._memory() for _ in forms]
        self._patterns = np.zeros(self.length, self.space.word)
        self._binding = self._bound([subject.output(form) for form in forms])
        self._comparing: dict[tuple[int, int], tuple[Any, Any, Any]] = {}
        self._fetched: dict[int, Array] = {}

    def load(self, patterns: Array) -> None:
        """Copy at most `length` patterns to the device."""
        self._patterns[: patterns.size] = patterns
        rows = np.ascontiguousarray(np.broadcast_to(self._patterns, (self.lanes, self.length)))
        self._x.update_inplace(rows.view(_integer(self.space)).reshape(self._shape))

    def start(self, first: int) -> None:
        """Take `length` consecutive patterns from `first` on; 32-bit ones are made on the device."""
        self._first = first
        if self.space.width != _WIDTH:
            self.load(np.arange(first, first + self.length, dtype=np.uint64).astype(self.space.word))
            return
        self._generator(first)

    def advance(self) -> None:
        """Take the patterns that follow."""
        self.start((self._first + self.length) % self.space.total)

    def run(self) -> None:
        """Compute on the device, and wait for it."""
        self._fetched.clear()
        _run(self.session, self._binding)

    def same(self, left: int, right: int) -> bool:
        """Compare two outputs on the device, as integers."""
        if self.space.width != _WIDTH:
            return bool(np.array_equal(self.output(left), self.output(right)))
        session, binding, unequal = self._comparison(left, right)
        _run(session, binding)
        return int(unequal.numpy()[0]) == 0

    def skim(self, pairs: Sequence[tuple[int, int]], calls: int) -> int:
        """Run and advance while every pair of outputs is the same; return how often that was."""
        for number in range(calls):
            self.run()
            if not all(self.same(left, right) for left, right in pairs):
                return number
            self.advance()
        return calls

    def input(self) -> Array:
        """Return the patterns as the device has them, [length]."""
        return np.asarray(_words(self._x, self.space).reshape(self.lanes, self.length)[0])

    def output(self, index: int) -> Array:
        """Copy an output from the device, [lanes, length]."""
        if index not in self._fetched:
            self._fetched[index] = _words(self._outputs[index], self.space).reshape(self.lanes, self.length)
        return self._fetched[index]

    def _memory(self) -> Any:
        """Return device memory for one value of the forms' session, typed as integers of the same width."""
        factory = runtime().OrtValue.ortvalue_from_shape_and_type
        return factory(self._shape, _integer(self.space).type, self._device, 0)

    def _bound(self, outputs: Sequence[str]) -> Any:
        """Return the binding in which the integers are read as floats."""
        binding, kind = self.session.io_binding(), element_type(self._subject.dtype)
        binding.bind_input(INPUT, self._device, 0, kind, self._shape, self._x.data_ptr())
        for name, memory in zip(outputs, self._outputs, strict=True):
            binding.bind_output(name, self._device, 0, kind, self._shape, memory.data_ptr())
        return binding

    @cached_property
    def _generator(self) -> Any:
        session = self._helper(_generator_model(self._shape))
        iota = runtime().OrtValue.ortvalue_from_numpy(np.arange(self.length, dtype=np.int32), self._device, 0)

        def generate(first: int) -> None:
            start = np.array([first], np.uint32).view(np.int32)
            binding = session.io_binding()
            binding.bind_ortvalue_input("iota", iota)
            binding.bind_ortvalue_input("start", runtime().OrtValue.ortvalue_from_numpy(start, self._device, 0))
            binding.bind_ortvalue_output("x", self._x)
            _run(session, binding)

        return generate

    def _comparison(self, left: int, right: int) -> tuple[Any, Any, Any]:
        if (left, right) not in self._comparing:
            session = self._helper(_comparing_model(self._shape))
            unequal = runtime().OrtValue.ortvalue_from_numpy(np.zeros(1, np.int32), "cpu", 0)
            binding = session.io_binding()
            binding.bind_ortvalue_input("a", self._outputs[left])
            binding.bind_ortvalue_input("b", self._outputs[right])
            binding.bind_ortvalue_output("unequal", unequal)
            self._comparing[left, right] = (session, binding, unequal)
        return self._comparing[left, right]

    def _helper(self, model: ModelProto) -> Any:
        """Return a session of ours on the device; ProviderError where it does not get it."""
        session = create(model.SerializeToString(), self._provider, optimise=False, threads=1)
        if self._device != "cpu" and session.get_providers()[0] != self.session.get_providers()[0]:
            raise ProviderError(f"provider {self._provider}: a second session did not get it")
        return session


def _run(session: Any, binding: Any) -> None:
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _integer(space: Space) -> np.dtype[Any]:
    return np.dtype(f"i{space.kind.itemsize}")


def _words(memory: Any, space: Space) -> Array:
    return np.ascontiguousarray(memory.numpy()).view(space.word)


def _generator_model(shape: Sequence[int]) -> ModelProto:
    """x = iota + start, the row of iota repeated for every slope."""
    nodes = [helper.make_node("Add", ["iota", "start"], ["row" if len(shape) == 2 else "x"])]
    if len(shape) == 2:
        nodes.append(helper.make_node("Expand", ["row", "shape"], ["x"]))
    constants = [helper.make_tensor("shape", TensorProto.INT64, [2], list(shape))] if len(shape) == 2 else []
    inputs = {"iota": list(shape[-1:]), "start": [1]}
    return _model(nodes, inputs, {"x": list(shape)}, constants)


def _comparing_model(shape: Sequence[int]) -> ModelProto:
    """unequal = sum of int32(not a = b)."""
    nodes = [
        helper.make_node("Equal", ["a", "b"], ["equal"]),
        helper.make_node("Not", ["equal"], ["differs"]),
        helper.make_node("Cast", ["differs"], ["ones"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["sum", "one"], ["unequal"]),
    ]
    constants = [helper.make_tensor("one", TensorProto.INT64, [1], [1])]
    return _model(nodes, {"a": list(shape), "b": list(shape)}, {"unequal": [1]}, constants)


def _model(nodes: Any, inputs: dict[str, list[int]], outputs: dict[str, list[int]], constants: Any) -> ModelProto:
    """Return an int32 model; opset 13 has every op for int32 on CUDA (onnxruntime/docs/OperatorKernels.md)."""
    first, last = (
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name, shape in named.items()]
        for named in (inputs, outputs)
    )
    graph = helper.make_graph(list(nodes), "bits", first, last, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
