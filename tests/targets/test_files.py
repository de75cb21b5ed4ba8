"""The target files: every one is read, says where it comes from, and leaves no op of the forms unmentioned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.errors import ModelError, UsageError
from onnxact.rewrite.target.judge import Judge, Place
from onnxact.rewrite.target.known import find_target, names
from onnxact.rewrite.target.matrix import decided
from onnxact.rewrite.target.reading import parse
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.use import Operand, Use
from onnxact.rewrite.target.values import CONSTANTS, RESTRICTED, WRONG
from onnxact.rewrite.target.values import HEAD as HEAD_KEYS
from tests.targets.examples import FILES

TRACED = {
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Sigmoid",
    "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Mul", "Add", "Sub", "Div", "Neg", "Abs", "Max", "Min",
    "Where", "Less", "Greater", "Sign", "Exp", "Log", "Erf", "Sqrt", "Pow", "Cast", "CastLike", "Constant", "Identity",
}  # fmt: skip
"""The ops that were looked up in each source."""
NOT_A_LIST = {"vitis-ai-dpu"}
"""Targets whose sources speak of single ops."""


def test_there_are_31_levels_and_the_standard() -> None:
    assert len(names()) == 32
    assert names() == sorted(path.stem for path in FILES)
    assert "onnx" in names()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_a_target_with_its_source(path: Path) -> None:
    target = find_target(path.stem)
    assert target.name == path.stem == path.stem.lower()
    assert target.title
    assert target.version
    assert target.source
    assert target.date
    assert re.fullmatch("([0-9a-f]{40})?", target.commit)
    assert "/" in target.source or target.ran or target.ops is None
    assert str(Path.home()) not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_traced_op_is_there_or_missing(path: Path) -> None:
    target = find_target(path.stem)
    if target.ops is None or path.stem in NOT_A_LIST:
        return
    assert target.missing is not None
    assert set(target.ops) | target.missing == TRACED
    assert not set(target.ops) & target.missing
    assert set(target.notes) <= TRACED
    assert all(name in ACTIVATIONS for name in target.patterns)


@pytest.mark.parametrize("spelled", ["opencv-dnn", "opencv_dnn", "OpenCV-DNN"])
def test_any_spelling(spelled: str) -> None:
    assert find_target(spelled).name == "opencv-dnn"


@pytest.mark.parametrize(
    ("name", "near"),
    [("opencv", "'opencv-dnn'"), ("trakt", "'tract'"), ("tensorrt10", "'tensorrt'"), ("coreml", "or ")],
)
def test_an_unknown_target_gets_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=re.escape(near)) as caught:
        find_target(name)
    assert "onnxact targets" in str(caught.value)


TABLES = {"constants", "restricted", "wrong", "notes", "patterns", "standard", "unless_stated"}
HEAD = 'title = "t"\nversion = "1"\nsource = "s"\ndate = "d"\n'
BAD = {
    "syntax": ("title = \n", "line 1"),
    "no source": ('title = "t"\nversion = "1"\ndate = "d"\nops = []\n', "states no source"),
    "no ops": (HEAD, "ops` or `standard"),
    "both": (HEAD + 'standard = true\nops = ["Relu"]\n', "ops` or `standard"),
    "unknown key": (HEAD + 'ops = ["Relu"]\nrestrict = 3\n', "line 6, key 'restrict': is no key here (did you mean 'restricted'"),  # noqa: E501
    "unknown rule": (HEAD + 'ops = ["Relu"]\n[restricted.Relu]\nrnak = "4"\n', "line 7, key 'restricted.Relu.rnak'"),
    "wrong type": (HEAD + 'ops = "Relu"\n', "line 5, key 'ops': must be a list of texts"),
    "not a flag": (HEAD + 'ops = ["Relu"]\nvalue_info = "yes"\n', "line 6, key 'value_info': must be true or false"),
    "twice": (HEAD + 'ops = ["Relu", "Relu"]\n', "'Relu' is listed twice"),
    "op": (HEAD + 'ops = ["LeakyReLU"]\n', "is no operator of ONNX (did you mean 'LeakyRelu'?)"),
    "both lists": (HEAD + 'ops = ["Relu"]\nmissing = ["Relu"]\n', "line 6, key 'missing': 'Relu' is also among `ops`"),
    "restricted op": (HEAD + 'ops = ["Relu"]\n[restricted.Elu]\nrank = "4"\n', "line 6, key 'restricted.Elu'"),
    "range": (HEAD + 'ops = ["Relu"]\n[restricted.Relu]\nrank = "four"\n', "line 7, key 'restricted.Relu.rank': 'four"),
    "empty range": (HEAD + 'ops = ["Relu"]\nopset = "9-7"\n', "'9-7' is an empty range"),
    "dtype": (HEAD + 'ops = ["Relu"]\ndtypes = ["float"]\n', "'float' is none of float16"),
    "operand": (HEAD + 'ops = ["Elu"]\n[restricted.Elu]\nwhen = "beta == 1"\n', "'beta' is no operand of Elu"),
    "condition": (HEAD + 'ops = ["Elu"]\n[restricted.Elu]\nwhen = "alpha = 1"\n', "is no condition"),
    "text and number": (HEAD + 'ops = ["Elu"]\n[restricted.Elu]\nwhen = "alpha < \'x\'"\n', "line 7, key 'restricted.Elu.when': \"alpha < 'x'\" compares a text"),  # noqa: E501
    "number and text": (HEAD + 'ops = ["Gelu"]\n[wrong.Gelu]\nwhy = "w"\nwhen = "approximate == 1"\n', "line 8, key 'wrong.Gelu.when': 'approximate == 1' compares a text"),  # noqa: E501
    "layout of no operand": (HEAD + 'ops = ["PRelu"]\n[restricted.PRelu]\nshapes.slop = ["one"]\n', "line 7, key 'restricted.PRelu.shapes.slop': 'slop' is no operand"),  # noqa: E501
    "contrib layout": (HEAD + 'ops = ["com.microsoft::Gelu"]\n[restricted."com.microsoft::Gelu"]\nconstant = ["x"]\n', "'x' is no operand of com.microsoft::Gelu"),  # noqa: E501
    "call": (HEAD + 'ops = ["Elu"]\n[restricted.Elu]\nwhen = "exit() == 1"\n', "neither an operand nor a number"),
    "layout": (HEAD + 'ops = ["PRelu"]\n[restricted.PRelu]\nshapes.slope = ["NCHW"]\n', "'NCHW' is none of one, full"),
    "no why": (HEAD + 'ops = ["Elu"]\n[wrong.Elu]\nwhen = "alpha == 1"\n', "line 6, key 'wrong.Elu': states no `why`"),
    "input": (HEAD + 'ops = ["Elu"]\n[wrong.Elu]\nwhy = "w"\ninputs = "alpha > 1"\n', "must speak of X alone"),
    "pattern": (HEAD + 'ops = ["Elu"]\n[patterns]\ngelu = ["erff"]\n', "line 7, key 'patterns.gelu': gelu has no form 'erff'"),  # noqa: E501
    "activation": (HEAD + 'ops = ["Elu"]\n[patterns]\ngulu = ["erf"]\n', "unknown activation 'gulu'"),
    "constants": (HEAD + 'ops = ["Elu"]\n[constants]\nshape = "two"\n', "'two' is none of one, scalar, full"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_line_and_key(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        find_target(str(path))
    assert str(path) in str(caught.value)
    assert "docs/targets.md" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        find_target(str(tmp_path / "no.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="UTF-8"):
        find_target(str(tmp_path / "bytes.toml"))


def test_what_is_in_neither_list_is_missing_unless_the_file_says_what_is() -> None:
    listed = parse(HEAD + 'ops = ["Relu"]\n', "mine", "mine.toml")
    assert listed.lacks("Elu")
    open_ended = parse(HEAD + 'ops = ["Relu"]\nmissing = ["Selu"]\n', "mine", "mine.toml")
    assert open_ended.lacks("Selu")
    assert not open_ended.lacks("Elu")


def test_the_documentation_shows_a_file_that_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
    shown = page.partition("## A file of your own")[2].partition("An unknown key")[0]
    target = parse("\n".join(line[4:] for line in shown.splitlines()), "mine", "docs/targets.md")
    assert target.constants.shared is False
    assert target.rules("PRelu")[0].shapes == {"slope": ("1C11", "one")}
    mentioned = set(re.findall(r"^ *([a-z_.]+)(?= =)", shown, re.MULTILINE))
    assert {*HEAD_KEYS, *RESTRICTED, *WRONG, *CONSTANTS} - {"when", *TABLES} <= {
        key.partition(".")[0] for key in mentioned
    }


def contrib_target(rule: str) -> Target:
    name = "com.microsoft::FusedConv"
    return parse(f'{HEAD}ops = ["Relu", "LeakyRelu", "{name}"]\n[restricted."{name}"]\n{rule}\n', "mine", "mine.toml")


@pytest.mark.parametrize(
    ("rule", "attributes", "runs"),
    [
        ("when = \"activation == 'Relu'\"", {"activation": "Relu"}, True),
        ("when = \"activation == 'Relu'\"", {"activation": "Tanh"}, False),
        ("when = \"activation == 'Relu'\"", {}, False),
        ('when = "group == 1"', {"group": 1.0, "activation": "Relu"}, True),
        ('when = "group == 1"', {"group": 4.0}, False),
        ("stated = ['group']", {}, False),
    ],
)
def test_conditions_on_ops_of_another_domain(rule: str, attributes: dict[str, Any], runs: bool) -> None:
    judge = Judge(contrib_target(rule), Place(13, "float32", {}, (1, 4, 5, 5)))
    use = Use("com.microsoft::FusedConv", attributes, frozenset(attributes))
    assert (judge.node(use) is None) is runs


@pytest.mark.parametrize("condition", ["alpha == 1", "1 == alpha"])
def test_a_fixed_slope_that_gives_no_form_is_a_reason(condition: str) -> None:
    target = parse(
        HEAD + f'ops = ["LeakyRelu", "Mul", "Add"]\n[restricted.LeakyRelu]\nwhen = "{condition}"\n', "m", "m"
    )
    found = decided(target, "leaky_relu")
    assert found.after is None
    assert "LeakyRelu only where" in found.reason


def test_a_fixed_slope_is_known_on_either_side() -> None:
    head = HEAD + 'ops = ["LeakyRelu", "Mul", "Add"]\n[restricted.LeakyRelu]\n'
    for condition in ("alpha == 0.125", "0.125 == alpha"):
        found = decided(parse(f'{head}when = "{condition}"\n', "mine", "mine.toml"), "leaky_relu")
        assert found.after is not None
        assert found.after.form == "fixed-slope[slope=0.125]"


def test_an_exponent_has_to_be_whole() -> None:
    judge = Judge(find_target("onnx-mlir-nnpa-z16"), Place(13, "float32", {}, (1, 4, 5, 5)))
    found = {exponent: judge.node(Use("Pow", {"X": Operand.COMPUTED, "Y": np.float32(exponent)}, frozenset()))
             for exponent in (2.0, 0.5, 65.0)}  # fmt: skip
    assert found[2.0] is None
    assert "Y is a whole number" in str(found[0.5])
    assert found[65.0] is not None
