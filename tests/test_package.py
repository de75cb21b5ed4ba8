"""The package as a whole: the order of its layers, its public names, and how little it needs to be imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxact
from onnxact import errors

ROOT = Path(onnxact.__file__).parent
# DESIGN.md, "Layout": lower ones do not import higher ones.
LAYERS = ("version", "errors", "activation", "model", "rewrite", "check", "export", "interop", "report", "api", "cli")
LEVELS = {name: level for level, name in enumerate(LAYERS)} | {
    "arguments": 1,
    "words": 1,
    "interop": 7,
    "report": 7,
    "api": 8,
    "cli": 9,
    "results": 8,
    "verbs": 8,
    "exporting": 8,
    "fastest": 8,
    "torch": 9,
    "pytest_plugin": 9,
    "": 10,
    "__main__": 10,
}
OPTIONAL = (
    "onnxruntime", "torch", "onnx_graphsurgeon", "onnx_ir", "onnxscript", "safetensors", "matplotlib",
    "tract", "cv2", "openvino", "onnx2torch", "jaxonnxruntime", "wonnx",
)  # fmt: skip
COMMANDS = ("inspect", "swap-relu", "swap", "decompose", "fuse", "check", "prove", "forms", "export", "targets", "plot")
PUBLIC = {
    "Exported", "Inspection", "Result", "Verdict", "NotEquivalent", "Proof", "ProofInterrupted", "__version__",
    "assert_equivalent", "check", "decompose", "export", "fuse", "inspect", "prove", "swap", "swap_relu",
    "ExportError", "FileConflictError", "MissingPackageError", "ModelError", "OnnxactError",
    "ProviderError", "UsageError",
}  # fmt: skip


def modules() -> list[str]:
    names = (path.relative_to(ROOT.parent).with_suffix("").parts for path in ROOT.rglob("*.py"))
    return sorted(".".join(part for part in parts if part != "__init__") for parts in names)


def layer(module: str) -> str:
    """The first name under onnxact, "" for the package itself."""
    return [*module.split("."), ""][1]


def imports(module: str) -> Iterator[str]:
    """Yield what of onnxact a module imports at run time, also inside functions; not under TYPE_CHECKING."""
    path = ROOT.parent / Path(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    pending: list[ast.AST] = [ast.parse(source.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", modules())
def test_lower_layers_do_not_import_higher_ones(module: str) -> None:
    for name in imports(module):
        if name.split(".")[0] == "onnxact":
            target = layer(name) if layer(name) in LEVELS else ""
            assert LEVELS[target] <= LEVELS[layer(module)] or name == "onnxact.version.__version__", name


def test_every_module_has_a_layer() -> None:
    assert {layer(module) for module in modules()} <= set(LEVELS)


def test_activation_needs_neither_onnx_nor_torch() -> None:
    for module in modules():
        if layer(module) in ("activation", "arguments", "errors", "version", "words"):
            assert not {name.split(".")[0] for name in imports(module)} & {"onnx", *OPTIONAL}, module


def test_public_names() -> None:
    assert set(onnxact.__all__) == PUBLIC
    assert set(dir(onnxact)) == PUBLIC
    assert all(getattr(onnxact, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        onnxact.nothing  # noqa: B018


def test_errors_are_one_tree_with_exit_codes() -> None:
    found = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.OnnxactError)
    }
    assert {name: error.exit_code for name, error in found.items()} == {
        "OnnxactError": 70, "UsageError": 2, "MissingPackageError": 3, "ProviderError": 3,
        "ModelError": 5, "FileConflictError": 5, "ExportError": 5,
    }  # fmt: skip
    assert all(name in (errors.__doc__ or "") for name in found)


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, onnxact; print(sorted({'onnx', 'numpy', 'typer', 'rich'} & set(sys.modules)))"
    assert run(code) == "[]\n"


def test_check_is_a_package_and_a_function() -> None:
    """Python binds a subpackage to its name in the package, over a function of that name."""
    code = """
import onnxact, onnx
def model(op):
    head = '<ir_version: 8, opset_import: ["": 18]> m (float[2] x) => (float[2] y)'
    return onnx.parser.parse_model(head + "{ y = " + op + "(x) }")
for number in range(2):
    print(onnxact.check(model("Relu"), model("Abs"), providers=["cpu"]).outcome)
import onnxact.check as package
from onnxact.check import load_inputs
print(package.load_inputs is load_inputs, onnxact.check(model("Relu"), model("Identity"), providers=["cpu"]).outcome)
"""
    assert run(code) == "different\ndifferent\nTrue different\n"


def test_it_is_typed_and_has_a_version() -> None:
    assert (ROOT / "py.typed").exists()
    assert run(_MAIN, "--version") == f"onnxact {onnxact.__version__}\n"


_MAIN = "from onnxact.cli import main; main()"
_WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
_IMPORT_ALL = """
import importlib
for name in {modules!r}:
    importlib.import_module(name)
from onnxact.cli import app
for command in {commands!r}:
    assert app.run([*command, "-h"]) == 0, command
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_and_help_works_without_the_optional_packages() -> None:
    """interop/graphsurgeon.py and interop/ir.py are what the package's own objects come with."""
    bridges = {"onnxact.interop.graphsurgeon", "onnxact.interop.ir"}
    without = [name for name in modules() if name not in bridges and layer(name) not in ("export", "torch", "__main__")]
    code = _WITHOUT.format(missing=OPTIONAL) + _IMPORT_ALL.format(
        modules=without, commands=[[], *([command] for command in COMMANDS)]
    )
    run(code)


def test_commands_say_which_package_is_missing(tmp_path: Path) -> None:
    net = ROOT.parent / "models" / "digits_relu.onnx"
    slopes = tmp_path / "s.safetensors"
    slopes.write_bytes(b"anything")
    cases = {
        ("swap-relu", str(net), "-o", str(tmp_path / "x.onnx")): "pip install 'onnxact[cpu]'",
        ("swap-relu", str(net), "--to", "prelu", "--slopes", str(slopes)): "pip install 'onnxact[safetensors]'",
    }
    for arguments, words in cases.items():
        code = _WITHOUT.format(missing=OPTIONAL) + _MAIN
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, words in done.stderr) == (3, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]
