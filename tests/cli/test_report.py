"""The report for people: compact, no blanks at line ends, nothing cut, -v shows every site."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper
from rich.console import Console

from onnxact.model.edit import Skip
from onnxact.report import text
from tests.cli.runner import MODELS, invoke, model, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in MODELS.glob("*.onnx"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def chain(path: Path, names: list[str]) -> Path:
    """Write a chain of Relu nodes with these names."""
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name=name) for i, name in enumerate(names)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("v0", f"v{len(names)}")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return write(path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


SWAPPED = """\
Ops
op         before  after  change
LeakyRelu  0       4      +4
Relu       4       0      -4
all        11      11     +0

Sites
sites  before  after                  nodes
4      relu    leaky-relu(alpha=0.2)  node_relu, node_relu_1, node_relu_2 and 1 more

wrote digits_relu.leaky_relu.onnx (not checked)
"""
DECOMPOSED = """\
Sites
sites  before                                          after    bits  nodes
1      prelu(slope=[1, 16, 1, 1] in [0.3203, 0.5483])  mul-max  same  node_prelu
"""
INSPECTED = """\
11 nodes, 4 activations
sites  activation  form  dtype    nodes
4      relu        op    float32  node_relu, node_relu_1, node_relu_2 and 1 more
"""


def test_the_words(folder: Path) -> None:
    assert invoke("swap-relu", "digits_relu.onnx", "--no-check").out == SWAPPED
    assert DECOMPOSED in invoke("decompose", "digits_prelu.onnx", "--no-check").out
    assert invoke("inspect", "digits_relu.onnx").out == INSPECTED


@pytest.mark.parametrize("width", ["20", "80", "140"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "digits_prelu.onnx"),
        ("decompose", "digits_prelu.onnx"),
        ("swap-relu", "digits_relu.onnx"),
        ("forms",),
    ],
    ids=" ".join,
)
def test_no_blanks_at_line_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    for option in ((), ("-v",)) if arguments[0] != "forms" else ((),):
        outcome = invoke(*arguments, *option, *(("--force",) if arguments[0] in ("decompose", "swap-relu") else ()))
        assert outcome.code == 0
        assert [line for line in outcome.out.splitlines() if line != line.rstrip()] == []
        assert not outcome.out.startswith("\n")


@pytest.mark.parametrize("width", [20, 80])
def test_on_a_terminal_whole_words_are_folded_not_cut(width: int) -> None:
    console = Console(width=width, force_terminal=True, no_color=True, record=True)
    with console.capture() as capture:
        text.show(console, text.table("Title", ("one", "two"), [("a" * 60, "b"), ("c", "")]))
    assert capture.get().count("a") == 60
    assert "…" not in capture.get()


def test_verbose_shows_every_site_and_the_reasons(folder: Path) -> None:
    chain(folder / "chain.onnx", [f"node_{i}" for i in range(50)])
    brief, full = (invoke("decompose", "chain.onnx", "--no-check", "--force", *v).out for v in ((), ("-v",)))
    assert "node_40" not in brief
    assert "passed over" not in brief
    assert all(f"node_{i}  " in full for i in range(50))
    assert "passed over" in full


def test_long_and_missing_names(folder: Path) -> None:
    chain(folder / "chain.onnx", ["x/" * 60 + "end", ""])
    out = invoke("inspect", "chain.onnx").out
    assert "x/x/x/x/x/x/x/x/x/x/…" in out
    assert "(unnamed, makes v2)" in out
    assert "x/" * 60 + "end" in invoke("inspect", "chain.onnx", "-v").out


def test_skips_are_grouped_by_reason() -> None:
    skips = [
        Skip("", "", "no"),
        Skip("", "", "no"),
        *(Skip("s", f"n{i}", "no") for i in range(5)),
        Skip("", "z", "why"),
    ]
    assert [str(part) for part in text.skipped(skips, verbose=False)] == [
        "\nSkipped",
        "  s > n0, s > n1, s > n2 and 2 more, 2 unnamed nodes: no",
        "  z: why",
    ]


def test_quiet_says_nothing_but_what_went_wrong(folder: Path) -> None:
    done = invoke("swap-relu", "digits_relu.onnx", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    nothing = invoke("fuse", "digits_relu.onnx", "-q")
    assert (nothing.code, nothing.out, nothing.err) == (4, "", "onnxact: nothing to rewrite\n")
    write(folder / "one.onnx")
    write(folder / "two.onnx", model(op="LeakyRelu", alpha=0.5))
    different = invoke("check", "one.onnx", "two.onnx", "-q")
    assert (different.code, different.out) == (1, "")
    assert "different" in different.err
