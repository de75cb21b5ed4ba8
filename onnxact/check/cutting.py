"""(graph, value, values at which to stop) -> the nodes that make it from those, as a model that can be run alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnxact.check.fingerprint import Indexed
from onnxact.check.region import behind, reads
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject

Opened = Session | RunFailure | str
"""A session, or why there is none."""


@dataclass(frozen=True)
class Part:
    """The nodes, by position, that make `output` from `inputs` and constants; nothing gives what is `lacking`."""

    graph: Indexed
    output: str
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    lacking: tuple[str, ...]

    def run(
        self, subject: Subject, values: Mapping[str, Any], provider: str, *, optimise: bool
    ) -> Any | RunFailure | str:
        """The output for these inputs; a text where the part cannot be run alone."""
        session = self.open(subject, values, provider, optimise=optimise)
        return session if isinstance(session, str) else self.result(session, values)

    def result(self, session: Opened, values: Mapping[str, Any]) -> Any | RunFailure:
        """The output of a session of this part for these inputs."""
        if not isinstance(session, Session):
            return session if isinstance(session, RunFailure) else RunFailure("load", session, of_model=False)
        found = run_session(session, {name: values[name] for name in self.inputs})
        return found if isinstance(found, RunFailure) else found[self.output]

    def open(
        self, subject: Subject, values: Mapping[str, Any], provider: str, *, optimise: bool, threads: int = 0
    ) -> Opened:
        """A session for inputs of these types; a text where the part cannot be run alone. See open_session."""
        if self.lacking:
            return f"nothing gives {', '.join(self.lacking)}"
        odd = [name for name in self.inputs if not isinstance(values.get(name), np.ndarray)]
        if odd:
            return f"{', '.join(odd)} is no tensor"
        model = self.model(subject.model, values)
        return open_session(replace(subject, model=model, path=None), provider, optimise=optimise, threads=threads)

    def model(self, source: ModelProto, values: Mapping[str, Any]) -> ModelProto:
        """The part of `source` alone, for inputs of these types."""
        model = ModelProto(ir_version=source.ir_version)
        model.opset_import.extend(source.opset_import)
        if any(self.graph.nodes[index].domain for index in self.nodes):
            model.functions.extend(source.functions)
        graph = model.graph
        graph.name = "part"
        graph.node.extend(self.graph.nodes[index] for index in self.nodes)
        needed = {name for index in self.nodes for name in reads(self.graph.nodes[index])} - set(self.inputs)
        graph.initializer.extend(item for item in source.graph.initializer if item.name in needed)
        graph.sparse_initializer.extend(item for item in source.graph.sparse_initializer if item.values.name in needed)
        for name in self.inputs:
            graph.input.append(helper.make_tensor_value_info(name, _elem_type(values[name]), None))
        graph.output.add().name = self.output
        return model


def cut(graph: Indexed, output: str, stops: Collection[str], given: Collection[str]) -> Part:
    """Cut out what makes `output`, up to `stops` and the inputs that are `given`."""
    ends = {*stops, *given} - {output}
    nodes, open_ends = behind(graph.nodes, graph.made_by, output, ends)
    entering = {name for index in nodes for name in reads(graph.nodes[index])} & ends
    stored = {item.name for item in graph.graph.initializer} | set(graph.stored)
    return Part(graph, output, tuple(nodes), tuple(sorted(entering)), tuple(sorted(open_ends - stored)))


def _elem_type(array: Any) -> int:
    if array.dtype.name == "bfloat16":
        return TensorProto.BFLOAT16
    return helper.np_dtype_to_tensor_dtype(array.dtype)
