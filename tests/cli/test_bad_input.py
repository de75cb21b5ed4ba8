"""Bad input: one sentence on stderr that says what and where, the exit code, and nothing written or lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxact.report.printable import printable
from tests.cli.runner import DIGITS, contents, invoke, model, weights, write

REWRITES = (
    ("swap-relu",), ("swap", "--from", "relu", "--to", "elu"), ("decompose",), ("fuse",), ("inspect",),
)  # fmt: skip
SWAP = ("swap-relu", "net.onnx", "--no-check")
PRELU = (*SWAP, "--to", "prelu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "net.onnx")
    return tmp_path


def refuses(folder: Path, code: int, words: str, *arguments: str) -> None:
    """One line on stderr, nothing on stdout, the folder as it was; with --json the same as a report."""
    before = contents(folder)
    outcome = invoke(*arguments)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert outcome.err.startswith("onnxact: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    told = invoke(*arguments, "--json")
    report = json.loads(told.out)
    assert report["schema"] == "onnxact/1"
    assert report["error"]["exit_code"] == told.code == code
    assert printable(report["error"]["message"]) in told.err
    assert contents(folder) == before


FILES: dict[str, tuple[bytes, str]] = {
    "empty.onnx": (b"", "empty"),
    "text.onnx": (b"hello world\n" * 40, "not an ONNX model"),
    "html.onnx": (b"<!DOCTYPE html><title>404</title>", "page of HTML"),
    "pointer.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "checkpoint.onnx": (b"PK\x03\x04" + bytes(100), "torch.onnx.export"),
    "json.onnx": (b'{"graph": {}}', "JSON"),
    "random.onnx": (np.random.default_rng(0).bytes(5000), "not an ONNX model"),
    "zeros.onnx": (bytes(1000), "not an ONNX model"),
    "field.json": (b'{"a": 1}', 'no field named "a"'),
    "bytes.json": (b"\xff\xfe", "not an ONNX model in text"),
    "text.onnxtxt": (b"<ir_version", "not an ONNX model in text"),
    "bytes.onnxtxt": (b"<\xff", "not an ONNX model in text"),
    "field.textproto": (b"abc {", 'no field named "abc"'),
    "nothing.textproto": (b"ir_version: 8", "holds no ONNX graph"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_model(folder: Path, name: str) -> None:
    content, words = FILES[name]
    (folder / name).write_bytes(content)
    refuses(folder, 5, words, "swap-relu", name)


@pytest.mark.parametrize("verb", REWRITES, ids=lambda verb: str(verb[0]))
def test_every_verb_refuses_what_is_no_file(folder: Path, verb: tuple[str, ...]) -> None:
    for name, words in {
        "missing.onnx": "No such file",
        ".": "is a directory",
        "/dev/zero": "pipe or device",
        "net.onnx/x.onnx": "Not a directory",
        "x" * 300: "too long",
        "nul\0.onnx": "null",
        "/proc/self/maps": "empty",
    }.items():
        refuses(folder, 5, words, *verb, name)
    refuses(folder, 2, "name a file", *verb, "-")
    refuses(folder, 2, "name a file", *verb, "")


@pytest.mark.parametrize("pair", [("net.onnx", "missing.onnx"), ("missing.onnx", "net.onnx"), ("net.onnx", ".")])
def test_check_refuses_what_is_no_model(folder: Path, pair: tuple[str, str]) -> None:
    refuses(folder, 5, "missing.onnx" if "missing.onnx" in pair else "is a directory", "check", *pair)


def test_truncated_at_many_lengths(folder: Path) -> None:
    content = DIGITS.read_bytes()
    path = folder / "cut.onnx"
    for length in (1, 2, 3, 7, 10, 50, 100, 1000, 50_000, len(content) - 3, len(content) - 1):
        path.write_bytes(content[:length])
        outcome = invoke("swap-relu", path, "--no-check")
        assert (outcome.code, outcome.err.count("\n")) == (5, 1), length


def test_more_than_protobuf_holds(folder: Path) -> None:
    with (folder / "big.onnx").open("wb") as stream:
        stream.truncate(3 * 2**30)
    outcome = invoke("inspect", "big.onnx")
    assert (outcome.code, "2 GB" in outcome.err) == (5, True)


def test_links_to_nothing_and_to_themselves(folder: Path) -> None:
    (folder / "dangling.onnx").symlink_to("nowhere")
    (folder / "loop.onnx").symlink_to("loop.onnx")
    refuses(folder, 5, "No such file", "swap-relu", "dangling.onnx")
    refuses(folder, 5, "symbolic links", "swap-relu", "loop.onnx")
    refuses(folder, 5, "exists; give --force", *SWAP, "-o", "dangling.onnx")
    refuses(folder, 5, "oop", *SWAP, "-o", "loop.onnx", "--force")


def test_outputs_that_would_overwrite_or_cannot_be(folder: Path) -> None:
    write(folder / "other.onnx")
    (folder / "alias.onnx").symlink_to("net.onnx")
    os.link(folder / "net.onnx", folder / "hard.onnx")
    for same in ("net.onnx", f"../{folder.name}/net.onnx", "alias.onnx", "hard.onnx"):
        refuses(folder, 5, "is the input itself", *SWAP, "-o", same)
        refuses(folder, 5, "is the input itself", *SWAP, "-o", same, "--force")
    for output, words in {
        "other.onnx": "exists; give --force",
        ".": "is a directory",
        "no/such/folder.onnx": "does not exist",
        "net.onnx/x.onnx": "does not exist",
        "y" * 300 + ".onnx": "too long",
        "/dev/full": "pipe or device",
        "/proc/x.onnx": "cannot be written",
        "nul\0.onnx": "null",
    }.items():
        refuses(folder, 5, words, *SWAP, "-o", output)
    refuses(folder, 5, "pipe or device", *SWAP, "-o", "/dev/null", "--force")
    refuses(folder, 2, "name a file", *SWAP, "-o", "-")
    refuses(folder, 2, "not both", *SWAP, "-o", "x.onnx", "--in-place")


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    **{f"alpha {text}": ((*SWAP, f"--alpha={text}"), "finite") for text in ("nan", "inf", "-inf", "1e39")},
    **{f"alpha {text!r}": ((*SWAP, f"--alpha={text}"), "is not a number") for text in ("abc", "", "1,2", "0x1")},
    **{f"param {text}": ((*SWAP, "--param", text), "name=value") for text in ("alpha", "=1")},
    "param is no number": ((*SWAP, "--param", "alpha=1=2"), "is not a number"),
    "param unknown": ((*SWAP, "--param", "beta=1"), "its parameters: alpha"),
    "param twice": ((*SWAP, "--param", "alpha=1", "--param", "alpha=2"), "given twice"),
    "alpha twice": ((*SWAP, "--alpha", "1", "--param", "alpha=2"), "given twice"),
    "alpha and slopes": ((*PRELU, "--alpha", "1", "--slopes", "s.npy"), "not both"),
    "slopes suffix": ((*PRELU, "--slopes", "s.txt"), "not .txt"),
    "per-channel": ((*SWAP, "--per-channel"), "--to prelu"),
    "channel axis": ((*PRELU, "--channel-axis", "x"), "whole number"),
    "activation": ((*SWAP, "--to", "leaky-rlu"), "did you mean 'leaky-relu'?"),
    "from": (("swap", "net.onnx", "--from", "rleu", "--to", "elu"), "did you mean 'relu'?"),
    "forms of": (("forms", "softpls"), "did you mean 'softplus'?"),
    "form": (("decompose", "net.onnx", "--form", "mul-abs-ad"), "mul-abs-add"),
    "op": (("decompose", "net.onnx", "--ops", "Maxx"), "did you mean 'Max'?"),
    "no ops": (("decompose", "net.onnx", "--ops", ",,"), "names nothing"),
    "form and ops": (("decompose", "net.onnx", "--form", "max", "--ops", "Max"), "not both"),
    "include": ((*SWAP, "--include", "("), "regular expression"),
    "exclude": ((*SWAP, "--exclude", "*"), "regular expression"),
    "no model": (("swap-relu",), "Missing argument 'MODEL' (see `onnxact swap-relu --help`)"),
    "no --from": (("swap", "net.onnx", "--to", "elu"), "--from"),
    "command": (("swap-rel", "net.onnx"), "swap-rel"),
    "option": ((*SWAP, "--alhpa", "1"), "--alpha"),
    "extra": (("swap-relu", "net.onnx", "b.onnx"), "b.onnx"),
    "value missing": ((*SWAP, "--alpha"), "--alpha"),
    "seed": (("swap-relu", "net.onnx", "--seed", "x"), "whole number"),
    "negative seed": (("swap-relu", "net.onnx", "--seed=-1"), "expected 0 or more"),
    "rtol nan": (("swap-relu", "net.onnx", "--rtol", "nan"), "finite"),
    "atol abc": (("swap-relu", "net.onnx", "--atol", "abc"), "is not a number"),
    "provider": (("swap-relu", "net.onnx", "--providers", "cda"), "unknown provider"),
    "no provider": (("swap-relu", "net.onnx", "--providers", ""), "names nothing"),
    "shape": (("swap-relu", "net.onnx", "--input-shapes", "x"), "NAME:SIZE"),
    "shape that does not fit": (("swap-relu", "net.onnx", "--input-shapes", "x:9,9"), "does not fit"),
    "shape of nothing": (("swap-relu", "net.onnx", "--input-shapes", "z:1"), "no input z"),
    "the same twice": (("check", "net.onnx", "net.onnx"), "same model"),
}


@pytest.mark.parametrize("case", USAGE)
def test_options_that_make_no_sense(folder: Path, case: str) -> None:
    arguments, words = USAGE[case]
    if arguments[-1] == "--alpha":  # with --json behind it, that would be its value
        assert invoke(*arguments).code == 2
        return
    refuses(folder, 2, words, *arguments)


def test_no_arguments_show_the_help_and_are_wrong_usage() -> None:
    outcome = invoke()
    assert (outcome.code, "Usage: onnxact" in outcome.out) == (2, True)


def _array(value: object) -> Callable[[Path], object]:
    return lambda path: np.save(path, np.asarray(value), allow_pickle=True)


SLOPES: dict[str, tuple[str, Callable[[Path], object], int, str]] = {
    "missing": ("s.npy", lambda path: None, 5, "no such file"),
    "empty": ("s.npy", lambda path: path.write_bytes(b""), 5, "NumPy arrays"),
    "garbage": ("s.npy", lambda path: path.write_bytes(b"garbage" * 20), 5, "NumPy arrays"),
    "cut": ("s.npy", lambda path: path.write_bytes(b"\x93NUMPY"), 5, "NumPy arrays"),
    "no zip": ("s.npz", lambda path: path.write_bytes(b"PK\x03\x04garbage"), 5, "NumPy arrays"),
    "no arrays": ("s.npz", np.savez, 5, "holds no arrays"),
    "no tensors": ("s.safetensors", lambda path: path.write_bytes(b"garbage" * 9), 5, "safetensors"),
    "objects": ("s.npy", _array(np.array([{}], object)), 5, "Object arrays"),
    "texts": ("s.npy", _array(["a"]), 2, "must be numbers"),
    "complex": ("s.npy", _array([1j] * 4), 2, "must be numbers"),
    "nan": ("s.npy", _array([np.nan] * 4), 2, "finite"),
    "too large": ("s.npy", _array([1e39] * 4), 2, "finite"),
    "three of four": ("s.npy", _array([1.0] * 3), 2, "do not fit act"),
    "four axes": ("s.npy", _array(np.ones((2, 2, 2, 2))), 2, "do not fit act"),
}


@pytest.mark.parametrize("case", SLOPES)
def test_slopes(folder: Path, case: str) -> None:
    name, make, code, words = SLOPES[case]
    make(folder / name)
    refuses(folder, code, words, *PRELU, "--slopes", name)


def test_slopes_of_other_nodes_are_a_reason_to_skip(folder: Path) -> None:
    np.savez(folder / "s.npz", other=np.ones(4))
    outcome = invoke(*PRELU, "--slopes", "s.npz")
    assert (outcome.code, "no array called 'act'" in outcome.out) == (4, True)


def test_a_provider_that_is_not_there(folder: Path) -> None:
    refuses(folder, 3, "dml", "swap-relu", "net.onnx", "--providers", "dml")


EXTERNAL: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing": ("gone.bin", {}, "No such file"),
    "short": ("short.bin", {}, "7 bytes, 16 are needed"),
    "parent": ("../w.bin", {}, "outside the model's folder"),
    "detour": ("sub/../w.bin", {}, "outside the model's folder"),
    "absolute": ("/etc/passwd", {}, "outside the model's folder"),
    "unnamed": ("", {}, "no file is named"),
    "folder": ("sub", {}, "is not a file"),
    "link out": ("out.bin", {}, "symbolic link out of"),
    "dangling link": ("dangling.bin", {}, "No such file"),
    "link to itself": ("loop.bin", {}, "loop"),
    "null": ("a\0b", {}, "null"),
    "long": ("z" * 300, {}, "too long"),
    "negative offset": ("w.bin", {"offset": -4}, "make no sense"),
    "huge offset": ("w.bin", {"offset": 2**70}, "are needed"),
    "negative length": ("w.bin", {"length": -1}, "make no sense"),
    "huge length": ("w.bin", {"length": 2**70}, "are needed"),
    "short length": ("w.bin", {"length": 4}, "takes 16 bytes"),
    "offset in words": ("w.bin", {"offset": "abc"}, "whole numbers"),
    "length in halves": ("w.bin", {"length": "1.5"}, "whole numbers"),
}


@pytest.fixture
def data(folder: Path) -> Path:
    (folder / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (folder / "short.bin").write_bytes(b"1234567")
    (folder / "sub").mkdir()
    (folder / "out.bin").symlink_to("/etc/passwd")
    (folder / "dangling.bin").symlink_to("nowhere")
    (folder / "loop.bin").symlink_to("loop.bin")
    return folder


@pytest.mark.parametrize("case", EXTERNAL)
def test_external_data(data: Path, case: str) -> None:
    place, entries, words = EXTERNAL[case]
    write(data / "net.onnx", model(weights(place, **entries)))
    refuses(data, 5, words, *SWAP)


@pytest.mark.parametrize("dims", [(-4,), (2**40, 2**40), (2**62, 4)])
def test_external_data_of_an_impossible_shape(data: Path, dims: tuple[int, ...]) -> None:
    write(data / "net.onnx", model(weights("w.bin", dims)))
    refuses(data, 5, "external data of 'w'", *SWAP)


def test_external_data_in_a_pipe_is_not_waited_for(data: Path) -> None:
    os.mkfifo(data / "pipe.bin")
    write(data / "net.onnx", model(weights("pipe.bin")))
    assert invoke(*SWAP).code == 5


@pytest.mark.parametrize("place", ["w.bin", "link.bin"])
def test_good_external_data_is_taken(data: Path, place: str) -> None:
    (data / "link.bin").symlink_to("w.bin")
    write(data / "net.onnx", model(weights(place, offset=0, length=16)))
    assert invoke(*SWAP).code == 0


@pytest.mark.parametrize("name", ["ünï €.onnx", "[bold]x.onnx", "a b\n.onnx", "-dash.onnx", os.fsdecode(b"\xff.onnx")])
def test_names_of_every_kind(folder: Path, name: str) -> None:
    write(folder / name)
    outcome = invoke("swap-relu", "--no-check", "--", name)
    assert outcome.code == 0
    assert (folder / name.replace(".onnx", ".leaky_relu.onnx")).exists()


def test_the_longest_name(folder: Path) -> None:
    assert invoke(*SWAP, "-o", "😀" * 62 + ".onnx").code == 0
