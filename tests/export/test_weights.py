"""Weights from safetensors and .pt, without unpickling; programs from .pt2, without unpickling either."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

import onnxact
from onnxact.export.archive import load_program
from onnxact.export.weights import load_weights, read_weights
from tests.cli.runner import invoke
from tests.export.conftest import CPU
from tests.export.nets import Linear


class Evil:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch PWNED",)


@pytest.fixture(autouse=True)
def nothing_is_run(here: Path) -> Any:
    yield
    assert not (here / "PWNED").exists()


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return Linear().state_dict()


def save_legacy(state: Any, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


FITTING: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "plain.pt": torch.save,
    "plain.safetensors": save_file,
    "legacy.pth": save_legacy,
    "checkpoint.ckpt": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "training.bin": lambda state, path: torch.save({"step": 1, "model": state, "optimizer": {}}, path),
    "half.pt": lambda state, path: torch.save({name: value.half() for name, value in state.items()}, path),
}


@pytest.mark.parametrize("name", FITTING)
def test_weights_that_fit(state: dict[str, Tensor], name: str) -> None:
    FITTING[name](state, Path(name))
    module = Linear()
    load_weights(module, Path(name))
    for key, value in module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, state[key], atol=1e-3), key


def test_weights_on_the_command_line(state: dict[str, Tensor]) -> None:
    save_file(state, "w.safetensors")
    done = invoke(
        "export", "nets.py:Linear", "--input", "x:2,4", "--weights", "w.safetensors", "--no-check", "-o", "o.onnx"
    )
    assert done.code == 0, done.err
    weight = next(item for item in onnx.load("o.onnx").graph.initializer if item.name == "l.weight")
    assert (numpy_helper.to_array(weight) == state["l.weight"].numpy()).all()


MISFITS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "it lacks l.bias": (lambda state: {"l.weight": state["l.weight"]}, "it lacks l.bias"),
    "it has more": (lambda state: {**state, "m.weight": state["l.bias"]}, "the module has no m.weight"),
    "shapes": (lambda state: {**state, "l.bias": torch.zeros(5)}, "shapes differ: l.bias [5] for [4]"),
    "a prefix": (
        lambda state: {f"module.{name}": value for name, value in state.items()},
        "all its names begin with 'module.', which the module's do not: take it off",
    ),
    "no dict": (lambda state: [1, 2], "holds no state dict but a list"),
    "no tensors": (lambda state: {"a": 1}, "holds no state dict but a dict with a"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit(state: dict[str, Tensor], name: str) -> None:
    make, words = MISFITS[name]
    torch.save(make(state), "w.pt")
    with pytest.raises(onnxact.ExportError) as caught:
        load_weights(Linear(), Path("w.pt"))
    assert words in str(caught.value)


def test_what_needs_unpickling_is_refused(state: dict[str, Tensor]) -> None:
    torch.save(Linear(), "module.pt")
    torch.save({**state, "x": Evil()}, "evil.pt")
    save_legacy(Evil(), Path("legacy.pt"))
    Path("plain.pt").write_bytes(pickle.dumps(Evil()))
    for name, held in {
        "module.pt": "tests.export.nets.Linear",
        "evil.pt": "posix.system",
        "legacy.pt": "posix.system",
    }.items():
        with pytest.raises(onnxact.ExportError) as caught:
            read_weights(Path(name))
        assert f"{name}: holds a pickled {held}, which could run any code when it is read; refused" in str(caught.value)
        assert "torch.save(module.state_dict(), 'weights.pt')" in str(caught.value)
    with pytest.raises(onnxact.ExportError, match="holds a pickled"):
        read_weights(Path("plain.pt"))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello world, no weights", b"PK\x03\x04" + bytes(50), b"\x80\x04"])
def test_files_that_hold_no_weights(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(onnxact.ModelError, match=name):
        read_weights(Path(name))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_truncated_files(state: dict[str, Tensor], name: str) -> None:
    FITTING[f"plain{Path(name).suffix}"](state, Path(name))
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])
    with pytest.raises(onnxact.ModelError, match=name):
        read_weights(Path(name))


# Programs


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Linear().eval(), (torch.randn(2, 4),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def repacked(source: Path, target: Path, change: Callable[[str, bytes], bytes], more: str = "") -> Path:
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for name in given.namelist():
            made.writestr(name, change(name, given.read(name)))
        if more:
            made.writestr(f"{given.namelist()[0].split('/')[0]}/{more}", b"anything")
    return target


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def test_a_program_is_exported_and_checked(archive: Path) -> None:
    found = onnxact.export(archive, output="net.onnx", check=CPU)
    assert found.exit_code == 0, found.summary()
    assert found.mode == "as the program was exported"
    assert found.verdict is not None
    assert any("other sizes" in run.inputs for run in found.verdict.runs)
    default = onnxact.export(torch.export.load(archive), output="again.onnx", check=False)
    assert default.op_counts == found.op_counts


@pytest.mark.parametrize(
    "option", [("--input", "x:2,4"), ("--dynamic", "x:0=b"), ("--dtype", "float16"), ("--weights", "w.pt")]
)
def test_what_a_program_has_settled(archive: Path, option: tuple[str, str]) -> None:
    done = invoke("export", archive, "-o", "o.onnx", *option)
    assert (done.code, f"{option[0]}: {archive} is an exported program" in done.err) == (2, True)


DAMAGES: dict[str, tuple[Callable[[str, bytes], bytes], str, str]] = {
    "inputs": (
        lambda name, content: pickled(((Evil(),), {})) if "sample_inputs" in name else content,
        "",
        "model.pt holds a pickled posix.system; refused",
    ),
    "weights": (
        lambda name, content: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
        "",
        "keeps l.weight, l.bias pickled; refused",
    ),
    "code": (lambda name, content: content, "data/aotinductor/model/x.so", "holds compiled code"),
    "objects": (lambda name, content: content, "data/constants/custom_obj_0", "holds a pickled object"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_programs_that_need_unpickling_are_refused(archive: Path, here: Path, damage: str) -> None:
    change, more, words = DAMAGES[damage]
    path = repacked(archive, here / "bad.pt2", change, more)
    with pytest.raises(onnxact.ExportError) as caught:
        load_program(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04" + bytes(50)])
def test_files_that_hold_no_program(here: Path, content: bytes) -> None:
    (here / "bad.pt2").write_bytes(content)
    with pytest.raises(onnxact.ModelError, match=r"bad\.pt2"):
        load_program(here / "bad.pt2")


def test_a_program_of_which_a_part_is_missing(archive: Path, here: Path) -> None:
    path = repacked(archive, here / "bad.pt2", lambda name, content: b"{}" if name.endswith("model.json") else content)
    with pytest.raises(onnxact.ModelError, match="cannot be read as an exported program"):
        load_program(path)
