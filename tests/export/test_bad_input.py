"""Bad input: one sentence that says what, where and what to do, the exit code, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import onnxact
from tests.cli.runner import contents, invoke
from tests.export.nets import Linear

X = ("--input", "x:2,4")


def refuses(folder: Path, code: int, words: str, *arguments: str) -> str:
    """Return the one line on stderr, behind what the user's own file printed; with --json it is a report."""
    before = contents(folder)
    outcome = invoke("export", *arguments, "--json")
    line = outcome.err.splitlines()[-1]
    assert outcome.code == code, outcome.err
    assert words in line, line
    assert line.startswith("onnxact: ")
    assert "Traceback" not in outcome.err
    report = json.loads(outcome.out)
    assert (report["verb"], report["error"]["exit_code"]) == ("export", code)
    after = {name: content for name, content in contents(folder).items() if "__pycache__" not in name}
    assert after == before
    return line


MODULES = {
    "nets.py:resnet": (5, "has no 'resnet'; it has failing, net, nothing, number, scripted, wide, wrong_slope, Airy"),
    "nets.py:Net.small": (5, "has no 'Net.small'"),
    "nets.py:number": (5, "nets.py:number: returned an int, not a torch.nn.Module"),
    "nets.py:nothing": (5, "nets.py:nothing: returned nothing"),
    "nets.py:VALUE": (5, "is an int, neither a module nor callable"),
    "nets.py:wide": (5, "missing a required argument: 'width'; name a callable that needs no argument"),
    "nets.py:failing": (5, "nets.py:failing fails: ValueError: out of luck ("),
    "nets.py:BadExample": (5, "BadExample.example_inputs() fails: ValueError: no example today ("),
    "nets.py:Linear": (2, "no example inputs: give --input x:SHAPE (the module's forward takes x)"),
    "nets.py": (
        2,
        "names no callable: write it as FILE_OR_MODULE:CALLABLE, such as models/resnet.py:resnet18; nets.py",
    ),
    "nets": (2, "names no callable"),
    "nets.py:": (2, "names no callable"),
    "nets.py:a b": (2, "names no callable"),
    "nope.py:net": (5, "nope.py: there is no such file"),
    "no_such_package.nets:net": (5, "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
    "none.pt2": (5, "there is no such file"),
}


@pytest.mark.parametrize("module", MODULES)
def test_modules(here: Path, module: str) -> None:
    code, words = MODULES[module]
    refuses(here, code, words, module, "-o", "out.onnx")


IMPORTS = {
    "import missing_for_sure\n": "ModuleNotFoundError: No module named 'missing_for_sure' (",
    "def net(:\n": "SyntaxError: invalid syntax (broken.py, line 1)",
    "import sys\nsys.exit(3)\n": "SystemExit: 3 (",
    "x = 1\ny = x / 0\n": "broken.py:2 in <module>)",
}


@pytest.mark.parametrize("source", IMPORTS)
def test_files_that_do_not_import(here: Path, source: str) -> None:
    (here / "broken.py").write_text(source)
    refuses(here, 5, IMPORTS[source], "broken.py:net", "-o", "out.onnx")


def test_the_error_of_an_import_is_chained(here: Path) -> None:
    (here / "broken.py").write_text("1 / 0\n")
    with pytest.raises(onnxact.ExportError) as caught:
        onnxact.export("broken.py:net", output="out.onnx")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


WISHES = {
    ("--input", "y:2,4"): (2, "--input y: the module has no such input; its forward takes x"),
    ("--input", "x:2,a"): (2, "--input 'x:2,a': write it as NAME:1,3,224,224"),
    ("--input", "x:2,4:float31"): (2, "'float31' is no dtype; known: float32"),
    (*X, *X): (2, "--input x: given twice"),
    ("--input", "2,4", "--input", "2,4"): (2, "2 shapes are given, and the module's forward takes x"),
    ("--input", "x:2,5"): (5, "does not run in evaluation mode on x float32[2, 5]: RuntimeError: mat1 and mat2"),
    ("--input", "x:2,4:int64"): (5, "does not run in evaluation mode on x int64[2, 4]: RuntimeError"),
    (*X, "--dynamic", "y:0=b"): (2, "--dynamic y: the module has no such tensor input; it has x"),
    (*X, "--dynamic", "x:5=b"): (2, "--dynamic x:5: the input has the shape [2, 4], so axes 0 to 1"),
    (*X, "--dynamic", "x:0"): (2, "--dynamic 'x:0': write it as INPUT:AXIS=NAME"),
    (*X, "--dynamic", "x:0=2b"): (2, "'2b' is no name for a size"),
    (*X, "--dynamic", "x:0=b", "--dynamic", "x:-2=c"): (2, "--dynamic x:0: given twice"),
    (*X, "--dynamic", "x:0=b", "--dynamic", "x:1=b"): (2, "b: stands for 2 and for 4 in the example inputs"),
    (*X, "--opset", "99"): (2, "--opset 99: expected 7 to "),
    (*X, "--opset", "new"): (2, "--opset: 'new' is not a whole number"),
    (*X, "--dtype", "float8"): (2, "--dtype 'float8': expected float16, bfloat16, float32, float64"),
    (*X, "--external-from", "much"): (2, "expected a size"),
    (*X, "--swap", "relu"): (2, "write it as FROM=TO"),
    (*X, "--swap", "relu=nothing"): (2, "unknown activation 'nothing'"),
    (*X, "--swap", "relu=leaky-relu:beta=3"): (2, "leaky-relu has no parameter 'beta'"),
    (*X, "--swap", "relu=leaky-relu:alpha=x"): (2, "'alpha=x' is no NAME=VALUE with a number"),
    (*X, "--decompose", "nope"): (2, "no activation has a form 'nope'"),
    (*X, "--include", "("): (2, "is not a regular expression"),
    (*X, "--weights", "none.pt"): (5, "none.pt: there is no such file of weights"),
    (*X, "--providers", "gpu"): (2, "unknown provider 'gpu'"),
    (*X, "--load-inputs", "none.npz"): (5, "none.npz: cannot be read as inputs"),
    (*X, "--no-check", "--junit", "r.xml"): (2, "--junit tells of a check"),
}


@pytest.mark.parametrize("wishes", WISHES, ids=" ".join)
def test_wishes(here: Path, wishes: tuple[str, ...]) -> None:
    """Each is refused before anything is exported."""
    code, words = WISHES[wishes]
    refuses(here, code, words, "nets.py:Linear", "-o", "out.onnx", *wishes)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("TrainingOnly", "does not run in evaluation mode on x float32[2, 4]: RuntimeError: this is for training ("),
        ("StaysInTraining", "StaysInTraining: stays in training mode after eval()"),
        ("RefusesEvaluation", "cannot be put into evaluation mode: NotImplementedError: no evaluation here ("),
        ("NoTensor", "the module returns no tensor but an int"),
    ],
)
def test_modules_that_have_no_evaluation_mode(here: Path, module: str, words: str) -> None:
    refuses(here, 5, words, f"nets.py:{module}", "-o", "out.onnx", *X)


def test_control_flow_that_depends_on_data(here: Path) -> None:
    """What torch says, and where in the user's file."""
    line = refuses(here, 5, "Could not guard on data-dependent expression", "nets.py:Branches", "-o", "o.onnx", *X)
    number = 1 + (here / "nets.py").read_text().splitlines().index("        if x.sum() > 0:")
    assert f"nets.py:{number} in forward" in line
    assert "torch.cond" in line


def test_a_dynamic_axis_of_a_module_that_has_one_size(here: Path) -> None:
    arguments = ("nets.py:OneSize", "-o", "o.onnx", "--input", "x:3,4", "--dynamic", "x:0=batch")
    line = refuses(here, 5, "tracing inferred a static shape of 3", *arguments)
    assert "leave that --dynamic out" in line


def test_an_operator_that_onnx_lacks(here: Path) -> None:
    refuses(here, 5, "aten.special_airy_ai", "nets.py:Airy", "-o", "o.onnx", *X)


def test_slopes_that_are_drawn_at_random(here: Path) -> None:
    refuses(here, 5, "call F.rrelu with training=self.training", "nets.py:NoisySlopes", "-o", "o.onnx", *X)


@pytest.mark.parametrize("opset", ["12", "13"])
def test_an_opset_that_the_converter_does_not_reach(here: Path, opset: str) -> None:
    """The converter is to blame, and the earliest opset that it does reach is named, and right."""
    words = (
        f"--opset {opset}: PyTorch's exporter writes opset 18, and onnx's version converter has no way from there down "
        f"to {opset} (No Adapter From Version 14 for Relu); give --opset 14 or later"
    )
    refuses(here, 5, words, "nets.py:Linear", "-o", "o.onnx", *X, "--opset", opset)
    assert onnxact.export(Linear(), torch.zeros(2, 4), here / "o.onnx", opset=14, check=False).opset == 14


def test_an_axis_that_meets_one_that_is_not_dynamic(here: Path) -> None:
    """The cure is in the message, and cures."""
    inputs = ("--input", "ids:2,7", "--input", "mask:2,7", "--dynamic", "ids:1=n")
    line = refuses(here, 5, "give --dynamic mask:1=n as well", "nets.py:Together", "-o", "o.onnx", *inputs)
    assert "leave that --dynamic out" not in line
    done = invoke("export", "nets.py:Together", "-o", "o.onnx", *inputs, "--dynamic", "mask:1=n", "--providers", "cpu")
    assert done.code == 0, done.err


def test_weights_without_values(here: Path) -> None:
    words = "l.weight and 1 more: on the meta device, which holds no values; load them with --weights FILE"
    refuses(here, 5, words, "nets.py:Shapes", "-o", "o.onnx", *X)
    torch.save(Linear().state_dict(), here / "w.pt")
    done = invoke("export", "nets.py:Shapes", "-o", "o.onnx", *X, "--weights", "w.pt", "--no-check")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nets.py:Linear", "--input", "x:2,5"), "does not run in evaluation mode on x float32[2, 5]: RuntimeError"),
        (("nets.py:NoTensor", *X), "the module returns no tensor but an int"),
        (("nets.py:TrainingOnly", *X), "does not run in evaluation mode on x float32[2, 4]: RuntimeError: this is for"),
    ],
)
def test_unchecked_exports_say_the_same(here: Path, arguments: tuple[str, ...], words: str) -> None:
    refuses(here, 5, words, *arguments, "-o", "o.onnx", "--no-check")


def test_scripted_modules(here: Path) -> None:
    words = "a scripted module cannot be exported; export the module that it was made from"
    refuses(here, 5, words, "nets.py:scripted", "-o", "o.onnx", "--input", "input:2,4")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("no/where/out.onnx", "the folder no/where does not exist; make it first"),
        (".", "is a directory"),
        ("taken.onnx", "taken.onnx: exists; give --force to overwrite it"),
        ("-", "name a file"),
    ],
)
def test_outputs_that_cannot_be_written(here: Path, output: str, words: str) -> None:
    (here / "taken.onnx").write_bytes(b"mine")
    refuses(here, 2 if output == "-" else 5, words, "nets.py:Linear", "-o", output, *X)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_to(here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    refuses(here, 5, "cannot be written", "nets.py:Linear", "-o", "locked/out.onnx", *X)


def test_a_module_object_needs_an_output_and_has_no_weights_file() -> None:
    with pytest.raises(onnxact.UsageError, match="needs an output"):
        onnxact.export(nn.ReLU(), torch.zeros(2, 4))
    with pytest.raises(onnxact.UsageError, match="load them into yours yourself"):
        onnxact.export(nn.ReLU(), torch.zeros(2, 4), "x.onnx", weights="w.pt")
    with pytest.raises(onnxact.UsageError, match="no option nonsense; known: "):
        onnxact.export(nn.ReLU(), torch.zeros(2, 4), "x.onnx", check={"nonsense": 1})
    with pytest.raises(onnxact.UsageError, match="dynamic or dynamic_shapes, not both"):
        onnxact.export(nn.ReLU(), torch.zeros(2, 4), "x.onnx", dynamic=["input:0=b"], dynamic_shapes=({0: "b"},))


_WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from onnxact.cli import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "extra"),
    [("torch", "torch"), ("onnxscript", "torch"), ("onnxruntime", "cpu"), ("safetensors", "safetensors")],
)
def test_packages_that_are_not_installed(here: Path, missing: str, extra: str) -> None:
    (here / "w.safetensors").write_bytes(b"anything")
    weights = ("--weights", "w.safetensors") if missing == "safetensors" else ()
    command = [sys.executable, "-c", _WITHOUT.format(missing=missing), "export", "nets.py:Linear", "-o", "o.onnx", *X]
    done = subprocess.run([*command, *weights], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert f"pip install 'onnxact[{extra}]'" in done.stderr.splitlines()[-1]
    assert not (here / "o.onnx").exists()
