"""Models, verbs, and what must be equal however a plan was carried out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, parser
from onnx.numpy_helper import to_array

from onnxact.interop import open_source
from onnxact.model.edit import apply
from onnxact.model.view import View
from onnxact.rewrite import decompose, fuse, swap
from onnxact.rewrite.draft import Draft
from tests.laws.runtime import feeds_for, run, session, unequal

REPOSITORY = Path(__file__).parents[2]
HEAD = '<ir_version: 8, opset_import: ["" : 16, "local" : 1], producer_name: "test", producer_version: "1">'

TEXTS = {
    # Identical unnamed nodes in both branches; an activation of an outer value and one nested two levels deep.
    "if_bodies": """
        g (float[N, 4] x, bool c) => (float[N, 4] y) <float[N, 4] a> {
            a = Relu(x)
            [choice] y = If(c) <
                then_branch = t () => (float[N, 4] r) { s = Relu(a) r = Neg(s) },
                else_branch = e () => (float[N, 4] r) {
                    s = Relu(a)
                    r = If(c) <then_branch = tt () => (float[N, 4] q) { q = LeakyRelu <alpha = 0.3> (s) },
                               else_branch = ee () => (float[N, 4] q) { p = Mul(a, s) q = Relu(p) }>
                }>
        }""",
    "function": """
        g (float[N, 4] x) => (float[N, 4] y) <float[N, 4] z> {
            z = local.act <slope = 0.3> (x)
            y = local.act <slope = 0.1> (z)
        }
        <domain: "local", opset_import: ["" : 16]> act <slope> (a) => (d) {
            b = LeakyRelu <alpha: float = @slope> (a)
            c = Relu(b)
            two = Constant <value = float[1] {2.0}> ()
            d = Mul(c, two)
        }""",
    "prelu_per_channel": """
        g (float[N, 3, 5, 5] x) => (float[N, 3, 5, 5] y)
        <float[3, 1, 1] slope = {0.25, -0.5, 1.5}, float[N, 3, 5, 5] a> { a = PRelu(x, slope) y = Relu(a) }""",
    "clip_bounds": """
        g (float[N, 4] x) => (float[N, 4] y) <float low = {0.0}> {
            high = Constant <value = float {6.0}> ()
            [clip] a = Clip(x, low, high)
            b = Clip(a, , high)
            y = Clip(b, low)
        }""",
    "fan_out": """
        g (float[N, 4] x) => (float[N, 4] a, float[N, 4] y, float[N, 4] z) {
            [first] a = Relu(x) y = Mul(a, a) b = Add(a, x) z = Relu(b)
        }""",
    "trees": """
        g (float[N, 4] x) => (float[N, 4] y) <float[1] alpha = {0.2}, float[1] zero = {0.0}> {
            [scale] m = Mul(alpha, x) [leaky] a = Max(x, m) [less] n = Less(a, zero) [half] h = Mul(a, alpha)
            [where] w = Where(n, h, a) s = Sigmoid(w) [silu] y = Mul(w, s)
        }""",
}

# ONNX allows nodes of equal name; ONNX Runtime does not load them.
EQUAL_NAMES = """
    g (float[N, 4] x, bool c) => (float[N, 4] y) {
        [choice] a = If(c) <then_branch = t () => (float[N, 4] t) { t = Relu(x) },
                            else_branch = e () => (float[N, 4] e) { e = Neg(x) }>
        [choice] y = If(c) <then_branch = tt () => (float[N, 4] t) { k = Neg(a) t = Sigmoid(k) },
                            else_branch = ee () => (float[N, 4] e) { e = Relu(a) }>
    }"""

COMPUTED_SLOPE = """
    g (float[N, 3, 5, 5] x, float[3, 1, 1] s) => (float[N, 3, 5, 5] y) <float[N, 3, 5, 5] a> {
        a = PRelu(x, s)
        y = Neg(a)
    }"""

Verb = Callable[[View], Draft]

VERBS: dict[str, Verb] = {
    "swap_relu": lambda view: swap.plan(view, "relu", swap.target("leaky_relu", {"alpha": 0.2})),
    "swap_to_prelu": lambda view: swap.plan(view, "relu", swap.target("prelu", {"slope": 0.1}, per_channel=True)),
    "decompose": decompose.plan,
    "decompose_where": lambda view: decompose.plan(view, form="where"),
    "decompose_mul_abs_add": lambda view: decompose.plan(view, form="mul-abs-add"),
    "fuse": fuse.plan,
}


def parse(text: str) -> ModelProto:
    return parser.parse_model(HEAD + text)


def models() -> dict[str, Callable[[], ModelProto]]:
    """Name -> a function that gives the model."""

    def from_text(text: str) -> Callable[[], ModelProto]:
        return lambda: parse(text)

    def from_file(path: Path) -> Callable[[], ModelProto]:
        return lambda: onnx.load(path)

    files = {path.stem: from_file(path) for path in sorted((REPOSITORY / "models").glob("*.onnx"))}
    return files | {name: from_text(text) for name, text in TEXTS.items()}


def corpus() -> list[Path]:
    """Return every model in the folder that ONNXACT_CORPUS names."""
    folder = os.environ.get("ONNXACT_CORPUS")
    return sorted(Path(folder).rglob("*.onnx")) if folder else []


def rewrite(model: Any, verb: Verb) -> tuple[Any, ModelProto, Draft]:
    """Return the result in the kind of the model, the ModelProto that the same plan gives, and the draft."""
    source = open_source(model)
    view = View(source.proto, source.folder)
    draft = verb(view)
    result = source.rewritten(view, draft.plan)
    apply(view, draft.plan)
    return result, source.proto, draft


def content(model: ModelProto) -> list[Any]:
    """Return what a model computes, and its names: the order of initializers and what nothing reads do not count."""
    functions = [(f.domain, f.name, list(f.input), list(f.output), _nodes(f)) for f in model.functions]
    return [_graph(model.graph), functions, model.producer_name, model.producer_version, model.ir_version]


def _graph(graph: GraphProto) -> list[Any]:
    interface = [value.SerializeToString(deterministic=True) for value in (*graph.input, *graph.output)]
    return [interface, _nodes(graph), sorted(_constants(graph))]


def _nodes(graph: GraphProto | FunctionProto) -> list[Any]:
    return [
        (node.op_type, node.domain, node.name, list(node.input), list(node.output), sorted(_attributes(node)))
        for node in graph.node
    ]


def _attributes(node: NodeProto) -> Iterator[tuple[str, Any]]:
    for attribute in node.attribute:
        is_graph = attribute.type == AttributeProto.GRAPH
        yield attribute.name, _graph(attribute.g) if is_graph else attribute.SerializeToString(deterministic=True)


def _constants(graph: GraphProto) -> Iterator[tuple[Any, ...]]:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.name in read:
            external = tensor.data_location == TensorProto.EXTERNAL
            values = tensor.SerializeToString(deterministic=True) if external else to_array(tensor).tobytes()
            yield tensor.name, tensor.data_type, tuple(tensor.dims), values


def assert_computes_the_same(one: ModelProto, other: ModelProto) -> None:
    """Compare the bits of every output."""
    for left, right in zip(outputs(one), outputs(other), strict=True):
        assert unequal(left, right, zeros=True) == ""


def outputs(model: ModelProto) -> list[Any]:
    """Run a model on ONNX Runtime, unoptimised; models of equal inputs get equal numbers."""
    running, reason = session(model)
    assert running is not None, reason
    found, reason = run(running, feeds_for(model, running))
    assert found is not None, reason
    assert len(found) == len(model.graph.output)
    return found
