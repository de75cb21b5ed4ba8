"""The pytest plugin, in pytest's own runs: it asserts, skips visibly, fails with the table, and is off unless used.

ONNX is imported here, before pytester takes note of what is imported and drops the rest after a test: its extension
modules cannot be loaded twice.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import onnxruntime
import pytest

from onnxact import decompose

MODELS = Path(__file__).parents[1] / "models"
LEAKY, RELU = str(MODELS / "digits_leaky_relu.onnx"), str(MODELS / "digits_relu.onnx")
ABSENT = next(name for name in ("cuda", "coreml") if name not in str(onnxruntime.get_available_providers()).lower())

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(f"import pytest\nLEAKY, RELU = {LEAKY!r}, {RELU!r}\n{body}")
    return pytester.runpytest_inprocess("-p", "no:hypothesispytest", "-p", "no:xdist", "--strict-markers", *arguments)


def test_it_asserts_that_models_are_the_same(pytester: pytest.Pytester, tmp_path: Path) -> None:
    decompose(LEAKY, form="mul-max", output=tmp_path / "after.onnx")
    body = f"""
AFTER = {str(tmp_path / "after.onnx")!r}

def test_same(onnxact_equivalent):
    verdict = onnxact_equivalent(LEAKY, AFTER, providers=["cpu"], seeds=[3])
    assert verdict.equivalent
    assert [run.inputs for run in verdict.runs] == ["seed 3", "seed 3"]

@pytest.mark.onnx_provider("cpu")
def test_on_its_providers(onnxact_equivalent):
    assert onnxact_equivalent(LEAKY, AFTER).providers == ("cpu",)
"""
    run(pytester, body, "--junitxml=report.xml").assert_outcomes(passed=2)
    properties = [(item.get("name"), item.get("value")) for item in ET.parse("report.xml").iter("property")]
    assert properties[:3] == [
        ("onnxact.verdict", "equivalent"),
        ("onnxact.providers", "cpu"),
        ("onnxact.largest_u", "0"),
    ]


def test_a_failure_shows_the_table_and_nothing_of_onnxact(pytester: pytest.Pytester) -> None:
    body = f"""
from onnx import parser

def test_other(onnxact_equivalent):
    onnxact_equivalent(LEAKY, RELU, providers=["cpu"])

def test_it_is_an_assertion(onnxact_equivalent):
    with pytest.raises(AssertionError, match="different"):
        onnxact_equivalent(LEAKY, RELU, providers=["cpu"])

def test_missing(onnxact_equivalent):
    onnxact_equivalent(LEAKY, "none.onnx")

def test_unknown_option(onnxact_equivalent):
    onnxact_equivalent(LEAKY, RELU, seeds=[])

def test_unavailable(onnxact_equivalent):
    onnxact_equivalent(LEAKY, RELU, providers=[{ABSENT!r}])

def model(op):
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> main (float[0] x) => (float[0] y) {{{{ y = {{op}}(x) }}}}'
    )

def test_nothing_to_compare(onnxact_equivalent):
    onnxact_equivalent(model("Relu"), model("Exp"), providers=["cpu"])
"""
    result = run(pytester, body)
    result.assert_outcomes(failed=5, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*onnxact_equivalent(LEAKY, RELU, *",
            "E  *NotEquivalent: different: 4 runs on cpu*",
            "E  *because output logits*",
            "E  *logits*",
            "E  *different*",
            "E  *ModelError: none.onnx: cannot be read*",
            "E  *UsageError: seeds*",
            f"E  *ProviderError: provider {ABSENT}: *",
            "E  *inconclusive: *",
        ]
    )
    text = result.stdout.str()
    assert not [name for name in ("pytest_plugin.py", "equivalence.py", "api.py") if name in text]


MARKED = f"""
@pytest.mark.onnx_provider({ABSENT!r})
def test_marked(onnxact_equivalent):
    raise AssertionError("it ran")

@pytest.mark.onnx_provider("cudaa")
def test_misspelt(): pass

@pytest.mark.onnx_provider
def test_nameless(): pass
"""


def test_the_marker_skips_visibly_and_never_passes(pytester: pytest.Pytester) -> None:
    result = run(pytester, MARKED, "-rs")
    result.assert_outcomes(skipped=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*unknown provider 'cudaa'*",
            '*takes names of providers, such as "cuda"*',
            f"SKIPPED * provider {ABSENT}: *",
        ]
    )
    required = pytester.runpytest_inprocess(
        "--onnx-require-providers", "-k", "test_marked", "-p", "no:hypothesispytest"
    )
    required.assert_outcomes(errors=1, deselected=2)
    required.stdout.fnmatch_lines([f"*provider {ABSENT}: *(--onnx-require-providers)*"])


def test_it_imports_nothing_until_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_there(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("onnxact")
            assert not {"onnx", "onnxruntime", "numpy", "rich", "typer", "onnxact.api"} & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*provider*")
