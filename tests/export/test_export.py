"""The library: what can be handed in, what comes out, and that what was handed in stays as it was."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import onnxact
from onnxact.export import eager
from onnxact.export.dynamic import DynamicAxis, parse_dynamic
from onnxact.export.example import InputSpec, make_example, parse_input
from onnxact.export.quiet import quietly
from tests.cli.runner import invoke
from tests.export.conftest import CPU, Shared
from tests.export.nets import Lightning, Linear, Net, NoInputs, Table


def test_the_module_is_left_as_it_was(shared: Shared, tmp_path: Path) -> None:
    """Each part in its mode, weights and their dtype, no hooks, no gradients."""
    module = Net()
    module.layer1.eval()
    before = {name: (item.training, item._forward_hooks) for name, item in module.named_modules()}
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    found = onnxact.export(module, None, tmp_path / "net.onnx", dtype="float16", check=False)
    assert found.mode == "evaluation mode, although the module came in training mode"
    assert {name: (item.training, item._forward_hooks) for name, item in module.named_modules()} == before
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert {item.data_type for item in onnx.load(found.files[0]).graph.initializer if len(item.dims) > 1} == {
        onnx.TensorProto.FLOAT16
    }


def test_what_comes_out(shared: Shared) -> None:
    found = shared.exported
    assert found.exit_code == 0
    assert found.inputs == ("image float32[2, 3, 8, 8]",)
    assert found.op_counts["Relu"] == 7
    assert found.model == str(shared.path)
    assert "7 x relu (op)" in found.summary()
    found.raise_unless_equivalent()
    report = json.loads(json.dumps(found.to_json()))
    assert report["schema"] == "onnxact/1"
    assert report["files"] == [str(shared.path)]
    assert {site["node"] for site in report["sites"]} == {site.node for site in found.sites}


def test_arguments_by_name_and_outputs_by_name(tmp_path: Path) -> None:
    example = {"ids": torch.tensor([[1, 2, 3]]), "weight": torch.ones(1, 3, 4)}
    shapes = ["ids:0=batch", "ids:1=length", "weight:0=batch", "weight:1=length"]
    found = onnxact.export(Table(), example, tmp_path / "t.onnx", dynamic=shapes, check=CPU)
    assert found.exit_code == 0, found.summary()
    model = onnx.load(found.files[0])
    assert [value.name for value in model.graph.input] == ["ids", "weight"]
    dims = [[dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert dims == [["batch", "length"], ["batch", "length", ""]]
    assert len(model.graph.output) == 2
    leaky = [site for site in found.sites if site.activation == "leaky_relu"]
    assert len(leaky) == 1
    assert found.verdict is not None
    assert any("other sizes" in run.inputs for run in found.verdict.runs), "no index counts from the end"


class Nested(nn.Module):
    """Tensors inside a dict, behind one that is not; both factors are read."""

    def forward(self, x: Tensor, parts: dict[str, Tensor], *, scale: Tensor | None = None) -> Tensor:
        y = F.relu(x) * parts["a"] + parts["b"]
        return y if scale is None else y * scale


TENSOR = torch.arange(8.0).reshape(2, 4) - 3
PARTS = {"a": TENSOR * 2, "b": TENSOR + 1}
NESTED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a dict at the end": ((TENSOR, PARTS), ("x", "parts_a", "parts_b")),
    "a dict before keywords": (
        {"args": (TENSOR, PARTS), "kwargs": {"scale": TENSOR - 1}},
        ("x", "parts_a", "parts_b", "scale"),
    ),
    "one tensor in several places": ((TENSOR, {"a": TENSOR, "b": TENSOR}), ("x", "parts_a", "parts_b")),
}


@pytest.mark.parametrize("name", NESTED)
def test_tensors_in_dicts(name: str, tmp_path: Path) -> None:
    """torch.onnx.export takes a dict at the end for keywords, and torch.export one tensor for one input."""
    example, names = NESTED[name]
    found = onnxact.export(Nested(), example, tmp_path / "n.onnx", check=CPU)
    assert found.exit_code == 0, found.summary()
    assert tuple(text.split()[0] for text in found.inputs) == names


def test_dynamic_shapes_as_torch_has_them(tmp_path: Path) -> None:
    found = onnxact.export(Linear(), torch.zeros(2, 4), tmp_path / "l.onnx", dynamic_shapes=({0: "rows"},), check=False)
    (dim, _) = onnx.load(found.files[0]).graph.input[0].type.tensor_type.shape.dim
    assert dim.dim_param == "rows"


def test_opset(tmp_path: Path) -> None:
    for opset in (18, 23):
        found = onnxact.export(nn.GELU(), torch.zeros(2, 4), tmp_path / f"{opset}.onnx", opset=opset, check=CPU)
        assert (found.opset, found.exit_code) == (opset, 0)
        assert [site.activation for site in found.sites] == ["gelu"]


CONVENTIONS: dict[str, tuple[nn.Module, Any, tuple[int, ...]]] = {
    "a tensor": (Linear(), torch.zeros(3, 4), (3, 4)),
    "a tuple": (Linear(), (torch.zeros(3, 4),), (3, 4)),
    "a dict": (Linear(), {"x": torch.zeros(3, 4)}, (3, 4)),
    "a method of the module": (Net(), None, (2, 3, 8, 8)),
    "Lightning's attribute": (Lightning(), None, (2, 4)),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_example_inputs(name: str) -> None:
    module, given, shape = CONVENTIONS[name]
    example = make_example(module, given, [], [])
    assert [tuple(tensor.shape) for tensor in example.tensors] == [shape]
    assert len(example.names) == 1


def test_the_convention_of_torch_onnx() -> None:
    class Own(torch.onnx.ExportableModule):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return (x * scale).relu()

        def example_arguments(self) -> tuple[tuple[Any], dict[str, Any] | None]:
            return (torch.zeros(2, 4),), {"scale": torch.ones(1)}

    example = make_example(Own(), None, [], [])
    assert (example.names, tuple(example.kwargs)) == (("x", "scale"), ("scale",))


def test_made_up_inputs_take_the_place_of_the_modules_own() -> None:
    example = make_example(Net(), None, [parse_input("5,3,4,4")], [])
    assert example.tensors[0].shape == (5, 3, 4, 4)
    assert (example.tensors[0] < 0).any()
    assert (example.tensors[0] > 0).any()
    table = make_example(Table(), None, [parse_input("ids:2,3:int64"), parse_input("weight:2,3,4")], [], "float64")
    assert [tensor.dtype for tensor in table.tensors] == [torch.int64, torch.float64]
    assert not table.tensors[0].any()
    later = make_example(
        Table(), None, [parse_input("weight:2,4"), parse_input("ids:2:int64"), parse_input("shift:4")], []
    )
    assert [tuple(tensor.shape) for tensor in later.tensors] == [(2,), (2, 4), (4,)]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x:1,3,224,224", InputSpec("x", (1, 3, 224, 224))),
        ("x:2:int64", InputSpec("x", (2,), "int64")),
        ("2,4", InputSpec("", (2, 4))),
        ("2,4:float16", InputSpec("", (2, 4), "float16")),
        ("a:b:2,4", InputSpec("a:b", (2, 4))),
    ],
)
def test_input_texts(text: str, spec: InputSpec) -> None:
    assert parse_input(text) == spec


def test_dynamic_texts() -> None:
    assert parse_dynamic("x:0=batch") == DynamicAxis("x", 0, "batch")
    assert parse_dynamic("a:b:-1=n") == DynamicAxis("a:b", -1, "n")


def test_a_file_is_imported_as_python_would(here: Path) -> None:
    """Its folder is on the path, it sees itself under its own name, and what it prints goes to stderr."""
    (here / "beside_it_here.py").write_text("from torch import nn\nact = nn.ReLU\n")
    (here / "builds_a_net.py").write_text(
        "import sys\nfrom beside_it_here import act\nprint('noise')\nassert sys.modules[__name__].act is act\n"
        "def net():\n    import beside_it_here\n    return beside_it_here.act()\n"
    )
    done = invoke("export", "builds_a_net.py:net", "--input", "input:2,4", "--no-check", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["output"] == "net.onnx"
    assert "noise" in done.err
    assert str(here) not in sys.path
    again = invoke("export", "beside_it_here:act", "--input", "input:2,4", "--no-check", "-o", "again.onnx", "-q")
    assert (again.code, again.out) == (0, "")


def test_the_default_output_stands_beside_the_file(here: Path) -> None:
    (here / "sub").mkdir()
    (here / "nets.py").rename(here / "sub" / "nets.py")
    done = invoke("export", "sub/nets.py:INSTANCE", "--input", "input:2,4", "--no-check", "-q")
    assert done.code == 0, done.err
    assert (here / "sub" / "INSTANCE.onnx").is_file()


def test_quiet_is_quiet_and_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.manager.disable
    with quietly():
        warnings.warn("held back", stacklevel=1)
        logging.getLogger("torch.onnx").error("held back")
        print("held back")  # noqa: T201
        print("held back", file=sys.stderr)  # noqa: T201
    assert logging.root.manager.disable == before
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ZeroDivisionError), quietly():
        1 / 0  # noqa: B018
    assert logging.root.manager.disable == before


class Loop(nn.Module):
    """A while loop whose body has an activation; how often it runs depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 4)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        def goes_on(step: Tensor, x: Tensor) -> Tensor:
            return step < 3

        def body(step: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return step + 1, self.act(self.l(x))

        found: Tensor = torch.while_loop(goes_on, body, (torch.tensor(0), x))[1]  # type: ignore[no-untyped-call]
        return F.relu(found)


@pytest.mark.skipif(not hasattr(torch, "while_loop"), reason="torch.while_loop is not public before torch 2.9")
def test_an_activation_in_a_while_loop(tmp_path: Path) -> None:
    found = onnxact.export(Loop(), torch.randn(3, 4), tmp_path / "loop.onnx", check=CPU)
    assert found.exit_code == 0, found.summary()
    assert {site.node for site in found.sites} == {"act/LeakyRelu", "Relu"}
    assert found.verdict is not None
    (inside,) = [item for item in found.verdict.sites if item.site.scope]
    assert inside.elements == 2 * 3 * 12, "three steps, two sets of inputs"
    assert inside.alone == "same"


def test_a_module_without_inputs(tmp_path: Path) -> None:
    found = onnxact.export(NoInputs(), None, tmp_path / "n.onnx", check=CPU)
    assert found.exit_code == 0, found.summary()
    assert (found.inputs, len(found.proto.graph.input)) == ((), 0)
    assert "evaluation mode, although the module came in training mode, no inputs" in found.summary()


def test_nothing_runs_in_pytorch_where_nothing_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[nn.Module] = []
    original = eager.call

    def counted(module: nn.Module, example: Any) -> Any:
        runs.append(module)
        return original(module, example)

    monkeypatch.setattr(eager, "call", counted)
    onnxact.export(Linear(), torch.zeros(2, 4), tmp_path / "l.onnx", check=False)
    assert not runs
    onnxact.export(Linear(), torch.zeros(2, 4), tmp_path / "c.onnx", check=CPU)
    assert runs


def test_a_part_of_a_site_is_accounted_for(tmp_path: Path) -> None:
    """Softplus(beta, threshold) has Div(Softplus(beta x), beta) in it, which is a softplus by itself."""
    found = onnxact.export(nn.Softplus(2.0, 15.0), torch.zeros(2, 4), tmp_path / "s.onnx", check=False)
    assert [(site.activation, site.form) for site in found.sites] == [("softplus", "scaled-threshold")]
    assert found.skipped == ()


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.drop(self.norm(x)))


def test_a_program_that_was_exported_in_training_mode(tmp_path: Path) -> None:
    """It cannot leave that mode: what says so, and what to do, is not the hint for a module."""
    programs = {
        training: torch.export.export(Dropping().train(training), (torch.randn(8, 4),)) for training in (True, False)
    }
    found = onnxact.export(programs[True], None, tmp_path / "p.onnx", check=CPU)
    assert found.mode == (
        "as the program was exported, in training mode (aten.batch_norm, aten.dropout); export it after module.eval() "
        "for evaluation mode"
    )
    assert found.verdict is not None
    assert any(
        reason.endswith("as dropout does in a program that was exported without module.eval()")
        for reason in found.verdict.reasons
    )
    assert onnxact.export(programs[False], None, tmp_path / "e.onnx", check=False).mode == "as the program was exported"


def test_a_type_that_the_runtime_lacks_a_kernel_for(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    found = onnxact.export(module, torch.zeros(2, 3, 4, 4), tmp_path / "d.onnx", dtype="float64", check=CPU)
    assert found.verdict is not None
    (reason,) = found.verdict.reasons
    assert found.exit_code == 4
    assert reason.endswith(
        "; it has few float64 kernels: check on another provider, such as cuda, or export another --dtype"
    )
