"""What only a process of its own shows: what is imported, pipes that close, a full or missing stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import DIGITS, spawn, write

HEAVY = ("torch", "onnxruntime", "pydantic", "sklearn", "matplotlib", "onnx_graphsurgeon", "onnx_ir")
_LOADED = """
import sys
from onnxact.cli import app
code = app.run({arguments!r})
print(",".join(name for name in {names!r} if name in sys.modules), file=sys.stderr)
"""


def loaded(*arguments: str) -> str:
    """Return which heavy packages a command line imports."""
    code = _LOADED.format(arguments=list(arguments), names=(*HEAVY, "onnx", "numpy", "rich"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""


def test_what_each_command_imports(tmp_path: Path) -> None:
    net = str(write(tmp_path / "net.onnx"))
    assert loaded("--help") == "rich"
    assert loaded("--version") == ""
    assert loaded("forms", "relu") == "onnx,numpy,rich"  # onnx.defs says from which opset there is an op
    assert loaded("swap-relu", net, "--no-check") == "onnx,numpy,rich"
    assert loaded("swap-relu", net, "--no-check", "--force", "--json") == "onnx,numpy"
    assert loaded("inspect", net) == "onnx,numpy,rich"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A file whose report is longer than a pipe holds."""
    path = tmp_path / "digits.onnx"
    path.write_bytes(DIGITS.read_bytes())
    return path


@pytest.mark.parametrize("arguments", [("forms",), ("forms", "--json"), ("--help",)], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = spawn(*arguments, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_the_exit_code_does_not_depend_on_the_reader(copy: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = spawn("fuse", copy, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (4, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_report_that_cannot_be_written(copy: Path, option: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = spawn("inspect", copy, *option, stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"\n")) == (5, 1)
    assert b"standard output cannot be written: No space left" in err


def test_closed_stdout_and_stderr(copy: Path) -> None:
    command = f"{sys.executable} -c 'from onnxact.cli import main; main()'"
    for redirection in (">&-", "2>&-", ">&- 2>&-"):
        for arguments, code in {f"inspect {copy}": 0, "inspect missing.onnx": 5}.items():
            line = ["sh", "-c", f"{command} {arguments} {redirection}"]
            done = subprocess.run(line, capture_output=True, timeout=60, check=False)
            assert done.returncode == code, (redirection, arguments, done.stderr)
            assert b"Traceback" not in done.stderr


def test_a_name_that_the_terminals_encoding_lacks(tmp_path: Path) -> None:
    net = write(tmp_path / "ünï€.onnx")
    done = spawn("swap-relu", net, "--no-check", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert b"wrote" in out
