"""Where nodes ran: told by ONNX Runtime, looked up for every site, and an error where a site ran elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnxact.check import check
from onnxact.check import placement as room
from onnxact.check.placement import Placement, Whereabouts, place_sites, profiled, with_unique_names
from onnxact.check.providers import PROVIDERS, create, runtime
from onnxact.check.session import Session, open_session, whereabouts
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.subject import open_subject
from onnxact.errors import ProviderError
from onnxact.model.view import View
from tests.check.models import LEAKY, MUL_MAX, RELU, net, unary

SITE = SiteProbe("", "", "x", "y")
FUNCTION = '<opset_import: ["" : 18], domain: "local"> f (a) => (b) { c = Neg(a) b = Relu(c) }'
IF = """
    a = Abs(x)
    y = If (c) <
        then_branch = yes () => (float[4] t) { q = Neg(a) t = Relu(q) },
        else_branch = no () => (float[4] b) { b = Neg(a) }
    >
"""

tells = pytest.mark.skipif(
    not hasattr(runtime().InferenceSession, "get_provider_graph_assignment_info"),
    reason="this ONNX Runtime does not tell where nodes are (before 1.24)",
)

Move = Callable[[str, str, str], str]
"""(node name, op type, provider) -> the provider that is to be told."""


def cut(model: ModelProto) -> Whereabouts:
    """Where ONNX Runtime on the CPU put the nodes of a model, under names of their own."""
    session = open_session(open_subject(model), "cpu", optimise=False, name_nodes=True)
    assert isinstance(session, Session)
    found = whereabouts(session, session.subject, {})
    assert found is not None
    return found


def elsewhere(monkeypatch: pytest.MonkeyPatch, move: Move) -> None:
    """Let the session of a provider that is not here say that it ran what `move` says; the CPU runs all of it."""
    told = room.assigned

    def assigned(handle: Any) -> room.Groups:
        found: dict[str, list[room.PlacedNode]] = {}
        for provider, nodes in (told(handle) or {}).items():
            for node in nodes:
                found.setdefault(move(node.name, node.op_type, provider), []).append(node)
        return found

    def created(source: Any, name: str, **options: Any) -> Any:
        session = create(source, "cpu", **options)
        session.get_providers = lambda: [PROVIDERS[name][0], PROVIDERS["cpu"][0]]
        return session

    monkeypatch.setattr("onnxact.check.session.assigned", assigned)
    monkeypatch.setattr("onnxact.check.session.create", created)
    monkeypatch.setattr("onnxact.check.providers.unavailable", lambda _name: None)


def test_names_become_unique_and_own_ones_stay() -> None:
    model = net("float[4] x, bool c", "float[4] y", IF)
    model.graph.node[0].name = "mine"
    model.graph.node[1].attribute[0].g.node[0].name = "twice"
    model.graph.node[1].attribute[1].g.node[0].name = "twice"
    content = model.SerializeToString()
    copied, names = with_unique_names(model)
    flat = [name for listed in names.values() for name in listed]
    assert len(flat) == len(set(flat)) == 5
    assert "mine" in names[""]
    assert all(flat)
    assert model.SerializeToString() == content
    assert [[node.name for node in scope.nodes] for scope in View(copied).scopes] == list(map(list, names.values()))


@tells
def test_nodes_of_a_site_are_found_in_every_scope() -> None:
    model = net("float[4] x, bool c", "float[4] y", IF)
    where = cut(model)
    inner = next(path for path in where.names if path.endswith("then_branch"))
    placed = place_sites((View(model), View(model)), (where, where), [SiteProbe(inner, "", "q", "t")], "cpu")
    assert placed[0].after == (("cpu", 1),)
    function = net("float[4] x", "float[4] y", "z = local.f(x) y = local.f(z)", functions=FUNCTION)
    where = cut(function)
    placed = place_sites((View(function), View(function)), (where, where), [SiteProbe("local:f", "", "c", "b")], "cpu")
    assert placed[0].after == (("cpu", 2),)  # it is called twice
    gone = place_sites((View(function), View(function)), (where, where), [SiteProbe("", "", "x", "nothing")], "cpu")[0]
    assert gone.after == ()
    assert "no nodes lead from 'x' to 'nothing'" in gone.unclear
    new = SiteProbe("", "", "x", "nothing", only_in="after", after_input="z", after_output="y")
    placed = place_sites((View(function), View(function)), (where, where), [new], "cpu")
    assert (placed[0].before, placed[0].after, placed[0].unclear) == ((), (("cpu", 1),), "")


@tells
def test_expanded_nodes_have_no_name_but_a_place() -> None:
    """ONNX Runtime's CPU provider has no HardSwish: it becomes HardSigmoid and Mul, which have no names."""
    model = unary("a = Relu(x) y = HardSwish(a)")
    where = cut(model)
    assert sorted(op for name, op, _ in where.placement.nodes if not name) == ["HardSigmoid", "Mul"]
    probe = SiteProbe("", "", "a", "y")
    assert place_sites((View(model), View(model)), (where, where), [probe], "cpu")[0].after == (("cpu", 1),)
    nodes = tuple((name, op, "cuda" if op == "Mul" else provider) for name, op, provider in where.placement.nodes)
    mixed, views = Whereabouts(Placement(nodes), where.names), (View(model), View(model))
    assert "which ran on cpu, cuda" in place_sites(views, (where, mixed), [probe], "cuda")[0].unclear


@tells
def test_a_provider_that_takes_a_body_whole_runs_what_is_in_it() -> None:
    model = net("float[4] x, bool c", "float[4] y", IF)
    where = cut(model)
    nodes = tuple(
        (name, op, "cuda" if op == "If" else "cpu") for name, op, _ in where.placement.nodes if op in {"If", "Abs"}
    )
    inner = next(path for path in where.names if path.endswith("then_branch"))
    whole, views = Whereabouts(Placement(nodes), where.names), (View(model), View(model))
    assert place_sites(views, (whole, whole), [SiteProbe(inner, "", "q", "t")], "cuda")[0].after == (("cuda", 1),)


@tells
def test_profile_tells_where_onnxruntime_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way before ONNX Runtime 1.24: the names and providers are those of its own assignment info."""
    model = net("float[N, 8] x", "float[N, 8] y", "a = Neg(x) b = Relu(a) y = Neg(b)")
    told = cut(model)
    monkeypatch.setattr("onnxact.check.session.assigned", lambda _handle: None)
    session = open_session(open_subject(model), "cpu", optimise=False, name_nodes=True)
    assert isinstance(session, Session)
    monkeypatch.chdir(tmp_path)
    found = whereabouts(session, session.subject, {"x": np.ones((2, 8), np.float32)})
    assert found is not None
    assert sorted(found.placement.nodes) == sorted(told.placement.nodes)
    assert found.names == told.names
    assert not list(tmp_path.iterdir())


def test_profile_is_read_from_json(tmp_path: Path) -> None:
    def event(name: str, provider: str) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": "Relu", "provider": provider}}

    events = [
        event("a", "CUDAExecutionProvider"),
        event("b", "CPUExecutionProvider"),
        event("a", "CUDAExecutionProvider"),
    ]
    others = [{"cat": "Session", "name": "load"}, {"cat": "Node", "name": "a_fence_before", "args": {}}]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([*others, *events]))
    found = profiled(path)
    assert found.counts == (("cpu", 1), ("cuda", 1))
    assert found.ops("cuda") == {"Relu": 1}


@tells
def test_on_the_cpu_alone_everything_ran_there() -> None:
    verdict = check(unary(LEAKY), unary(MUL_MAX), sites=[SITE], providers=["cpu"])
    placed = verdict.placements[0]
    assert (placed.provider, placed.before, placed.after) == ("cpu", (("cpu", 1),), (("cpu", 2),))
    assert verdict.runs[0].placement_before == (("cpu", 1),)
    assert verdict.runs[0].placement == (("cpu", 2),)
    assert verdict.to_json()["placements"][0]["after"] == [["cpu", 2]]


@tells
def test_a_site_that_ran_elsewhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, lambda _name, op, _provider: "cpu" if op == "Max" else "cuda")
    with pytest.raises(ProviderError) as caught:
        check(unary(LEAKY), unary(MUL_MAX), sites=[SITE], providers=["cuda"])
    assert "site 'y': before cuda 1, after cpu 1, cuda 1" in str(caught.value)
    assert caught.value.exit_code == 3


@tells
def test_a_site_that_fell_back_before_the_rewrite_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """That may be why it was rewritten. A node outside of sites may run elsewhere, and it is said."""
    elsewhere(monkeypatch, lambda _name, op, _provider: "cpu" if op in {"LeakyRelu", "Abs"} else "cuda")
    before = unary(f"w = Abs(x) n = Neg(w) {LEAKY.replace('(x)', '(n)')}")
    after = unary("w = Abs(x) n = Neg(w) a = Constant<value_float = 0.2>() an = Mul(n, a) y = Max(n, an)")
    verdict = check(before, after, sites=[SiteProbe("", "", "n", "y")], providers=["cuda"])
    assert verdict.equivalent, verdict.summary()
    assert verdict.placements[0].before == (("cpu", 1),)
    assert verdict.placements[0].after == (("cuda", 2),)
    assert "cuda: 1 node ran on cpu: Abs 1" in verdict.notes
    assert any("site 'y': before cpu 1, after cuda 2" in line for line in verdict.summary())


@tells
def test_a_provider_by_default_is_left_out_where_a_site_fell_back(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, lambda _name, op, _provider: "cpu" if op == "Max" else "cuda")
    verdict = check(unary(LEAKY), unary(MUL_MAX), sites=[SITE])
    assert verdict.equivalent
    assert verdict.providers == ("cpu",)
    assert any(note.startswith("left out: provider cuda did not run every site") for note in verdict.notes)


@tells
def test_a_provider_without_a_node_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, lambda _name, _op, _provider: "cpu")
    with pytest.raises(ProviderError, match=r"cuda was given no node of this model \(nodes by provider: cpu 1\)"):
        check(unary(RELU), unary(LEAKY), providers=["cuda"])
