from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto
from onnx_graphsurgeon.ir.tensor import LazyValues

from onnxact.errors import ModelError
from onnxact.interop import open_source
from onnxact.interop.graphsurgeon import GraphSource
from onnxact.model.view import View
from onnxact.rewrite import decompose
from tests.interop.examples import (
    COMPUTED_SLOPE,
    EQUAL_NAMES,
    REPOSITORY,
    VERBS,
    assert_computes_the_same,
    content,
    corpus,
    models,
    outputs,
    parse,
    rewrite,
)

MODELS = models()
CORPUS = corpus()


def imported(name: str) -> Any:
    return gs.import_onnx(MODELS[name]())


def exported(graph: Any) -> bytes:
    return bytes(gs.export_onnx(graph, do_type_check=False).SerializeToString(deterministic=True))


def all_graphs(graph: Any) -> Iterator[Any]:
    for root in (graph, *graph.functions):
        yield root
        yield from root.subgraphs(recursive=True)


def assert_connected(graph: Any) -> None:
    """Every tensor's producers and readers are nodes of the graph, and only those that say so themselves."""
    nodes = {id(node): node for part in all_graphs(graph) for node in part.nodes}
    for part in all_graphs(graph):
        for node in part.nodes:
            for tensor in (*node.inputs, *node.outputs):
                assert all(id(to) in nodes and any(t is tensor for t in to.inputs) for to in tensor.outputs)
                assert all(id(by) in nodes and any(t is tensor for t in by.outputs) for by in tensor.inputs)
            assert all(any(reader is node for reader in tensor.outputs) for tensor in node.inputs)
            assert all(any(maker is node for maker in tensor.inputs) for tensor in node.outputs)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", MODELS)
def test_graph_and_model_proto_become_the_same(name: str, verb: str) -> None:
    graph = imported(name)
    before = exported(graph)
    result, proto, _ = rewrite(graph, VERBS[verb])
    again = gs.export_onnx(result)
    assert content(again) == content(proto)
    assert_computes_the_same(again, proto)
    assert_connected(result)
    onnx.checker.check_model(again, full_check=True)
    assert exported(graph) == before
    assert_connected(graph)


def test_every_verb_has_something_to_do() -> None:
    for name, verb in VERBS.items():
        assert any(rewrite(imported(model), verb)[2].plan.edits for model in MODELS), name


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    try:
        graph = gs.import_onnx(model)
        before = exported(graph)
    except Exception as error:  # noqa: BLE001 - onnx-graphsurgeon raises whatever comes
        pytest.skip(f"onnx-graphsurgeon cannot import and export it: {error}")
    for verb in VERBS.values():
        result, proto, _ = rewrite(graph, verb)
        assert content(gs.export_onnx(result, do_type_check=False)) == content(proto)
    assert exported(graph) == before


def test_a_plan_without_edits_gives_an_equal_graph() -> None:
    for name in MODELS:
        graph = imported(name)
        source = GraphSource(graph)
        view = View(source.proto)
        copy = source.rewritten(view, decompose.plan(view, allowed=["Relu", "LeakyRelu", "PRelu", "Clip"]).plan)
        assert copy is not graph
        assert exported(copy) == exported(graph)


def test_nothing_is_shared_that_an_edit_or_an_export_could_change() -> None:
    graph = imported("function")
    result, _, _ = rewrite(graph, VERBS["decompose"])
    assert [node.op for node in graph.functions[0].nodes] == ["LeakyRelu", "Relu", "Constant", "Mul"]
    assert result.functions[0] is not graph.functions[0]
    assert result.functions[0]._functions is result._functions
    assert graph.functions[0]._functions is graph._functions
    nodes = [{id(node) for part in all_graphs(each) for node in part.nodes} for each in (graph, result)]
    assert not nodes[0] & nodes[1]


def test_looking_at_a_graph_does_not_add_to_its_imports() -> None:
    model = MODELS["fan_out"]()
    graph = gs.import_onnx(model)
    graph.nodes[1].domain = "elsewhere"
    rewrite(graph, VERBS["swap_relu"])
    assert [entry.domain for entry in graph.import_domains] == ["", "local"]
    assert [entry.domain for entry in model.opset_import] == ["", "local"]


def test_readers_of_a_value_stay_its_readers() -> None:
    graph = imported("fan_out")
    result, _, _ = rewrite(graph, VERBS["decompose"])
    values = result.tensors()
    root = next(node for node in result.nodes if node.name == "first")
    assert root.op != "Relu"
    assert root.outputs[0] is values["a"] is result.outputs[0]
    assert [node.op for node in values["a"].outputs] == ["Mul", "Mul", "Add"]


def test_new_values_are_declared_as_the_output_is() -> None:
    graph = imported("fan_out")
    result, _, draft = rewrite(graph, VERBS["decompose_where"])
    new_nodes = next(edit.nodes(edit.roots.index(0))[:-1] for edit in draft.plan.edits if 0 in edit.roots)
    values = result.tensors()
    for new in new_nodes:
        assert values[new.output].shape == ["N", 4]
        assert values[new.output].dtype == (np.dtype(bool) if new.makes == "truth" else np.dtype(np.float32))
    assert "truth" in {new.makes for new in new_nodes}


def test_values_made_from_slopes_alone_have_another_shape() -> None:
    model = parse(COMPUTED_SLOPE)
    result, _, _ = rewrite(gs.import_onnx(model), VERBS["decompose_mul_abs_add"])
    shapes = {node.op: [tensor.shape for tensor in node.outputs] for node in result.nodes[:3]}
    assert shapes == {"Add": [None], "Div": [None], "Mul": [["N", 3, 5, 5]]}
    again = gs.export_onnx(result)
    onnx.checker.check_model(again, full_check=True)
    assert np.allclose(outputs(again), outputs(model))


def test_a_reference_to_a_functions_attribute_is_written_and_kept() -> None:
    swapped, _, _ = rewrite(imported("function"), VERBS["swap_relu"])
    reference = gs.Node.AttributeRef("slope", float)
    assert swapped.functions[0].nodes[0].attrs["alpha"] == reference
    result, _, _ = rewrite(imported("function"), VERBS["decompose"])
    constant = next(node for node in result.functions[0].nodes if "value_float" in node.attrs)
    assert constant.attrs == {"value_float": reference}
    back = gs.export_onnx(result).functions[0]
    references = [entry.ref_attr_name for node in back.node for entry in node.attribute]
    assert references.count("slope") == 1


def test_constants_are_not_loaded_and_external_ones_not_needed() -> None:
    model = parse("""
        g (float[N, 4] x) => (float[N, 4] y) <float[4, 4] weight> { a = MatMul(x, weight) y = Relu(a) }""")
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="nowhere.bin")
    model.graph.initializer.append(weight)
    del model.graph.value_info[:]
    graph = gs.import_onnx(model)
    result, _, _ = rewrite(graph, VERBS["decompose"])
    for each in (graph, result):
        assert isinstance(each.tensors()["weight"]._values, LazyValues)
    assert gs.export_onnx(result).graph.initializer[0] == weight
    assert result.tensors()["weight"].data_location == TensorProto.EXTERNAL


def test_what_copy_would_lose_is_kept() -> None:
    model = parse("""
        g (seq(float[N, 4]) s, int64 i) => (float[N, 4] y) { a = SequenceAt(s, i) y = Relu(a) }""")
    graph = gs.import_onnx(model)
    graph.name_idx = 7
    result, _, _ = rewrite(graph, VERBS["swap_relu"])
    assert (result.producer_name, result.producer_version) == ("test", "1")
    assert result.inputs[0].type == "sequence_type"
    assert gs.export_onnx(result).graph.input[0].type.HasField("sequence_type")
    assert result.name_idx == 7


def test_branches_of_nodes_of_equal_name_are_told_apart() -> None:
    graph = gs.import_onnx(parse(EQUAL_NAMES))
    result, proto, _ = rewrite(graph, VERBS["swap_relu"])
    assert content(gs.export_onnx(result)) == content(proto)
    ops = [[node.op for node in branch.nodes] for branch in result.subgraphs()]
    assert ops == [["LeakyRelu"], ["Neg"], ["Neg", "Sigmoid"], ["LeakyRelu"]]


def test_tensors_of_equal_name_stay_apart() -> None:
    x = gs.Variable("x", np.float32, ["N", 4])
    twins = [gs.Variable("same", np.float32, ["N", 4]) for _ in range(2)]
    y = gs.Variable("y", np.float32, ["N", 4])
    nodes = [gs.Node("Relu", inputs=[x], outputs=[twins[0]]), gs.Node("Relu", inputs=[twins[1]], outputs=[y])]
    graph = gs.Graph(nodes, [x], [y], opset=16, ir_version=8)
    result, proto, draft = rewrite(graph, VERBS["swap_relu"])
    assert draft.plan.roots == 2
    assert content(gs.export_onnx(result)) == content(proto)


def test_a_graph_made_by_hand() -> None:
    """gs.Constants in a function and in a subgraph shift the exported nodes; no import_domains at all."""
    function = gs.Function("act", "local", opset=16)
    a, b, c = (gs.Variable(name) for name in "abc")
    function.inputs, function.outputs = [a], [c]
    function.nodes = [
        gs.Node("Mul", "scale", inputs=[a, gs.Constant("three", np.array([3], np.float32))], outputs=[b]),
        gs.Node("LeakyRelu", "leaky", {"alpha": 0.25}, [b], [c]),
    ]
    x, t, y = (gs.Variable(name, np.float32, ["N", 4]) for name in "xty")
    flag = gs.Variable("flag", bool, [])
    branches = {}
    for branch in ("then_branch", "else_branch"):
        made, r = (gs.Variable(f"{branch}_{name}", np.float32, ["N", 4]) for name in "mr")
        add = gs.Node("Add", inputs=[t, gs.Constant("half", np.array([0.5], np.float32))], outputs=[made])
        branches[branch] = gs.Graph([add, gs.Node("Relu", inputs=[made], outputs=[r])], [], [r], name=branch, opset=16)
    nodes = [
        gs.Node("act", "call", inputs=[x], outputs=[t], domain="local"),
        gs.Node("If", "choose", branches, [flag], [y]),
    ]
    graph = gs.Graph(nodes, [x, flag], [y], opset=16, functions=[function], ir_version=8)
    before = exported(gs.Graph.copy(graph))
    for verb in VERBS.values():
        result, proto, _ = rewrite(graph, verb)
        again = gs.export_onnx(result)
        assert graph.import_domains is None
        assert content(again) == content(proto)
        assert_computes_the_same(again, proto)
        assert_connected(result)
    assert exported(gs.Graph.copy(graph)) == before


def test_decomposed_graphs_carry_no_record_and_fuse_by_structure() -> None:
    graph = gs.import_onnx(onnx.load(REPOSITORY / "models" / "digits_leaky_relu.onnx"))
    small, _, _ = rewrite(graph, VERBS["decompose"])
    assert not any(node.metadata_props for node in gs.export_onnx(small).graph.node)
    back, _, draft = rewrite(small, VERBS["fuse"])
    assert draft.plan.edits
    assert content(gs.export_onnx(back)) == content(gs.export_onnx(graph))


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    graph = imported("fan_out")
    for node in graph.nodes:
        node.name = "the same"
    rewrite(graph, VERBS["decompose"])
    assert capsys.readouterr() == ("", "")
    exported(graph)
    assert "share the same name" in capsys.readouterr().out


def test_a_graph_that_cannot_be_exported_is_refused() -> None:
    graph = imported("fan_out")
    graph.nodes[0].attrs["odd"] = object()
    with pytest.raises(ModelError, match="onnx-graphsurgeon cannot export this graph: "):
        open_source(graph)


@pytest.mark.parametrize("change", ["op", "removed", "subgraph", "function"])
def test_a_graph_that_changed_meanwhile_is_refused(change: str) -> None:
    graph = imported("if_bodies" if change != "function" else "function")
    source = open_source(graph)
    view = View(source.proto)
    draft = VERBS["swap_relu"](view)
    if change == "op":
        graph.nodes[0].op = "Neg"
    elif change == "removed":
        del graph.nodes[0]
    elif change == "subgraph":
        graph.nodes[1].attrs["body"] = imported("fan_out")
    else:
        graph.functions = []
    with pytest.raises(ModelError, match="the graph was changed after onnxact looked at it; hand it in once more"):
        source.rewritten(view, draft.plan)
