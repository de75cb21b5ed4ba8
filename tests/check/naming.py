"""Models under other names: what an exporter that counts its values would have written."""

from __future__ import annotations

import random

from onnx import ModelProto


def renamed(model: ModelProto, seed: int = 0) -> tuple[ModelProto, dict[str, str]]:
    """A copy in which nodes have no names, and values and initializers others in random order; old name -> new."""
    copied = ModelProto()
    copied.CopyFrom(model)
    kept = {value.name for value in (*copied.graph.input, *copied.graph.output)}
    names = [name for node in copied.graph.node for name in node.output if name]
    names += [tensor.name for tensor in copied.graph.initializer]
    names = [name for name in dict.fromkeys(names) if name not in kept]
    numbers = list(range(len(names)))
    random.Random(seed).shuffle(numbers)
    new = {name: f"v{number}" for name, number in zip(names, numbers, strict=True)}
    for node in copied.graph.node:
        node.name = ""
        for listed in (node.input, node.output):
            listed[:] = [new.get(name, name) for name in listed]
    for tensor in copied.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    del copied.graph.value_info[:]
    return copied, new


def numbered(model: ModelProto, start: int) -> ModelProto:
    """A copy in which computed values are called by numbers in the order of the nodes, as by an exporter."""
    copied = ModelProto()
    copied.CopyFrom(model)
    kept = {value.name for value in (*copied.graph.input, *copied.graph.output)}
    names = [name for node in copied.graph.node for name in node.output if name and name not in kept]
    new = {name: str(start + position) for position, name in enumerate(names)}
    for node in copied.graph.node:
        for listed in (node.input, node.output):
            listed[:] = [new.get(name, name) for name in listed]
    del copied.graph.value_info[:]
    return copied
