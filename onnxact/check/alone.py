"""A site -> the same site cut out of both models and run on its own, on both sides of every kink.

before: ... -> x -> [LeakyRelu] -> y -> ...        x = kink + d, kink - d  ->  y of before against y of after
after:  ... -> x -> [Mul, Max]  -> y -> ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from onnxact.check.compare import compare
from onnxact.check.graph import subgraphs
from onnxact.check.inputs import signed_values
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.verdict import OutputEvidence, Run, SiteEvidence, SiteProbe, Tolerance

Array = npt.NDArray[Any]

_DISTANCES = 4096


@dataclass(frozen=True)
class Anatomy:
    """What parts are cut from: nodes with their position by output name, and stored tensors by name."""

    subject: Subject
    nodes: Mapping[str, tuple[int, NodeProto]]
    tensors: Mapping[str, TensorProto | SparseTensorProto]


def anatomy(subject: Subject) -> Anatomy:
    """Index the main graph once, for any number of sites."""
    graph = subject.model.graph
    nodes = {output: (at, node) for at, node in enumerate(graph.node) for output in node.output if output}
    dense = {tensor.name: tensor for tensor in graph.initializer}
    return Anatomy(subject, nodes, {**dense, **{tensor.values.name: tensor for tensor in graph.sparse_initializer}})


def on_its_own(
    item: SiteEvidence, before: Anatomy, after: Anatomy, tolerance: Tolerance, *, provider: str = "cpu"
) -> SiteEvidence:
    """`item` with what the site does on its own in both models, on both sides of every kink, in every element.

    Needs the site's input and output under the same names in both models, and only constants read in between. Where
    both do the same, branches that the inputs missed count as reached. Where they do not, the models need not differ
    (what follows may hide it, or no input lead there), but the site is no evidence for them being the same.
    """
    if item.site.scope or not item.elements:
        return item
    sessions = [_cut_out(source, item, provider) for source in (before, after)]
    problems = [problem for problem in sessions if isinstance(problem, str)]
    if problems:
        return replace(item, alone=f"not run: {problems[0]}")
    found = _run_both(item, [session for session in sessions if isinstance(session, Session)], tolerance)
    return replace(item, alone=found, reached=item.reached or found == "same")


def isolate(source: Anatomy, probe: SiteProbe, elem_type: int) -> ModelProto | str:
    """The nodes between the input and the output of a site as a model of one input and one output, or why not.

    The input has the element type given and no declared shape.
    """
    wanted: set[str] = set()
    pending = [probe.output]
    while pending:
        name = pending.pop()
        if name in wanted or name in {probe.input, ""}:
            continue
        wanted.add(name)
        if name in source.tensors:
            continue
        if name not in source.nodes:
            return f"it also reads {name!r}"
        node = source.nodes[name][1]
        if any(True for _ in subgraphs(node)):
            return f"node {node.name or name!r} holds a body"
        pending.extend(node.input)
    return _submodel(source, probe, elem_type, wanted)


def _submodel(source: Anatomy, probe: SiteProbe, elem_type: int, wanted: set[str]) -> ModelProto:
    model = source.subject.model
    part = ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    graph = part.graph
    graph.name = "site"
    placed = {source.nodes[name][0]: source.nodes[name][1] for name in wanted if name in source.nodes}
    graph.node.extend(placed[position] for position in sorted(placed))
    for name in sorted(wanted & source.tensors.keys()):
        tensor = source.tensors[name]
        if isinstance(tensor, TensorProto):
            graph.initializer.append(tensor)
        else:
            graph.sparse_initializer.append(tensor)
    graph.input.append(helper.make_tensor_value_info(probe.input, elem_type, None))
    graph.output.add().name = probe.output
    return part


def _cut_out(source: Anatomy, item: SiteEvidence, provider: str) -> Session | str:
    part = isolate(source, item.site, _elem_type(item))
    if isinstance(part, str):
        return part
    session = open_session(Subject(part, None, source.subject.folder), provider, optimise=False, threads=1)
    return str(session) if isinstance(session, RunFailure) else session


def _run_both(item: SiteEvidence, sessions: list[Session], tolerance: Tolerance) -> str:
    run = Run(str(item.site), sessions[0].provider, False)
    for values in _all_sides(item):
        results = [run_session(session, {item.site.input: values}) for session in sessions]
        failures = [result for result in results if isinstance(result, RunFailure)]
        if failures:
            return f"{'not run' if len(failures) == 2 else 'differs'}: it {failures[0]}"
        reason = next((evidence.reason for evidence in _compare(item, run, results, tolerance)), None)
        if reason is not None:
            return f"differs: {reason}"
    return "same"


def _compare(item: SiteEvidence, run: Run, results: list[Any], tolerance: Tolerance) -> Iterator[OutputEvidence]:
    first, second = (result[item.site.output] for result in results)
    found = compare(item.site.output, run, first, second, tolerance=tolerance, noise={})
    return (evidence for evidence in found if evidence.outcome != "equivalent")


def _all_sides(item: SiteEvidence) -> Iterator[Array]:
    """Every element above each kink, then every element as far below it; without a kink, of both signs.

    4,096 distances between 1e-3 and 10, repeated: a site has the same few constants everywhere.
    """
    distance = np.resize(np.abs(signed_values(np.random.default_rng(0), (_DISTANCES,))) + 1e-3, item.shape)
    for kink in item.site.kinks or (0.0,):
        yield np.asarray(kink + distance, _dtype(item))
        yield np.asarray(kink - distance, _dtype(item))


def _elem_type(item: SiteEvidence) -> int:
    if item.dtype == "bfloat16":
        return TensorProto.BFLOAT16
    return helper.np_dtype_to_tensor_dtype(np.dtype(item.dtype))


def _dtype(item: SiteEvidence) -> np.dtype[Any]:
    return helper.tensor_dtype_to_np_dtype(_elem_type(item))
