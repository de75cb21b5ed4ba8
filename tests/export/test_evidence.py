"""The check of an export finds what is wrong, says where, and says what it could not find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import onnxact
from onnxact.check import Verdict
from onnxact.export.evidence import Judge
from onnxact.export.making import Made, Making, Wishes
from onnxact.export.staging import Staged
from onnxact.model.view import View
from tests.cli.runner import invoke
from tests.export.conftest import CPU
from tests.export.nets import Linear
from tests.models.networks import MODELS

NO_WISHES = Wishes(None, (), (), None, None, None, None, 2**28)


class Net(nn.Module):
    """A slope a channel, a bound far from zero, a square that is never negative, and a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 4)
        self.prelu = nn.PReLU(4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(self.l(x), 0.2)
        y = self.prelu(h) + F.relu(h * h) + F.relu(h - 1e4)
        return F.relu6(y), torch.sigmoid(h)

    def example_inputs(self) -> Tensor:
        return torch.zeros(3, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One export, which the tests damage in copies."""
    torch.manual_seed(0)
    output = tmp_path_factory.mktemp("evidence") / "net.onnx"
    making = Making.of(Net(), NO_WISHES, output, force=False, dry_run=False, progress=lambda _what, _done: None)
    with making.open(checked=True) as found:
        yield found


def judged(made: Made, folder: Path, change: Callable[[ModelProto], None] | None = None, **options: Any) -> Verdict:
    model = ModelProto()
    model.CopyFrom(made.proto)
    if change is not None:
        change(model)
    staged = Staged(folder, folder / "net.onnx")
    staged.path.write_bytes(model.SerializeToString())
    return Judge.of({**CPU, **options}).run(made.eager, made.program, staged, lambda _what, _done: None)


def find_node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(node for scope in View(model).scopes for node in scope.nodes if node.name == name)


def test_what_is_right_is_equivalent(made: Made, tmp_path: Path) -> None:
    verdict = judged(made, tmp_path)
    assert verdict.equivalent, verdict.summary()
    assert [str(run) for run in verdict.runs[:2]] == ["seed 0, cpu, optimisation off", "seed 1, cpu, optimisation off"]
    assert {run.optimise for run in verdict.runs} == {False, True}
    assert {item.name for item in verdict.outputs} == set(made.outputs)
    by_node = {item.site.node: item for item in verdict.sites}
    assert by_node["prelu/PRelu"].counts[0].channels == 4
    assert not by_node["prelu/PRelu"].counts[0].channels_never_below
    assert "nothing can be below 0" in by_node["Relu"].ruled_out
    assert all(item.reached and item.alone == "same" for item in verdict.sites)
    far = by_node["Relu_1"]
    assert far.reached
    assert "no value above 0 entered it" in far.missed


def test_a_slope_that_is_a_little_off(made: Made, tmp_path: Path) -> None:
    """By a thousandth, which the outputs' tolerance alone would show too; the site says where."""

    def damage(model: ModelProto) -> None:
        find_node(model, "LeakyRelu").attribute[0].f = 0.2002

    verdict = judged(made, tmp_path, damage)
    assert verdict.outcome == "different"
    (site,) = [item for item in verdict.sites if item.outcome == "different"]
    assert site.site.node == "LeakyRelu"
    assert "at -10 PyTorch gives -2" in site.differs
    assert any("site 'LeakyRelu'" in reason for reason in verdict.reasons)


def test_a_branch_that_no_output_shows(made: Made, tmp_path: Path) -> None:
    """Nothing reaches it, and yet the site on its own is found to be another function."""

    def damage(model: ModelProto) -> None:
        node = find_node(model, "Relu_1")
        node.op_type = "Abs"

    verdict = judged(made, tmp_path, damage)
    assert verdict.outcome == "different"


def test_an_activation_that_became_another(made: Made, tmp_path: Path) -> None:
    def damage(model: ModelProto) -> None:
        find_node(model, "Sigmoid").op_type = "Tanh"

    verdict = judged(made, tmp_path, damage)
    assert verdict.outcome == "different"
    assert any(
        reason.startswith(f"output {made.outputs[1]} (seed 0, cpu, optimisation off)") for reason in verdict.reasons
    )


def test_a_weight_that_is_off(made: Made, tmp_path: Path) -> None:
    """The outputs differ, the sites do not."""

    def damage(model: ModelProto) -> None:
        weight = next(item for item in model.graph.initializer if item.name == "l.weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), "l.weight"))

    verdict = judged(made, tmp_path, damage)
    assert verdict.outcome == "different"
    assert all(item.alone == "same" for item in verdict.sites)


def test_a_file_that_does_not_load(made: Made, tmp_path: Path) -> None:
    def damage(model: ModelProto) -> None:
        find_node(model, "LeakyRelu").op_type = "NoSuchOp"

    verdict = judged(made, tmp_path, damage)
    assert verdict.outcome == "inconclusive"
    assert "nothing was compared" in verdict.reasons[0]
    assert str(tmp_path) not in verdict.reasons[0]


def test_tolerances_and_inputs_are_those_of_check(made: Made, tmp_path: Path) -> None:
    assert judged(made, tmp_path, rtol=0.0, atol=0.0).outcome == "different"
    verdict = judged(made, tmp_path, seeds=(5,), save_inputs=tmp_path / "in.npz")
    assert verdict.runs[0].inputs == "seed 5"
    again = judged(made, tmp_path, inputs=onnxact.check.load_inputs(tmp_path / "in.npz"))  # type: ignore[attr-defined]
    assert again.equivalent
    negative = judged(made, tmp_path, val_range={"": (-1e-3, 0.0)}, seeds=(0,))
    assert negative.equivalent
    with pytest.raises(onnxact.UsageError, match="tolerance for other: the model has no such output"):
        judged(made, tmp_path, rtol={"other": 1.0})


def test_outputs_that_are_drawn_at_random(here: Path) -> None:
    done = invoke("export", "nets.py:Random", "-o", "out.onnx", "--input", "x:2,4", "--providers", "cpu")
    assert done.code == 4
    assert "it draws random numbers in evaluation mode" in done.out
    assert done.out.splitlines()[-1] == "wrote out.onnx, which was NOT shown to be right"
    assert Path("out.onnx").exists()


def test_a_branch_of_a_model_that_is_wrong(tmp_path: Path) -> None:
    """Inside an If, in the branch that the inputs do not take at first."""
    target = f"{MODELS / 'branching.py'}:branchy_net"
    making = Making.of(target, NO_WISHES, tmp_path / "o.onnx", force=False, dry_run=False, progress=lambda _w, _d: None)

    def damage(model: ModelProto) -> None:
        find_node(model, "early.1/Relu_1").op_type = "Abs"

    with making.open(checked=True) as made:
        (tmp_path / "right").mkdir()
        right = judged(made, tmp_path / "right")
        wrong = judged(made, tmp_path, damage)
    assert right.equivalent
    (site,) = [item for item in right.sites if item.site.node == "early.1/Relu_1"]
    assert site.site.scope == "/If.then_branch"
    assert site.counts[0].below
    assert site.counts[0].above
    assert wrong.outcome == "different"


def test_half_precision_is_judged_by_its_own_noise(tmp_path: Path) -> None:
    module = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(6)))
    found = onnxact.export(module, torch.zeros(4, 16), tmp_path / "half.onnx", dtype="float16", check=CPU)
    assert found.verdict is not None
    assert found.verdict.equivalent, found.summary()
    assert {item.dtype for item in found.verdict.outputs} == {"float16"}
    assert next(module.parameters()).dtype == torch.float32


def test_bfloat16_that_nothing_here_runs(tmp_path: Path) -> None:
    """ONNX Runtime's CPU provider has no bfloat16 kernels: never a pass that was not shown."""
    output = tmp_path / "b.onnx"
    found = onnxact.export(Linear(), torch.zeros(2, 4), output, dtype="bfloat16", check=CPU)
    assert (found.opset, found.exit_code) == (22, 4)
    assert found.notes == ("opset 22, since the ones before have ops that take no bfloat16",)
    assert found.verdict is not None
    assert "bfloat16 kernels" in found.verdict.reasons[0]
    assert output.exists()
    with pytest.raises(onnxact.ExportError, match="Elu takes no bfloat16 at opset 18; give --opset 22 or later"):
        onnxact.export(nn.ELU(), torch.zeros(2, 4), tmp_path / "c.onnx", dtype="bfloat16", opset=18)
