"""A site -> the same site cut out of both models and run on its own, on both sides of every kink.

before: ... -> x -> [LeakyRelu] -> y -> ...        x = kink + d, kink - d  ->  y of before against y of after
after:  ... -> x -> [Mul, Max]  -> y -> ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from onnxact.check.compare import compare
from onnxact.check.graph import initializer_names, producers, subgraphs
from onnxact.check.inputs import signed_values
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.verdict import OutputEvidence, Run, SiteEvidence, SiteProbe, Tolerance

Array = npt.NDArray[Any]

_DISTANCES = 4096


def on_its_own(
    item: SiteEvidence, before: Subject, after: Subject, tolerance: Tolerance, *, provider: str = "cpu"
) -> SiteEvidence:
    """`item` with what the site does on its own in both models, on both sides of every kink, in every element.

    Needs the site's input and output under the same names in both models, and only constants read in between. Where
    both do the same, branches that the inputs missed count as reached. Where they do not, the models need not differ
    (what follows may hide it, or no input lead there), but the site is no evidence for them being the same.
    """
    if item.site.scope or not item.elements:
        return item
    sessions = [_cut_out(subject, item, provider) for subject in (before, after)]
    problems = [problem for problem in sessions if isinstance(problem, str)]
    if problems:
        return replace(item, alone=f"not run: {problems[0]}")
    differences = _differences(item, [session for session in sessions if isinstance(session, Session)], tolerance)
    text = next(differences, None)
    return replace(item, alone="same", reached=True) if text is None else replace(item, alone=f"differs: {text}")


def isolate(model: ModelProto, probe: SiteProbe, elem_type: int) -> ModelProto | str:
    """The nodes between the input and the output of a site as a model of one input and one output, or why not.

    The input has the element type given and no declared shape.
    """
    nodes, stored = producers(model.graph.node), initializer_names(model.graph)
    wanted: set[str] = set()
    pending = [probe.output]
    while pending:
        name = pending.pop()
        if name in wanted or name in {probe.input, ""}:
            continue
        wanted.add(name)
        if name in stored:
            continue
        node = nodes.get(name)
        if node is None or any(True for _ in subgraphs(node)):
            return f"it also reads {name!r}" if node is None else f"node {node.name or name!r} holds a body"
        pending.extend(node.input)
    return _submodel(model, probe, elem_type, wanted)


def _submodel(model: ModelProto, probe: SiteProbe, elem_type: int, wanted: set[str]) -> ModelProto:
    part = ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    graph = part.graph
    graph.name = "site"
    graph.node.extend(node for node in model.graph.node if wanted.intersection(node.output))
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    graph.sparse_initializer.extend(item for item in model.graph.sparse_initializer if item.values.name in wanted)
    graph.input.append(helper.make_tensor_value_info(probe.input, elem_type, None))
    graph.output.add().name = probe.output
    return part


def _cut_out(subject: Subject, item: SiteEvidence, provider: str) -> Session | str:
    part = isolate(subject.model, item.site, _elem_type(item))
    if isinstance(part, str):
        return part
    session = open_session(Subject(part, None, subject.folder), provider, optimise=False)
    return str(session) if isinstance(session, RunFailure) else session


def _differences(item: SiteEvidence, sessions: list[Session], tolerance: Tolerance) -> Iterator[str]:
    run = Run(str(item.site), sessions[0].provider, False)
    for values in _all_sides(item):
        results = [run_session(session, {item.site.input: values}) for session in sessions]
        failures = [str(result) for result in results if isinstance(result, RunFailure)]
        yield from failures
        if not failures:
            yield from (evidence.reason for evidence in _compare(item, run, results, tolerance))


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
