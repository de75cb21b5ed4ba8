"""What is not the same in two models is reached by some inputs, or the verdict says that nothing shows what it does."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from onnx import ModelProto

import onnxact
from onnxact.check import Verdict, check
from onnxact.check.branching import branches, is_decided
from onnxact.check.changes import changes
from onnxact.check.conditions import thresholds
from onnxact.check.subject import open_subject
from onnxact.model.view import View
from tests.check.models import net, unary
from tests.check.naming import renamed

THEN, ELSE = "then_branch = t () => (float[N, 8] a) {{ a = {} }}", "else_branch = e () => (float[N, 8] b) {{ b = {} }}"
PEAK = "m = ReduceMax<keepdims = 0>(x) c = Greater(m, k)"


def judged(before: ModelProto, after: ModelProto) -> Verdict:
    return check(before, after, providers=["cpu"], diagnose=False)


def weighted(body: str, weights: str) -> ModelProto:
    return net("float[N, 2000] x", "float[N, 2000] y", body, weights)


def chosen(condition: str, then: str, other: str = "Neg(x)") -> str:
    return f"{condition} y = If (c) <{THEN.format(then)}, {ELSE.format(other)}>"


def model(body: str, weights: str = "float k = {20}", inputs: str = "float[N, 8] x", functions: str = "") -> ModelProto:
    return net(inputs, "float[N, 8] y", body, weights, functions=functions)


@pytest.mark.parametrize("number", ["20", "1000", "1e30", "-50"])
@pytest.mark.parametrize(
    "condition",
    [
        PEAK,
        "m = ReduceMin<keepdims = 0>(x) c = Less(m, k)",
        "n = Mul(x, x) m = ReduceMean<keepdims = 0>(n) c = Greater(m, k)",
        "s = Flatten<axis = 0>(x) i = Constant<value_ints = [0, 0]>() g = GatherND(s, i) c = Equal(g, k)",
    ],
)
def test_a_body_that_is_not_the_same_is_reached_or_named(condition: str, number: str) -> None:
    before, after = (model(chosen(condition, op), f"float k = {{{number}}}") for op in ("Sin(x)", "Cos(x)"))
    verdict = judged(before, after)
    assert not verdict.equivalent, verdict.summary()
    assert verdict.outcome == "different" or any("then_branch is not the same" in item for item in verdict.reasons)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("number", ["10000", "1e30"])
@pytest.mark.parametrize(
    "choice",
    [
        "c = Greater(x, k) y = Where(c, z, x)",
        "c = Greater(x, k) y = Where(c, k, x)",
        "c = Equal(x, k) y = Where(c, z, x)",
        "c = Less(x, k) f = Cast<to = 1>(c) y = Mul(f, x)",
        "c = Less(x, k) f = Cast<to = 1>(c) g = Unsqueeze(f, axes) h = Squeeze(g, axes) y = Mul(x, h)",
        "m = ReduceMax<keepdims = 1>(x) c = Less(m, k) n = Neg(x) y = Where(c, x, n)",
    ],
)
def test_a_choice_of_one_model_only_is_made_both_ways(choice: str, number: str, *, swapped: bool) -> None:
    weights = f"float k = {{{number}}}, float z = {{0}}, int64[1] axes = {{0}}"
    pair = model("y = Identity(x)", ""), model(choice, weights)
    assert judged(*(pair[::-1] if swapped else pair)).outcome == "different"


def test_a_choice_between_other_values_takes_those() -> None:
    body = "c = Greater(x, k) s = {}(x) y = Where(c, s, x)"
    pair = [model(body.format(op), "float k = {10000}") for op in ("Sin", "Cos")]
    assert judged(*pair).outcome == "different"
    masked = "c = Greater(x, k) f = Cast<to = 1>(c) s = {}(x) t = Mul(s, f) y = Add(x, t)"
    assert judged(*(model(masked.format(op), "float k = {10000}") for op in ("Sin", "Cos"))).outcome == "different"


@pytest.mark.parametrize(
    ("condition", "inputs", "weights", "outcome"),
    [
        ("c = Equal(k, s)", "int64 k, float[N, 8] x", "int64 s = {77}", "different"),
        ("p = Add(k, k) c = Equal(p, s)", "int64 k, float[N, 8] x", "int64 s = {77}", "inconclusive"),
        ("p = Mul(k, k) c = Equal(p, s)", "int64 k, float[N, 8] x", "int64 s = {49}", "inconclusive"),
        ("h = Shape(x) g = Gather(h, z) c = Greater(g, s)", "float[N, 8] x", "int64 s = {7}, int64 z={0}", "different"),
        ("p = Not(q) c = And(p, r)", "bool q, bool r, float[N, 8] x", "", "different"),
        ("f = Cast<to = 1>(k) c = Greater(f, s)", "int32 k, float[N, 8] x", "float s = {300}", "different"),
    ],
)
@pytest.mark.parametrize("in_both", [False, True])
def test_conditions_on_other_inputs(condition: str, inputs: str, weights: str, outcome: str, *, in_both: bool) -> None:
    """Also where only the model after has the condition, so that nothing in the one before tells its constants."""
    after = model(chosen(condition, "Cos(x)"), weights, inputs)
    before = model(chosen(condition, "Sin(x)") if in_both else "y = Neg(x)", weights, inputs)
    verdict = judged(before, after)
    assert verdict.outcome == outcome, verdict.summary()
    if outcome == "inconclusive":
        assert any("was never true on any inputs that were tried" in reason for reason in verdict.reasons)


def test_bodies_in_bodies_and_in_functions() -> None:
    inner = "d = ReduceMax<keepdims = 0>(x) e = Greater(d, k) b = If (e) <then_branch = t2 () => (float[N, 8] f) "
    inner += "{{ f = {}(x) }}, else_branch = e2 () => (float[N, 8] g) {{ g = Neg(x) }}>"
    outer = "o = ReduceMin<keepdims = 0>(x) p = Less(o, k) y = If (p) <then_branch = t () => (float[N, 8] a) "
    outer += "{ a = Neg(x) }, else_branch = e () => (float[N, 8] b) { INNER }>"
    pair = [model(outer.replace("INNER", inner.format(op))) for op in ("Sin", "Cos")]
    assert not judged(*pair).equivalent
    function = '<opset_import: ["" : 18], domain: "local"> f (x, k) => (y) {{ {} }}'
    bodies = [
        "m = ReduceMax<keepdims = 0>(x) c = Greater(m, k) y = If (c) <then_branch = t () => (float[N, 8] a) "
        f"{{ a = {op}(x) }}, else_branch = e () => (float[N, 8] b) {{ b = Neg(x) }}>"
        for op in ("Sin", "Cos")
    ]
    pair = [model("y = local.f(x, k)", functions=function.format(body)) for body in bodies]
    assert judged(*pair).outcome == "different"


def test_a_loop_that_never_turns() -> None:
    inner = "body = b (int64 i, bool c, float[N, 8] v) => (bool d, float[N, 8] w) {{ d = Identity(c) w = {}(v) }}"
    body = f"y = Loop (n, , x) <{inner}>"
    pair = [model(body.format(op), "int64 n = {0}") for op in ("Sin", "Cos")]
    verdict = judged(*pair)
    assert verdict.outcome == "inconclusive"
    assert "body is not the same in both models, and no inputs that were tried ran it" in verdict.reasons[0]


def test_what_no_input_bears_on_needs_no_inputs() -> None:
    """A condition that is always the same decides the same in every run."""
    always = "h = Shape(x) g = Gather(h, one) c = Equal(g, eight)"
    weights = "int64 one = {1}, int64 eight = {8}"
    pair = [model(chosen(always, "Sin(x)", other), weights) for other in ("Neg(x)", "Exp(x)")]
    assert judged(*pair).equivalent
    view = View(pair[0])
    assert is_decided(view.main, "c")
    assert not is_decided(View(model(chosen(PEAK, "Sin(x)"))).main, "c")


def test_what_is_the_same_under_other_names_is_the_same() -> None:
    before = model(chosen(PEAK, "Sin(x)"))
    after, _ = renamed(before)
    views = View(before), View(after)
    found = changes((open_subject(before), open_subject(after)), views, ({}, {}))
    assert (found.touched, found.others) == ((), ((), ()))
    assert judged(before, after).equivalent


def test_rewrites_next_to_what_is_never_reached_are_right() -> None:
    """Neither sites nor other nodes that are written differently make more of a body that is the same."""
    never = chosen("h = Mul(k, one) m = ReduceMax<keepdims = 0>(x) c = Greater(m, h)", "Sin(x)", "Neg(l)")
    weights = "float k = {1e38}, float one = {1}, float slope = {0.2}"
    before = model(f"l = LeakyRelu<alpha = 0.2>(x) {never}", weights)
    assert judged(before, onnxact.decompose(before, form="mul-max").model).equivalent
    other = model(f"d = Neg(x) r = Relu(d) p = Mul(r, slope) q = Relu(x) l = Sub(q, p) {never}", weights)
    assert judged(before, other).equivalent


def test_branches_say_what_is_not_the_same() -> None:
    pair = [model(chosen(PEAK, op)) for op in ("Sin(x)", "Cos(x)")]
    views = View(pair[0]), View(pair[1])
    found = changes((open_subject(pair[0]), open_subject(pair[1])), views, ({}, {}))
    (branch,) = branches(found, 0)
    assert branches(found, 1) == ()
    assert (branch.probe.input, branch.what) == ("c", "/If#2.then_branch")
    assert (
        branch.doubt(None, "")
        == "/If#2.then_branch is not the same in both models, and no inputs that were tried ran it"
    )
    assert "is not known: why" in branch.doubt(None, "why")


def test_thresholds_of_named_conditions() -> None:
    body = "c = Greater(x, k) d = Less(x, l) y = Where(c, x, x) w = Where(d, x, x)"
    where = net("float[N, 8] x", "float[N, 8] y", body, "float k = {5}, float l = {-300}")
    assert thresholds(where).numbers == ()
    assert thresholds(where, ["d"]).numbers == (-300.0,)
    assert set(thresholds(where, ["c", "d"]).scales) == {50.0, -50.0, 3000.0, -3000.0}


def test_numbers_near_constants_are_fed() -> None:
    after = unary("k = Constant<value_float = 3.25>() c = Equal(x, k) n = Neg(x) y = Where(c, n, x)")
    assert judged(unary("y = Identity(x)"), after).outcome == "different"


def test_a_condition_in_a_site_that_is_no_form_is_turned_or_named() -> None:
    """x = 2.7 is none of the points that a site is tried at, and no search solves x * x = 7.29."""
    right = "l = LeakyRelu<alpha = 0.2>(x)"
    wrong = (
        f"{right} k = Constant<value_float = 7.2900004>() q = Mul(x, x) c = Equal(q, k) w = Neg(l) y = Where(c, w, l)"
    )
    verdict = judged(unary(right.replace("l =", "y =")), unary(wrong))
    assert verdict.outcome == "inconclusive"
    assert any("was never true" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("seeds", [(0, 1), (2, 3), (2,), (3, 4)])
@pytest.mark.parametrize("shape", ["1", "2", "N"])
@pytest.mark.parametrize("limit", ["Min (x, high)", "Max (x, low)", "Mod (x, high)"])
def test_few_integers_are_large_on_both_sides_of_zero(limit: str, shape: str, seeds: tuple[int, ...]) -> None:
    head = f'<ir_version: 9, opset_import: ["": 18]> graph (int64[{shape}] x) => (int64[{shape}] y)'
    numbers = "<int64 high = {1000}, int64 low = {-1000}>"
    before, after = (onnx.parser.parse_model(f"{head} {numbers} {{ y = {op} }}") for op in ("Identity (x)", limit))
    if len(seeds) > 1 or shape == "1":  # one even seed gives several integers up to 100
        assert check(before, after, providers=["cpu"], seeds=seeds).outcome == "different"


def test_no_seed_is_run_twice() -> None:
    """Truth values and single integers both ask for further seeds."""
    head = '<ir_version: 9, opset_import: ["": 18]> graph (bool[1] a, bool[1] b, int64[1] x) => (int64[1] y)'
    model = onnx.parser.parse_model(f"{head} {{ n = Neg(x) h = Where(a, x, n) z = Abs(h) y = Where(b, h, z) }}")
    other = onnx.ModelProto()
    other.CopyFrom(model)
    labels = [run.inputs for run in check(model, other, providers=["cpu"]).runs if not run.optimise]
    assert len(labels) == len(set(labels)) >= 4


@pytest.mark.parametrize("ir_version", [3, 8])
def test_a_weight_that_no_output_shows_is_named_whatever_the_ir_version(ir_version: int) -> None:
    """Below IR version 4 weights are listed as inputs, and are not taken as such."""
    before, after = (_hidden(weight, ir_version) for weight in (0.0, 50.0))
    verdict = judged(before, after)
    assert verdict.outcome == "inconclusive"
    assert any("'w'" in reason or " w " in reason or "w" in reason.split() for reason in verdict.reasons), (
        verdict.reasons
    )


def _hidden(weight: float, ir_version: int) -> ModelProto:
    """A weight beside a much larger number, under a threshold that inputs do not reach."""
    body = "s = Mul(x, w) t = Sub(s, k) r = Relu(t) y = Add(x, r)"
    model = weighted(body, f"float[1] w = {{{weight}}}, float[1] k = {{100000.0}}")
    model.ir_version = ir_version
    if ir_version < 4:
        for tensor in model.graph.initializer:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def test_a_comparison_with_a_text_is_no_threshold() -> None:
    body, weights = "c = Equal(s, cat) n = Neg(x) y = Where(c, {}, x)", 'string[1] cat = {"cat"}'
    inputs, outputs = "string[1] s, float[4] x", "float[4] y"
    model, other = (net(inputs, outputs, body.format(name), weights, opset=19) for name in ("n", "x"))
    assert check(model, other, providers=["cpu"]).outcome != "equivalent"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("y = Round(x)", "s = Add(x, h) y = Floor(s)"),
        ("y = Ceil(x)", "s = Floor(x) y = Add(s, one)"),
        ("c = Greater(x, k) n = Neg(x) y = Where(c, x, n)", "c = GreaterOrEqual(x, k) n = Neg(x) y = Where(c, x, n)"),
    ],
)
def test_ties_and_whole_numbers_are_fed(before: str, after: str) -> None:
    weights = "float h = {0.5}, float one = {1}, float k = {3}"
    assert judged(weighted(before, weights), weighted(after, weights)).outcome == "different"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("y = Softplus(x)", "e = Exp(x) s = Add(e, one) y = Log(s)"),
        ("s = Softplus(n) y = Neg(s)", "s = Sigmoid(x) y = Log(s)"),
    ],
)
def test_a_form_that_overflows_at_usual_numbers_is_not_equivalent(before: str, after: str) -> None:
    first, second = (weighted(f"n = Neg(x) {body}", "float one = {1}") for body in (before, after))
    verdict = judged(first, second)
    assert verdict.outcome != "equivalent"
    if verdict.outcome == "inconclusive":
        assert any("overflows" in reason for reason in verdict.reasons)
    if "Exp" in after:
        assert judged(second, first).outcome != "different"  # the way back is finite where it was not


def test_what_is_not_the_same_besides_the_sites_is_tried_on_its_own() -> None:
    """Rows are far apart here, so that another epsilon moves nothing; for small values it does."""
    body = "w = Mul(x, k) h = LayerNormalization<epsilon = {}>(w, s) y = Relu(h)"
    weights = "float k = {1000}, float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}"
    first, second = (net("float[N, 8] x", "float[N, 8] y", body.format(eps), weights) for eps in ("1e-5", "1e-12"))
    verdict = judged(first, second)
    assert verdict.outcome == "inconclusive"
    assert any(text.startswith("'h' (LayerNormalization) is not made in the same way") for text in verdict.reasons)
    assert not any(text.startswith("besides") for text in judged(first, renamed(first)[0]).notes)
