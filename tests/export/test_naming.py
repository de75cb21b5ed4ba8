"""Module paths survive: every node is named after its module, and paths select sites in every later verb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

import onnxact
from onnxact.export.naming import module_path, name_nodes
from onnxact.model.view import View
from tests.cli.runner import invoke
from tests.export.conftest import Shared

SITES = {
    "act/LeakyRelu", "act/LeakyRelu_1", "Relu",
    "layer1.0.relu/Relu", "layer1.0.relu/Relu_1", "layer1.1.relu/Relu", "layer1.1.relu/Relu_1",
    "layer10.relu/Relu", "layer10.relu/Relu_1",
}  # fmt: skip


def test_every_site_bears_the_path_of_its_module(shared: Shared) -> None:
    assert {site.node for site in shared.exported.sites} == SITES


def test_names_are_unique_and_say_the_op(shared: Shared) -> None:
    names = {node.name: node.op_type for node in onnx.load(shared.path).graph.node}
    assert len(names) == len(onnx.load(shared.path).graph.node)
    paths = {name for name, _ in shared.module.named_modules()}
    for name, op in names.items():
        path, _, last = name.rpartition("/")
        assert path in paths
        assert last.partition("_")[0] == op


@pytest.mark.parametrize(
    ("expression", "count"),
    [("^layer1", 6), (r"^layer1\.", 4), (r"^layer1\.0\.relu", 2), ("^layer10", 2), ("^Relu$", 1)],
)
def test_paths_select_sites_in_every_later_verb(shared: Shared, expression: str, count: int) -> None:
    model = onnx.load(shared.path)
    options: Mapping[str, Any] = {"include": [expression]}
    swapped = onnxact.swap_relu(model, alpha=0.3, **options)
    assert len(swapped.sites) == count
    assert all(change.site.node in SITES for change in swapped.sites)
    decomposed = onnxact.decompose(model, form="max", **options)
    assert len(decomposed.sites) == count
    fused = onnxact.fuse(decomposed.model, **options)
    assert {change.site.node for change in fused.sites} == {change.site.node for change in decomposed.sites}
    assert fused.model == model


def test_paths_select_sites_on_the_command_line(shared: Shared) -> None:
    done = invoke("swap-relu", shared.path, "--include", "^layer1", "--dry-run", "--json")
    nodes = {site["node"] for site in json.loads(done.out)["sites"]}
    assert nodes == {name for name in SITES if name.startswith("layer1")}


def test_stack_traces_are_left_out(shared: Shared) -> None:
    model = onnx.load(shared.path)
    keys = {entry.key for scope in View(model).scopes for node in scope.nodes for entry in node.metadata_props}
    assert "pkg.torch.onnx.name_scopes" in keys
    assert not any("stack_trace" in key for key in keys)
    assert b"site-packages" not in model.SerializeToString()


@pytest.mark.parametrize(
    ("scopes", "path"),
    [
        ("['', 'layer1', 'layer1.0', 'relu_3']", "layer1.0"),
        ("['', 'relu']", ""),
        ("['relu']", None),
        ("", None),
        ("['', '_export_root', '_export_root.act', 'relu']", "act"),
        ("['', '_export_root', 'relu']", ""),
        ("['', '_empty_nn_module_stack_from_metadata_hook', 'mul']", ""),
        ("not a list", None),
    ],
)
def test_the_path_in_the_metadata(scopes: str, path: str | None) -> None:
    assert module_path(scopes) == path


def node(
    op: str, scopes: str | None, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = (), **bodies: Any
) -> Any:
    values = [[SimpleNamespace(name=name) for name in names] for names in (inputs, outputs)]
    attributes = {
        name: SimpleNamespace(name=name, type=SimpleNamespace(name="GRAPH"), value=body)
        for name, body in bodies.items()
    }
    metadata = {} if scopes is None else {"pkg.torch.onnx.name_scopes": scopes, "pkg.torch.onnx.stack_trace": "/home"}
    return SimpleNamespace(
        op_type=op, name="", inputs=values[0], outputs=values[1], attributes=attributes, metadata_props=metadata
    )


def test_nodes_without_a_module_of_their_own() -> None:
    """One that an optimisation added goes with what it reads; one in a body with the node that holds the body."""
    inner = [node("Relu", "['relu']"), node("Relu", "['', 'late', 'relu_1']"), node("Neg", None, ("h",))]
    graph = [
        node("Gemm", "['', 'early', 'linear']", ("x",), ("h",)),
        node("Cast", None, ("h",), ("c",)),
        node("If", "['', 'cond']", ("c",), ("y",), then_branch=inner),
        node("Relu", "['', 'late', 'relu_2']"),
        node("Relu", "['', 'late', 'relu_3']"),
    ]
    name_nodes(SimpleNamespace(graph=graph, functions={}))
    assert [item.name for item in graph] == ["early/Gemm", "early/Cast", "If", "late/Relu_1", "late/Relu_2"]
    assert [item.name for item in inner] == ["If/then_branch/Relu", "late/Relu", "If/then_branch/Neg"]
    assert not any("pkg.torch.onnx.stack_trace" in item.metadata_props for item in (*graph, *inner))


def test_a_number_that_is_taken_is_passed_over() -> None:
    graph = [node("Relu", "['', 'a', 'r']"), node("Relu_1", "['', 'a', 'r']"), node("Relu", "['', 'a', 'r']")]
    name_nodes(SimpleNamespace(graph=graph, functions={}))
    assert [item.name for item in graph] == ["a/Relu", "a/Relu_1", "a/Relu_2"]
