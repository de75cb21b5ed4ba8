"""The options of a check: what they do, what is wrong with them, and the files that tell of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from onnx import numpy_helper

from onnxact.check import load_inputs
from onnxact.cli.evidence import Evidence, check_options, parse_size
from onnxact.errors import UsageError
from tests.cli.runner import Outcome, contents, invoke, model, write

CPU = ("--providers", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    other = numpy_helper.from_array(np.full(4, 1.5, np.float32), "w")
    write(tmp_path / "a.onnx", model(op="LeakyRelu", alpha=0.2))
    write(tmp_path / "same.onnx", model(op="LeakyRelu", alpha=0.2))
    write(tmp_path / "b.onnx", model(other, op="LeakyRelu", alpha=0.2))
    return tmp_path


def check(*arguments: str) -> Outcome:
    return invoke("check", "a.onnx", "b.onnx", *CPU, *arguments)


def verdict_of(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.out)["check"]
    return found


# What the options do.


def test_options_become_keywords() -> None:
    assert check_options(Evidence()) == {"seeds": (0, 1)}
    given = Evidence(
        input_shapes=["x:2,4"],
        val_range=["0,1", "x:[2,3]"],
        seed="5",
        seeds="3",
        providers="cpu, cuda",
        provider_option=["cuda:device_id=1"],
        session_option=["intra_op_num_threads=2"],
        tf32=True,
        rtol=["1e-3"],
        atol=["y:1e-4", "1e-6"],
        memory_budget="1MiB",
    )
    assert check_options(given) == {
        "input_shapes": {"x": (2, 4)},
        "val_range": {"": (0.0, 1.0), "x": (2.0, 3.0)},
        "seeds": (5, 6, 7),
        "providers": ["cpu", "cuda"],
        "provider_options": {"cuda": {"device_id": "1"}},
        "session_options": {"intra_op_num_threads": "2"},
        "tf32": True,
        "rtol": 1e-3,
        "atol": {"y": 1e-4, "": 1e-6},
        "memory_budget": 2**20,
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512MB", 512 * 10**6), ("2 GiB", 2**31), ("1.5kib", 1536), ("8b", 8), ("3GB", 3 * 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1TB", "0", "-1MB", "infGB", "nan", "1 2", "1e-9"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-budget"):
        parse_size(text)


def test_tolerances_of_all_outputs_and_of_one() -> None:
    assert check().code == 1
    assert check("--atol", "10").code == 0
    assert check("--atol", "y:10").code == 0
    assert check("--atol", "10", "--atol", "y:0").code == 1
    found = verdict_of(check("--rtol", "0.5", "--atol", "y:1e-9", "--json"))["outputs"][0]
    assert (found["rtol"], found["atol"], found["tolerance"]) == (0.5, 1e-9, "given")


def test_seeds_and_limits() -> None:
    runs = verdict_of(check("--seed", "4", "--seeds", "3", "--json"))["runs"]
    assert {run["inputs"] for run in runs} == {"seed 4", "seed 5", "seed 6"}
    assert check("--val-range", "x:3,9", "--save-inputs", "in.npz").code in (1, 4)
    values = np.concatenate([feed.values["x"].ravel() for feed in load_inputs("in.npz")])
    assert 3 <= values.min() < values.max() <= 9


@pytest.mark.parametrize("name", ["in.npz", "in.json", "in"])
def test_what_was_run_on_is_saved_and_replayed(folder: Path, name: str) -> None:
    first = verdict_of(check("--save-inputs", name, "--json"))
    again = verdict_of(check("--load-inputs", name, "--json"))
    assert first["outputs"] == again["outputs"]
    assert check("--save-inputs", name).code == 1, "what onnxact saved is replaced"


def test_a_rewrite_takes_them_too(folder: Path) -> None:
    np.savez("in.npz", x=np.array([[1, -1, 2, -2], [0, 3, -3, 4]], np.float32))
    outcome = invoke("decompose", "a.onnx", *CPU, "--load-inputs", "in.npz", "--junit", "r.xml", "--json")
    assert outcome.code == 0, outcome.err
    assert {run["inputs"] for run in verdict_of(outcome)["runs"]} == {"given inputs"}
    assert ET.parse("r.xml").getroot()[0].get("name") == "decompose a.onnx"
    swap = invoke("swap", "a.onnx", "--from", "leaky-relu", "--to", "elu", *CPU, "--load-inputs", "in.npz", "--json")
    assert swap.code == 0, swap.err
    assert json.loads(swap.out)["drift"][0]["max_abs"] > 0


# What is wrong with them: one line on stderr, nothing written.


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        (5, "none.npz: cannot be read as inputs: No such file", ("--load-inputs", "none.npz")),
        (5, "empty.npz: cannot be read as inputs: it is empty", ("--load-inputs", "empty.npz")),
        (5, "other: holds no arrays", ("--load-inputs", "other")),
        (5, "without a name", ("--load-inputs", "one.npy")),
        (2, "wrong.npz has no value for input x; it has y", ("--load-inputs", "wrong.npz")),
        (2, "shape.npz: input x: shape [3] does not fit", ("--load-inputs", "shape.npz")),
        (2, "type.npz: input x: float64 given", ("--load-inputs", "type.npz")),
        (2, "name a file", ("--load-inputs", "")),
        (2, "--load-inputs brings all values", ("--load-inputs", "type.npz", "--val-range", "0,1")),
        (2, "no input z; its inputs: x", ("--val-range", "z:0,1")),
        (2, "not two finite numbers", ("--val-range", "1,0")),
        (2, "expected LOW,HIGH", ("--val-range", "1")),
        (2, "no input z", ("--input-shapes", "z:1")),
        (2, "is not a list of sizes", ("--input-shapes", "x:0,4")),
        (2, "no such output; its outputs: y", ("--rtol", "z:1")),
        (2, "expected a finite number of at least 0", ("--rtol", "-1")),
        (2, "given twice", ("--atol", "1", "--atol", "2")),
        (2, "a name before the colon is missing", ("--atol", ":1")),
        (2, "--atol: 'x' is not a number", ("--atol", "x")),
        (2, "--atol 'y:x': 'x' is not a number", ("--atol", "y:x")),
        (2, "expected a size such as 512MB", ("--memory-budget", "much")),
        (2, "memory budget of 1 bytes", ("--memory-budget", "1")),
        (2, "--seed -1: expected 0 or more", ("--seed", "-1")),
        (2, "--seeds 0: expected a count", ("--seeds", "0")),
        (2, "'x' is not a whole number", ("--seeds", "x")),
        (2, "write it as PROVIDER:NAME=VALUE", ("--provider-option", "use_tf32=1")),
        (2, "the check runs on cpu only", ("--provider-option", "cuda:use_tf32=1")),
        (2, "write it as NAME=VALUE", ("--session-option", "x")),
        (2, "ONNX Runtime has none of this name", ("--session-option", "x=1")),
        (5, "other: is a directory", ("--junit", "other")),
        (5, "exists and is no such report of onnxact", ("--junit", "a.onnx")),
        (5, "exists and is no such report of onnxact", ("--markdown", "text.md")),
        (5, "does not exist; make it first", ("--markdown", "no/x.md")),
        (5, "a pipe or device", ("--junit", "/dev/null")),
        (5, "too long", ("--junit", "x" * 300)),
        (5, "null", ("--junit", "nul\0.xml")),
        (2, "named by --junit and by --markdown", ("--junit", "r", "--markdown", "r")),
        (2, "named by --junit and by --save-inputs", ("--junit", "r.npz", "--save-inputs", "r.npz")),
        (5, "is not what onnxact saved", ("--save-inputs", "wrong.npz")),
        (2, "inputs are saved as .npz", ("--save-inputs", "x.txt")),
    ],
)
def test_bad_options(folder: Path, code: int, words: str, arguments: tuple[str, ...]) -> None:
    (folder / "empty.npz").touch()
    (folder / "other").mkdir()
    (folder / "text.md").write_text("# Mine\n")
    np.save("one.npy", np.ones(3))
    np.savez("wrong.npz", y=np.ones(3))
    np.savez("shape.npz", x=np.ones(3, np.float32))
    np.savez("type.npz", x=np.ones((2, 4)))
    before = contents(folder)
    outcome = check(*arguments)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert (outcome.err.startswith("onnxact: "), outcome.err.count("\n")) == (True, 1)
    assert words in outcome.err
    told = check(*arguments, "--json")
    assert (told.code, json.loads(told.out)["error"]["exit_code"]) == (code, code)
    assert contents(folder) == before


@pytest.mark.parametrize("option", ["--junit", "--markdown", "--save-inputs"])
def test_there_is_nothing_to_tell_without_a_check(option: str) -> None:
    for without in ("--no-check", "--dry-run"):
        outcome = invoke("decompose", "a.onnx", without, option, "r.npz")
        assert (outcome.code, f"{option} tells of a check" in outcome.err) == (2, True)


# The files that tell of it.


def endings(path: str = "r.xml") -> dict[str, str]:
    cases = ET.parse(path).getroot().iter("testcase")
    return {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases}


def test_reports_are_written_and_replaced(folder: Path) -> None:
    reports = ("--junit", "r.xml", "--markdown", "r.md")
    assert check(*reports).code == 1
    assert endings() == {"verdict": "failure", "output y on cpu": "failure", "site act": "passed"}
    assert "❌ different: check a.onnx b.onnx" in (folder / "r.md").read_text()
    assert invoke("check", "a.onnx", "same.onnx", *CPU, *reports).code == 0
    assert set(endings().values()) == {"passed"}
    assert "✅ equivalent" in (folder / "r.md").read_text()


def test_an_empty_file_may_be_filled(folder: Path) -> None:
    """GitHub makes an empty $GITHUB_STEP_SUMMARY."""
    (folder / "summary").touch()
    assert check("--markdown", "summary").code == 1
    assert "different" in (folder / "summary").read_text()


def test_a_link_is_followed(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "r.xml").symlink_to("results/r.xml")
    assert check("--junit", "r.xml").code == 1
    assert (folder / "r.xml").is_symlink()
    assert endings("results/r.xml")["verdict"] == "failure"


def test_an_error_leaves_no_earlier_pass(folder: Path) -> None:
    reports = ("--junit", "r.xml", "--markdown", "r.md")
    for arguments in (("none.onnx",), ("b.onnx", "--providers", "nonsense"), ("b.onnx", "--rtol", "x")):
        assert invoke("check", "a.onnx", "same.onnx", *CPU, *reports).code == 0
        outcome = invoke("check", "a.onnx", *arguments, *reports)
        assert outcome.code in (2, 5)
        assert endings() == {"verdict": "error"}
        message = ET.parse("r.xml").getroot().find(".//error")
        assert message is not None
        assert str(message.get("message")) in outcome.err
        assert "❌ not checked" in (folder / "r.md").read_text()


def test_a_run_that_is_killed_leaves_no_earlier_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxact import api

    assert invoke("check", "a.onnx", "same.onnx", *CPU, "--junit", "r.xml").code == 0

    def killed(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "check", killed)
    assert check("--junit", "r.xml").code == 130
    assert endings() == {"verdict": "error"}
    assert "did not finish" in (folder / "r.xml").read_text()


def test_nothing_to_rewrite_is_an_error_unless_allowed(folder: Path) -> None:
    assert invoke("fuse", "a.onnx", "--junit", "r.xml").code == 4
    assert endings() == {"verdict": "error"}
    assert invoke("fuse", "a.onnx", "--junit", "r.xml", "--allow-none").code == 0
    assert endings() == {"verdict": "skipped"}
