"""`onnxact prove`: what it prints, what it exits with, how it stops."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.cli.runner import invoke, spawn

QUICK = ("--dtype", "float16")


def test_a_proof_says_what_where_and_how_many() -> None:
    done = invoke("prove", "leaky-relu", "--form", "mul-max", "--param", "alpha=0.25", *QUICK)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "proven: leaky-relu mul-max is exact at every input"
    assert lines[1] == "  Max(x, alpha * x), alpha = 0.25, float16, against LeakyRelu-16 on cpu"
    assert "inputs                      65,536" in done.out
    assert "special inputs: the same at 13 of 13" in done.out
    assert "ONNX Runtime" in lines[-1]
    assert "optimisation off" in lines[-1]


def test_a_refutation_shows_the_input_and_exits_with_1() -> None:
    """Clip without a bound clips at the dtype's largest number."""
    done = invoke("prove", "relu", "--form", "clip", *QUICK)
    assert done.code == 1
    assert done.out.startswith("refuted: relu clip is not exact, at 1 of 65,536 inputs")
    assert "inf (0x7c00)" in done.out


def test_all_forms_are_a_table() -> None:
    done = invoke("prove", "leaky-relu", "--form", "all", *QUICK)
    assert done.code == 0
    assert done.out.startswith("proven: leaky-relu, alpha = 0.010002136, float16, every one of 65,536 inputs")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    assert "bounded" in rows["mul-abs-add"]
    assert "exact" in rows["where"]
    assert "not tried: mul-min: holds when alpha >= 1" in done.out


def test_a_sample_is_not_called_a_proof() -> None:
    done = invoke("prove", "relu", "--form", "max", "--sample")
    assert done.code == 0
    assert "proven" not in done.out
    assert "of a sample, which proves nothing of the others" in done.out


def test_json_is_one_report() -> None:
    done = invoke("prove", "prelu", "--form", "mul-max", "--param", "slope=0.25,0.5", *QUICK, "--json")
    report = json.loads(done.out)
    assert (done.code, report["verb"], report["outcome"], report["slopes"]) == (0, "prove", "proven", 2)
    assert report["parameters"] == {"slope": [0.25, 0.5]}


def test_quiet_says_nothing_of_what_holds() -> None:
    assert invoke("prove", "relu", "--form", "max", *QUICK, "-q") == invoke(
        "prove", "relu", "--form", "max", *QUICK, "-q"
    )
    assert invoke("prove", "relu", "--form", "max", *QUICK, "-q").out == ""
    refuted = invoke("prove", "relu", "--form", "clip", *QUICK, "-q")
    assert (refuted.code, refuted.out) == (1, "")
    assert refuted.err.startswith("refuted:")


def test_verbose_lists_every_special_input() -> None:
    done = invoke("prove", "hard-swish", "--form", "clip", *QUICK, "-v")
    for name in ("+0", "-0", "+inf", "-inf", "nan", "-largest", "smallest subnormal", "kink -3", "3 toward 0"):
        assert any(line.startswith(name) for line in done.out.splitlines()), name


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("leaky-relu",), 2, "--form"),
        (("leaky-relu", "--form", "mul-min"), 2, "holds when alpha >= 1"),
        (("leaky-relu", "--form", "nonsense"), 2, "its forms: op, prelu"),
        (("nonsense", "--form", "op"), 2, "unknown activation"),
        (("leaky-relu", "--form", "mul-max", "--param", "alpha"), 2, "write it as name=value"),
        (("prelu", "--form", "op", "--param", "slope=0.1,x"), 2, "is not a number"),
        (("prelu", "--form", "op", "--param", "slope=0.1,0.2", "--param", "slope=1"), 2, "given twice"),
        (("relu", "--form", "op", "--against", "me"), 2, "give op or reference"),
        (("relu", "--form", "op", "--opset", "six"), 2, "not a whole number"),
        (("relu", "--form", "op", "--provider", "nonsense"), 2, "known: cpu"),
        (("relu", "--form", "max", "--dtype", "bfloat16"), 3, "no bfloat16 kernel"),
    ],
)
def test_wrong_use_is_a_sentence_and_a_code(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = invoke("prove", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def wait_until_busy(pid: int, seconds: float) -> None:
    """Wait until a process has used so much processor time, which a busy machine gives it late: it is then at work."""
    clock = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + (120 if clock.exists() else seconds)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        fields = clock.read_text().rpartition(")")[2].split() if clock.exists() else []
        if fields and (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") >= seconds:
            return


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no SIGINT")
@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_tells_what_was_covered(as_json: bool) -> None:
    process = spawn("prove", "gelu", "--form", "polynomial", *(["--json"] if as_json else []))
    wait_until_busy(process.pid, 4.0)
    process.send_signal(signal.SIGINT)
    out, err = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 130, (out, err)
    assert "interrupted: stopped after" in err
    assert "Traceback" not in err
    assert "proven" not in out
    if as_json:
        report = json.loads(out)
        assert (report["outcome"], 0 < report["inputs"] < report["total"]) == ("interrupted", True)
    else:
        assert out.startswith("interrupted: gelu polynomial was within its bound at")


def test_a_form_that_overflows_is_not_said_to_be_right_everywhere() -> None:
    outcome = invoke("prove", "softplus", "--form", "naive", "--dtype", "float16")
    assert outcome.code == 0
    assert "at every input, but 9,844 finite ones where it overflows, as it says" in outcome.out.splitlines()[0]
