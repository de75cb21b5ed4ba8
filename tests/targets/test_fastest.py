"""`--fastest`: which forms are tried, what a clock decides, what is said. The clock is made up: nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxact
from onnxact import fastest
from onnxact.check.contest import WHOLE
from onnxact.check.excerpt import excerpt
from onnxact.check.timing import Effort, Pace, Stopwatch, allowed
from onnxact.check.track import Track
from onnxact.errors import UsageError
from onnxact.model.view import View
from onnxact.rewrite.find import find
from onnxact.rewrite.target.contest import Rivals
from onnxact.rewrite.target.known import find_target
from tests.cli.runner import contents, invoke
from tests.rewrite.texts import net

Cost = Callable[[ModelProto], float]
ONE = "Y = PRelu (x, s)\n y = Identity (Y)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[ModelProto]]]:
    """Return a function that sets what a run of a model takes, in seconds, and gives the list of models that ran.

    `disturbed`: the share of that by which it is longer at most, at random, because of other work.
    """
    now, ran, rng = [0.0], [], np.random.default_rng(0)
    load = Track.runner

    def pretend(cost: Cost, disturbed: Cost = lambda model: 0.0) -> list[ModelProto]:
        def runner(track: Track, model: ModelProto, inputs: Mapping[str, Any] | None = None) -> Callable[[], None]:
            load(track, model, inputs)()  # it must run in earnest, too
            seconds, share = cost(model), disturbed(model)
            ran.append(model)

            def run() -> None:
                now[0] += seconds * (1 + share * rng.random())

            return run

        monkeypatch.setattr(Track, "runner", runner)
        monkeypatch.setattr(fastest, "Stopwatch", lambda: Stopwatch(lambda: now[0]))
        return ran

    yield pretend


def by_op(**seconds: float) -> Cost:
    """Return a cost: so much for each node of an op, 0.01 s for any other."""
    return lambda model: sum(seconds.get(node.op_type, 0.01) for node in model.graph.node)


SLOW_PRELU = by_op(PRelu=0.1)


def conv_net(
    slopes: tuple[float, ...] = (0.25, 0.5, 0.125, 1.0), sites: int = 2, size: int | str = 6, channels: int = 4
) -> ModelProto:
    """Return x -> (Conv -> PRelu) as often as there are sites -> y; each has slopes of its own."""
    rng = np.random.default_rng(0)
    nodes, constants, value = [], [], "x"
    for number in range(sites):
        nodes.append(helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], f"conv{number}", pads=[1] * 4))
        nodes.append(helper.make_node("PRelu", [f"c{number}", f"s{number}"], [f"p{number}"], f"act{number}"))
        kernel = 0.3 * rng.standard_normal((channels, channels, 3, 3))
        constants.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{number}"))
        constants.append(numpy_helper.from_array(np.array(slopes, np.float32).reshape(-1, 1, 1), f"s{number}"))
        value = f"p{number}"
    nodes[-1].output[0] = "y"
    shape = [1, channels, size, size]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def decomposed(model: ModelProto, **options: Any) -> onnxact.Result:
    return onnxact.decompose(model, target="ort:cpu", fastest=True, **options)


def rivals(slopes: tuple[float, ...]) -> list[str]:
    site = next(site for site in find(View(conv_net(slopes, 1))).sites if site.activation == "prelu")
    return list(Rivals(find_target("ort:cpu")).of(site))


def test_the_slopes_at_hand_decide_which_forms_are_tried() -> None:
    always = ["where", "relu-min", "relu-neg", "relu-neg-add"]
    assert rivals((0.25, 0.5, 0.125, 1.0)) == ["mul-max", *always]
    assert rivals((1.0, 1.5, 2.0, 1.0)) == ["mul-min", *always]
    assert rivals((0.25, 0.5, 0.0, 1.0)) == always, "0 times infinity is NaN"
    assert rivals((0.25, -0.5, 0.125, 1.0)) == always, "a zero gets the other sign"
    assert rivals((0.25, 0.5, 1.5, 1.0)) == always


def test_the_fastest_form_is_taken_and_its_gain_reported(clock: Callable[[Cost], Any]) -> None:
    clock(SLOW_PRELU)
    model = conv_net()
    result = decomposed(model)
    assert [change.form for change in result.sites] == ["mul-max", "mul-max"]
    assert result.check(providers=["cpu"]).outcome == "equivalent"
    timing = result.to_json()["timing"]
    (group,) = timing["groups"]
    assert group["after"] == "mul-max" and len(group["sites"]) == 2 and group["timed"] == "one site with its neighbours"
    assert group["behind"] == "Conv" and group["shape"] == [1, 4, 6, 6]
    assert set(group["screened"]) == {"mul-max", "where", "relu-min", "relu-neg", "relu-neg-add"}
    assert timing["whole"]["before_ms"] == pytest.approx(220) and timing["whole"]["after_ms"] == pytest.approx(60)
    assert timing["whole"]["ratio"] == pytest.approx(220 / 60) and timing["inputs"] == {"x": [1, 4, 6, 6]}
    assert onnxact.fuse(result.model).model == model


def test_another_clock_takes_another_form(clock: Callable[[Cost], Any]) -> None:
    clock(by_op(PRelu=0.1, Max=0.2, Relu=0.2))
    assert {change.form for change in decomposed(conv_net()).sites} == {"where"}


def test_where_nothing_helps_nothing_changes(clock: Callable[[Cost], Any], folder: Path) -> None:
    clock(by_op(PRelu=0.001))
    onnx.save(conv_net(), "net.onnx")
    before = contents(folder)
    outcome = invoke("decompose", "net.onnx", "--target", "ort:cpu", "--fastest")
    assert outcome.code == 4
    last = outcome.out.splitlines()[-1]
    assert last.startswith("no form with the same bits makes this model faster here") and "nothing written" in last
    assert "no other form is faster here: mul-max" in outcome.out
    assert contents(folder) == before
    result = decomposed(model := conv_net())
    assert not result.changed and result.model is model and not result.to_json()["timing"]["faster"]


def test_like_sites_share_a_decision_and_others_have_their_own(clock: Callable[[Cost], Any]) -> None:
    def cost(model: ModelProto) -> float:
        slow = [node for node in model.graph.node if node.op_type == "PRelu" and node.name != "act1"]
        return 0.01 * len(model.graph.node) + 0.1 * len(slow)

    clock(cost)
    model = conv_net(sites=3)
    model.graph.node[2].attribute.add(name="strides", ints=[2, 2], type=onnx.AttributeProto.INTS)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    result = decomposed(model)
    groups = result.to_json()["timing"]["groups"]
    assert [[site["node"] for site in group["sites"]] for group in groups] == [["act0"], ["act1", "act2"]]
    assert [change.site.node for change in result.sites] == ["act0"]
    assert [skip.node for skip in result.skipped] == ["act1", "act2"]


def test_what_helps_a_part_and_not_the_whole_is_withdrawn(clock: Callable[[Cost], Any]) -> None:
    whole = len(conv_net(sites=4).graph.node)
    clock(lambda model: 1.0 if len(model.graph.node) >= whole else SLOW_PRELU(model))
    result = decomposed(conv_net(sites=4))
    assert not result.changed
    assert all("is faster here, but the whole model is not" in skip.reason for skip in result.skipped)


def test_what_is_not_sure_alone_is_tried_in_the_whole(clock: Callable[..., Any]) -> None:
    clock(by_op(PRelu=0.025), lambda model: 20.0 if model.graph.name == "excerpt" else 0.0)
    result = decomposed(conv_net())
    assert result.timing is not None and result.timing.faster
    (group,) = result.timing.groups
    assert group.pace is not None and group.pace.low < 1 and "and the whole model faster with it" in group.reason


def test_noise_of_the_whole_is_no_gain(clock: Callable[..., Any]) -> None:
    clock(by_op(PRelu=0.021), lambda model: 20.0)
    result = decomposed(conv_net())
    assert not result.changed


def test_an_excerpt_is_timed_with_the_shapes_of_the_whole(clock: Callable[[Cost], Any]) -> None:
    ran = clock(SLOW_PRELU)
    result = decomposed(conv_net(size="side", sites=3), input_shapes={"x": (1, 4, 10, 12)})
    parts = [model for model in ran if model.graph.name == "excerpt"]
    assert parts and all(len(model.graph.node) < 12 for model in parts)
    shapes = {tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim) for model in parts}
    assert shapes == {(1, 4, 10, 12)}
    assert result.timing is not None and result.timing.shapes == {"x": (1, 4, 10, 12)}


def test_open_dimensions_are_guessed_and_that_is_said(clock: Callable[[Cost], Any]) -> None:
    clock(SLOW_PRELU)
    result = decomposed(conv_net(size="side"))
    assert result.timing is not None
    assert any("assumed for open dimensions: x [" in note for note in result.timing.notes)


def test_an_excerpt_has_what_may_be_fused_and_gives_out_what_others_read() -> None:
    model = net(
        "a = Abs (x)\n b = Sigmoid (a)\n c = Add (a, b)\n d = Tanh (c)\n e = Relu (d)\n f = Neg (e)\n g = Exp (f)\n"
        " h = Add (g, d)\n y = Add (h, b)"
    )
    view = View(model)
    site = next(site for site in find(view).sites if site.activation == "relu")
    part = excerpt(site, View(onnx.shape_inference.infer_shapes(model)))
    assert part is not None
    assert [node.op_type for node in part.model.graph.node] == ["Abs", "Sigmoid", "Add", "Tanh", "Relu", "Neg"]
    assert part.model.graph.node[part.place[1]].op_type == "Relu"
    assert [value.name for value in part.model.graph.output] == ["b", "d", "f"]
    onnx.checker.check_model(part.model, full_check=True)


def test_what_cannot_be_cut_out_is_timed_in_the_whole(clock: Callable[[Cost], Any]) -> None:
    body = helper.make_graph(
        [helper.make_node("PRelu", ["x", "s"], ["inner"], "act")],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2, 3])],
    )
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    slope = numpy_helper.from_array(np.array([0.25, 0.5, 0.75], np.float32), "s")
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=body, else_branch=_renamed(body))
    graph = helper.make_graph([node], "net", [x, condition], [y], [slope])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    clock(lambda model: sum(0.1 if "PRelu" in scope.op_types else 0.01 for scope in View(model).scopes))
    result = decomposed(model)
    assert [change.form for change in result.sites] == ["mul-max", "mul-max"]
    assert {group["timed"] for group in result.to_json()["timing"]["groups"]} == {"the whole model"}


def _renamed(body: onnx.GraphProto) -> onnx.GraphProto:
    copy = onnx.GraphProto()
    copy.CopyFrom(body)
    copy.node[0].output[0] = copy.output[0].name = "other"
    copy.node[0].name = "act2"
    return copy


def test_twice_is_once(clock: Callable[[Cost], Any]) -> None:
    clock(SLOW_PRELU)
    once = decomposed(conv_net()).model
    again = decomposed(once)
    assert not again.changed
    assert all("was decomposed before; fuse it first" in skip.reason for skip in again.skipped)


def test_weights_beside_the_model(clock: Callable[[Cost], Any], folder: Path) -> None:
    clock(SLOW_PRELU)
    (folder / "sub").mkdir()
    onnx.save_model(conv_net(), "sub/net.onnx", save_as_external_data=True, size_threshold=0, location="net.data")
    outcome = invoke("decompose", "sub/net.onnx", "--target", "ort:cpu", "--fastest", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["output"] == "sub/net.ort-cpu-fastest.onnx" and report["check"]["verdict"] == "equivalent"
    assert report["timing"]["faster"] and report["timing"]["whole"]["ratio"] > 1


def test_several_inputs_and_selection(clock: Callable[[Cost], Any]) -> None:
    clock(SLOW_PRELU)
    model = net(
        "h = Add (x, z)\n [one] k = PRelu (h, s)\n [two] y = PRelu (k, s)",
        "float[4] s = {0.1,0.2,0.3,0.4}",
        more="float[2,3,4] z",
    )
    result = decomposed(model, exclude=["two"])
    assert [change.site.node for change in result.sites] == ["one"]


def test_options_go_to_the_sessions(clock: Callable[[Cost], Any], folder: Path) -> None:
    clock(SLOW_PRELU)
    onnx.save(conv_net(), "net.onnx")
    options = ("--session-option", "intra_op_num_threads=1", "--dry-run")
    outcome = invoke("decompose", "net.onnx", "--target", "ort:cpu", "--fastest", *options)
    assert outcome.code == 0 and "intra_op_num_threads=1" in outcome.out and "end to end: 220 ms" in outcome.out
    assert set(contents(folder)) == {"net.onnx"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "tract"}, "tract does not run here: give --target ort:cpu"),
        ({}, "give --target ort:cpu"),
        ({"form": "mul-max"}, "give --target ort:cpu"),
    ],
)
def test_what_cannot_be_timed_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        onnxact.decompose(conv_net(), fastest=True, **options)


def test_options_of_a_run_need_one() -> None:
    with pytest.raises(UsageError, match="session_options: only fastest=True runs the model"):
        onnxact.decompose(conv_net(), target="ort:cpu", session_options={"intra_op_num_threads": 1})


def test_progress_is_told(clock: Callable[[Cost], Any]) -> None:
    clock(SLOW_PRELU)
    told: list[tuple[str, float]] = []
    decomposed(conv_net(), progress=lambda what, done: told.append((what, done)))
    assert [what for what, _ in told] == [
        "loading the model",
        "timing prelu [1, 4, 6, 6], 1 of 1",
        "timing the whole model",
    ]
    assert [done for _, done in told] == sorted(done for _, done in told)


def test_bounds_of_a_median() -> None:
    assert [allowed(rounds) for rounds in (7, 9, 25, 51)] == [0, 0, 6, 16]
    pace = Pace.of([2.0] * 9, [1.0] * 8 + [4.0])
    assert (pace.ratio, pace.low, pace.high, pace.rounds) == (2.0, 0.5, 2.0, 9)
    assert replace(pace, ratio=0.9).offset == pytest.approx(0.1)


def test_a_race_has_as_many_rounds_as_time_allows() -> None:
    assert Effort(51, 10.0).affords(0.1) == 51
    assert Effort(51, 10.0).affords(0.5) == 20
    assert Effort(51, 10.0).affords(60.0) == 9
    assert WHOLE.affords(1e9) == 9
