"""All networks of models/: `onnxact export FILE:BUILDER` just works, and what comes out equals eager PyTorch."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import onnxact
from onnxact.export.eager import call
from onnxact.export.example import Example
from onnxact.export.target import open_target, parse
from onnxact.model.view import View
from tests.models.networks import MODELS, NETWORKS, Network

NO_NETWORKS = {"accuracy.py", "seeding.py"}


@dataclass(frozen=True)
class Case:
    network: Network
    module: nn.Module
    exported: onnxact.Exported
    model: onnx.ModelProto


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    network: Network = request.param
    output = tmp_path_factory.mktemp("networks") / f"{network}.onnx"
    module = open_target(parse(network.target))
    found = onnxact.export(
        network.target,
        output=output,
        inputs=network.inputs,
        dynamic=network.dynamic,
        check={"providers": ["cpu"]},
    )
    return Case(network, module, found, onnx.load(output))


def test_it_is_equivalent_to_eager_pytorch(case: Case) -> None:
    verdict = case.exported.verdict
    assert verdict is not None
    assert verdict.equivalent, case.exported.summary()
    assert case.exported.exit_code == 0
    assert {run.optimise for run in verdict.runs} == {False, True}
    assert len(verdict.sites) == len(case.exported.sites)


def test_every_activation_is_there_and_was_taken_on_both_sides(case: Case) -> None:
    assert case.exported.verdict is not None
    found = Counter(site.activation for site in case.exported.sites)
    assert found == Counter(case.network.activations)
    for item in case.exported.verdict.sites:
        assert item.reached, item
        assert item.alone == "same", item
        at_zero = [count for count in item.counts if count.kink == 0]
        assert all(count.below and count.above for count in at_zero), item


def test_nodes_are_named_after_modules(case: Case) -> None:
    view = View(case.model)
    names = [node.name for scope in view.scopes for node in scope.nodes]
    assert all(names)
    assert len(names) == len(set(names))
    paths = {name for name, _ in case.module.named_modules()}
    own = {name.rpartition("/")[0] for name in names}
    assert own <= paths
    assert {site.scope.path for site in case.exported.sites} == set(case.network.scopes)


def test_a_module_path_selects_its_sites_in_later_verbs(case: Case) -> None:
    """A PATH[./] pattern, so that layer1 does not stand for layer10."""
    pattern = f"^{re.escape(case.network.path)}[./]"
    inside = [site for site in case.exported.sites if re.search(pattern, site.node)]
    assert inside
    for activation in {site.activation for site in inside}:
        result = onnxact.swap(case.model, activation, "softsign", include=[pattern])
        expected = {site.node for site in inside if site.activation == activation}
        assert {change.site.node for change in result.sites} == expected


def test_dynamic_axes_were_tried_at_other_sizes(case: Case) -> None:
    assert case.exported.verdict is not None
    names = {dim.dim_param for value in case.model.graph.input for dim in value.type.tensor_type.shape.dim}
    assert names - {""} == {text.partition("=")[2] for text in case.network.dynamic}
    labels = {run.inputs for run in case.exported.verdict.runs}
    assert any("other sizes" in label for label in labels) == bool(case.network.dynamic)


def test_the_file_says_nothing_of_this_machine(case: Case) -> None:
    content = case.model.SerializeToString()
    assert str(MODELS).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_weights_are_made_by_seed(case: Case) -> None:
    """The same ones each time, and the random state of the caller stays."""
    before = torch.get_rng_state()
    again = open_target(parse(case.network.target))
    assert torch.equal(torch.get_rng_state(), before)
    own, others = case.module.state_dict(), again.state_dict()
    assert own.keys() == others.keys()
    assert all(torch.equal(own[key], others[key]) for key in own)
    assert not again.training


def test_it_runs_on_its_own_example(case: Case) -> None:
    example = case.module.example_inputs()  # type: ignore[operator]
    if sum(item.numel() for item in example) < 2**18:
        assert call(case.module, Example(example, {}, ())).isfinite().all()


def test_every_file_of_the_folder_is_here() -> None:
    files = {path.name for path in MODELS.glob("*.py")} - NO_NETWORKS
    texts = {name: ast.get_docstring(ast.parse((MODELS / name).read_text())) or "" for name in files}
    networks = {name for name, text in texts.items() if "(arXiv:" in text}
    assert {network.file for network in NETWORKS} == networks
    for name in networks:
        lines = (MODELS / name).read_text().splitlines()
        assert len(lines) <= 120, name
        assert any(f"onnxact export models/{name}:" in line for line in lines), name


def test_the_readme_of_the_folder_lists_every_network_with_its_papers() -> None:
    rows = [line for line in (MODELS / "README.md").read_text().splitlines() if line.startswith("| [`")]
    for network in NETWORKS:
        (row,) = [row for row in rows if f"[`{network.file}`]({network.file})" in row]
        papers = re.findall(r"arXiv:\d+\.\d+", (MODELS / network.file).read_text())
        assert f"`{network.builder}`" in row
        assert papers
        assert all(paper in row for paper in papers), (row, papers)
    assert len(rows) == len({network.file for network in NETWORKS})


@pytest.fixture
def models_on_path() -> Iterator[None]:
    sys.path.insert(0, str(MODELS))
    yield
    sys.path.remove(str(MODELS))


@pytest.mark.usefixtures("models_on_path")
def test_resnets_weights_have_torchvisions_names() -> None:
    keys = set(importlib.import_module("resnet").resnet18(width=8).state_dict())
    assert {"conv1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "fc.bias"} <= keys
    assert len(keys) == 122  # torchvision.models.resnet18().state_dict()
