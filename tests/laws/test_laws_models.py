"""The laws where models are odd: names, scopes, types, fields that most models do not have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

import onnxact
from onnxact.model.view import View
from tests.laws import runtime
from tests.laws.laws import VERBS, Subject, violations

ODD: dict[str, Callable[[], ModelProto]] = {}


def odd(build: Callable[[], ModelProto]) -> Callable[[], ModelProto]:
    ODD[build.__name__] = build
    return build


def _value(name: str, shape: list[int | str] | None = None, elem_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, [2, 3] if shape is None else shape)


def _model(nodes: list[onnx.NodeProto], *tensors: TensorProto, opset: int = 18, ir_version: int = 9) -> ModelProto:
    """Return a model from x to y, both float [2, 3]."""
    graph = helper.make_graph(nodes, "g", [_value("x")], [_value("y")], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _tensor(name: str, value: object, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def _branch(name: str, op: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [_value(name)])


@odd
def two_subgraphs_with_one_path() -> ModelProto:
    """Both If nodes are called "same", so that their branches have the same path."""
    nodes = [
        helper.make_node(
            "If", ["c"], [f"y{i}"], name="same", then_branch=_branch(f"t{i}", "Relu"), else_branch=_branch(f"e{i}", op)
        )
        for i, op in enumerate(("LeakyRelu", "Elu", "Relu"))
    ]
    graph = helper.make_graph(
        nodes, "g", [_value("x"), _value("c", [], TensorProto.BOOL)], [_value(f"y{i}") for i in range(3)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@odd
def names_that_onnxact_would_choose() -> ModelProto:
    taken = ["y_mul", "act_mul", "onnxact_0.2", "onnxact_0.01", "onnxact_0", "y_relu", "y_abs", "y_max", "y_mul_2"]
    nodes = [helper.make_node("LeakyRelu", ["x"], ["y_mul_3"], name="act", alpha=0.2)]
    nodes += [helper.make_node("Identity", ["y_mul_3"], ["y"], name="y")]
    model = _model(nodes)
    model.graph.value_info.extend(_value(name) for name in taken[:3])
    model.graph.initializer.extend(_tensor(name, [1.0]) for name in taken[3:6])
    note = model.graph.quantization_annotation.add(tensor_name=taken[6])
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=taken[7])
    return model


@odd
def a_function_whose_value_info_has_the_names() -> ModelProto:
    model = parser.parse_model(FUNCTION.format(call="alpha = 0.3"))
    model.functions[0].value_info.add(name="y_mul")
    model.functions[0].value_info.add(name="onnxact_alpha")
    model.ir_version = 10
    return model


FUNCTION = """<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) {{ y = local.f <{call}> (x) }}
<domain: "local", opset_import: ["" : 16]>
f <alpha> (x) => (y) {{ y = LeakyRelu <alpha: float = @alpha> (x) }}
"""


@odd
def a_function_whose_attribute_is_stated() -> ModelProto:
    return parser.parse_model(FUNCTION.format(call="alpha = 0.3"))


@odd
def a_function_whose_attribute_is_left_out() -> ModelProto:
    return parser.parse_model(FUNCTION.format(call="").replace("<>", ""))


@odd
def a_function_whose_attribute_has_a_default() -> ModelProto:
    text = FUNCTION.format(call="").replace("<>", "").replace("f <alpha>", "f <alpha: float = 0.5>")
    return parser.parse_model(text)


@odd
def a_function_that_passes_its_attribute_on() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) { y = local.outer (x) }
<domain: "local", opset_import: ["" : 18, "local" : 1]>
outer <beta> (a) => (b) { b = local.inner <alpha: float = @beta> (a) }
<domain: "local", opset_import: ["" : 18]>
inner <alpha> (c) => (d) { d = Elu <alpha: float = @alpha> (c) }
""")


@odd
def a_function_of_another_opset() -> ModelProto:
    """Constant is not the same at opset 16 and 22; onnx.checker wants the ops of a function to be the same in both."""
    return parser.parse_model(FUNCTION.format(call="alpha = 0.3").replace('["" : 18', '["" : 22'))


@odd
def a_function_of_two_types() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[2] x, double[2] z) => (float[2] y, double[2] w) { y = local.f (x) w = local.f (z) }
<domain: "local", opset_import: ["" : 18]>
f (a) => (b) { b = LeakyRelu <alpha = 0.25> (a) }
""")


@odd
def a_loop_around_an_if() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
g (float[2,3] x, int64 n, bool c) => (float[2,3] y)
{
  y = Loop (n, c, x) <body = body (int64 i, bool going, float[2,3] state) => (bool again, float[2,3] next) {
      again = Identity (going)
      next = If (going) <
        then_branch = t () => (float[2,3] a) { r = Relu (state) a = LeakyRelu <alpha = 0.3> (r) },
        else_branch = e () => (float[2,3] b) { b = Elu (x) }
      >
  }>
}
""")


@odd
def a_scan() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
g (float[3] start, float[2,3] x) => (float[3] last, float[2,3] y)
{
  last, y = Scan <num_scan_inputs = 1, body = body (float[3] s, float[3] e) => (float[3] t, float[3] f) {
      t = Add (s, e)
      f = LeakyRelu <alpha = 0.25> (t)
  }> (start, x)
}
""")


@odd
def everything_unsorted() -> ModelProto:
    nodes = [
        helper.make_node("Identity", ["c"], ["y"]),
        helper.make_node("LeakyRelu", ["b"], ["c"], alpha=0.25),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Sigmoid", ["x"], ["a"]),
    ]
    return _model(nodes)


@odd
def onnx_s_own_domain_spelled_out() -> ModelProto:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="act", domain="ai.onnx", alpha=0.25)
    model = _model([node])
    model.opset_import[0].domain = "ai.onnx"
    return model


@odd
def no_opset_import() -> ModelProto:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], ir_version=2)
    del model.opset_import[:]
    return model


@odd
def initializers_that_are_inputs() -> ModelProto:
    """IR version 3: every initializer has to be an input."""
    nodes = [helper.make_node("PRelu", ["x", "slope"], ["h"], name="p"), helper.make_node("LeakyRelu", ["h"], ["y"])]
    model = _model(nodes, _tensor("slope", [0.25, 0.5, 2.0]), opset=9, ir_version=3)
    model.graph.input.append(_value("slope", [3]))
    return model


@odd
def a_slope_that_can_be_overridden() -> ModelProto:
    """From IR version 4, an initializer that is an input is only a default."""
    model = _model([helper.make_node("PRelu", ["x", "slope"], ["y"], name="p")], _tensor("slope", [0.25, 0.5, 2.0]))
    model.graph.input.append(_value("slope", [3]))
    return model


@odd
def a_sparse_slope() -> ModelProto:
    values, indices = _tensor("slope", [0.5]), _tensor("", [1], np.int64)
    model = _model([helper.make_node("PRelu", ["x", "slope"], ["y"], name="p")])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    return model


@odd
def one_slope_for_two_nodes() -> ModelProto:
    nodes = [helper.make_node("PRelu", [a, "slope"], [b], name=b) for a, b in (("x", "h"), ("h", "y"))]
    return _model(nodes, _tensor("slope", [0.25, 0.5, 2.0]))


@odd
def bounds_that_something_else_reads() -> ModelProto:
    nodes = [helper.make_node("Clip", ["x", "lo", "hi"], ["h"], name="c"), helper.make_node("Add", ["h", "hi"], ["y"])]
    return _model(nodes, _tensor("lo", 0), _tensor("hi", 6))


@odd
def bounds_that_are_computed() -> ModelProto:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["hi"], keepdims=0),
        helper.make_node("Clip", ["x", "", "hi"], ["y"], name="c"),
    ]
    return _model(nodes)


@odd
def training_info() -> ModelProto:
    model = _model([helper.make_node("Relu", ["x"], ["y"], name="act"), helper.make_node("LeakyRelu", ["x"], ["z"])])
    training = model.training_info.add()
    training.algorithm.CopyFrom(
        helper.make_graph([helper.make_node("Relu", ["y"], ["y_mul"])], "step", [], [_value("y_mul")])
    )
    training.update_binding.add(key="w", value="y_mul")
    return model


@odd
def metadata_everywhere() -> ModelProto:
    model = _model([helper.make_node("LeakyRelu", ["x"], ["y"], name="act", alpha=0.3, doc_string="d")], ir_version=11)
    for message in (model, model.graph, model.graph.node[0], model.graph.input[0], model.graph.output[0]):
        message.metadata_props.add(key="k", value="v")
    model.graph.node[0].metadata_props.add(key="onnxact", value="no record of ours")
    return model


@odd
def fields_of_the_future() -> ModelProto:
    """Fields that this version of onnx does not know: number 1000, a string."""
    unknown = b"\xc2\x3e\x03new"
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="act", alpha=0.3)
    node.MergeFromString(unknown)
    model = _model([helper.make_node("Relu", ["x"], ["z"]), node])
    model.graph.MergeFromString(unknown)
    model.MergeFromString(unknown)
    return model


@odd
def an_op_of_the_same_name_in_another_domain() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) { a = Relu (x) b = local.LeakyRelu (a) c = LeakyRelu (b) y = local.LeakyRelu (c) }
<domain: "local", opset_import: ["" : 18]>
LeakyRelu (a) => (b) { b = Abs (a) }
""")


@odd
def sequences_and_optionals() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
g (seq(float[2,3]) s, optional(float[2,3]) o) => (float[2,3] y, float[2,3] z)
{
  zero = Constant <value = int64 {0}> ()
  a = SequenceAt (s, zero)
  y = Relu (a)
  b = OptionalGetElement (o)
  z = LeakyRelu (b)
}
""")


@odd
def integers() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
g (int32[2] x) => (int32[2] y, float[2] z)
{
  y = Relu (x)
  c = Cast <to = 1> (y)
  z = Relu (c)
}
""")


@odd
def a_cycle() -> ModelProto:
    return _model([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("LeakyRelu", ["a"], ["b"])])


@odd
def a_node_that_reads_itself() -> ModelProto:
    return _model([helper.make_node("Identity", ["a"], ["a"]), helper.make_node("PRelu", ["x", "a"], ["y"])])


@odd
def a_function_that_calls_itself() -> ModelProto:
    return parser.parse_model("""<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[2] x) => (float[2] y) { y = local.f <alpha = 0.5> (x) }
<domain: "local", opset_import: ["" : 18, "local" : 1]>
f <alpha> (a) => (b) { c = LeakyRelu <alpha: float = @alpha> (a) b = local.f <alpha: float = @alpha> (c) }
""")


@odd
def a_deep_chain_of_identities() -> ModelProto:
    nodes = [helper.make_node("Identity", [f"s{i}"], [f"s{i + 1}"]) for i in range(3000)]
    nodes.append(helper.make_node("PRelu", ["x", "s3000"], ["y"], name="p"))
    return _model(nodes, _tensor("s0", [0.25]))


@odd
def a_slope_that_is_damaged() -> ModelProto:
    """Its data does not fill its shape."""
    slope = TensorProto(name="slope", data_type=TensorProto.FLOAT, dims=[3], raw_data=b"\0\0")
    nodes = [helper.make_node("PRelu", ["x", "slope"], ["h"]), helper.make_node("Max", ["h", "slope"], ["y"])]
    return _model(nodes, slope)


@odd
def attributes_and_outputs_that_are_wrong() -> ModelProto:
    """An integer for a slope, a Relu without an output, a Constant without a value."""
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["y"], name="integer", alpha=1),
        helper.make_node("Constant", [], ["nothing"]),
        helper.make_node("Max", ["x", "nothing"], ["z"]),
        helper.make_node("Elu", ["x"], []),
    ]
    return _model(nodes)


@odd
def slopes_of_no_element() -> ModelProto:
    model = _model([helper.make_node("PRelu", ["x", "s"], ["y"], name="p")], _tensor("s", np.zeros(0)))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_value = 0
    return model


@odd
def a_slope_without_elements() -> ModelProto:
    model = _model([helper.make_node("Relu", ["x"], ["y"], name="act")])
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_value = 0
    return model


@pytest.mark.parametrize("build", list(ODD.values()), ids=list(ODD))
def test_every_law(build: Callable[[], ModelProto]) -> None:
    subject = Subject(build())
    found = [line for verb in VERBS.values() for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("build", list(ODD.values()), ids=list(ODD))
def test_every_relu_is_reached_or_explained(build: Callable[[], ModelProto]) -> None:
    """Law "everywhere": subgraphs at any depth and functions are treated like the main graph."""
    model = build()
    result = onnxact.swap_relu(model)
    relus = sum(scope.op_types.count("Relu") for scope in View(model).scopes)
    assert len(result.sites) + len(result.skipped) == relus
    assert sum(scope.op_types.count("Relu") for scope in View(result.proto).scopes) == len(result.skipped)


def test_scopes_have_different_paths() -> None:
    paths = [scope.path for scope in View(two_subgraphs_with_one_path()).scopes]
    assert len(set(paths)) == len(paths) == 7


def test_unknown_fields_stay() -> None:
    model = fields_of_the_future()
    after = onnxact.decompose(model, form="relu-neg").proto
    for message in (after, after.graph, after.graph.node[-1]):
        assert b"\xc2\x3e\x03new" in message.SerializeToString()
    assert after.SerializeToString().count(b"\xc2\x3e\x03new") == 3


def test_a_function_gets_the_value_of_its_attribute() -> None:
    model = a_function_whose_attribute_is_stated()
    result = onnxact.decompose(model, form="relu-neg")
    assert [change.site.scope.path for change in result.sites] == ["local:f"]
    feeds = {"x": runtime.values(np.float32, 6, special=False).reshape(2, 3)}
    expected, actual = (runtime.outputs(m, feeds) for m in (model, result.proto))
    assert expected is not None and actual is not None
    assert not runtime.unequal(expected[0], actual[0])


@pytest.mark.parametrize("verb", ["swap-relu-prelu", "decompose", "decompose-inexact", "fuse"])
def test_the_bytes_do_not_depend_on_the_order_of_hashes(verb: str, tmp_path: Path) -> None:
    models = [build() for build in ODD.values()]
    paths = [tmp_path / f"{number}.onnx" for number in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        path.write_bytes(model.SerializeToString())
    digests = {_digest(verb, [str(path) for path in paths], seed) for seed in ("1", "2")}
    assert len(digests) == 1


_SCRIPT = """
import hashlib, sys, onnx
from tests.laws.laws import VERBS
digest = hashlib.sha256()
for path in sys.argv[2:]:
    result = VERBS[sys.argv[1]](onnx.load(path))
    digest.update(result.proto.SerializeToString())
    digest.update(str(result.to_json()).encode())
print(digest.hexdigest())
"""


def _digest(verb: str, paths: list[str], seed: str) -> str:
    command = [sys.executable, "-c", _SCRIPT, verb, *paths]
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout
