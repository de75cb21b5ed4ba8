"""Verdict -> text, Markdown and JUnit: what matters is there, and what is no pass looks like none."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from onnxact.check import Verdict
from onnxact.report import evidence, junit, markdown
from onnxact.report.plain import plain_text
from tests.report.verdicts import DIFFERENT, EQUIVALENT, INCONCLUSIVE, NASTY, NOTHING

ALL = {"equivalent": EQUIVALENT, "different": DIFFERENT, "inconclusive": INCONCLUSIVE, "nothing": NOTHING}


def cases(verdict: Verdict) -> dict[str, str]:
    """Test case -> how it ended."""
    suites = ET.fromstring(junit.document(verdict, "check a b", text="the tables"))
    found = {str(case.get("name")): case for case in suites.iter("testcase")}
    return {name: case[0].tag if len(case) else "passed" for name, case in found.items()}


# JUnit.


def test_a_pass_is_all_passed() -> None:
    assert cases(EQUIVALENT) == {
        "verdict": "passed",
        "output y on cpu": "passed",
        "site act": "passed",
        "site act2": "passed",
        "provider cuda": "skipped",
    }


def test_differences_are_failures_of_the_right_cases() -> None:
    found = cases(DIFFERENT)
    assert found == {
        "verdict": "failure",
        "output y on cpu": "failure",
        "output y on cuda": "passed",
        "output n on cpu": "failure",
        "site act": "passed",
        f"site {junit.clean(NASTY)}": "failure",
        "placement of site 'act' on cuda": "error",
    }


def test_what_is_not_known_is_an_error() -> None:
    assert cases(INCONCLUSIVE) == {"verdict": "error", "output y on cpu": "error", "site act": "error"}
    assert cases(NOTHING) == {"verdict": "failure"}


@pytest.mark.parametrize("name", ALL)
def test_the_counts_of_junit_are_those_of_its_cases(name: str) -> None:
    content = junit.document(ALL[name], f"check {NASTY}", text=NASTY, seconds=1.5)
    suites = ET.fromstring(content)
    assert suites.tag == "testsuites"
    (suite,) = suites
    assert [child.tag for child in suite] == ["properties", *["testcase"] * (len(suite) - 1)]
    for tag, attribute in {"testcase": "tests", "failure": "failures", "error": "errors", "skipped": "skipped"}.items():
        assert suite.get(attribute) == str(len(list(suites.iter(tag))))
    for case in suites.iter("testcase"):
        assert case.get("classname")
        assert float(str(case.get("time"))) >= 0
    for ending in (*suites.iter("failure"), *suites.iter("error")):
        assert ending.get("message")
        assert ending.get("type")
    assert content.decode().startswith("<?xml version='1.0' encoding='utf-8'?>\n<testsuites name=\"onnxact\"")


def test_junit_holds_the_tables_and_what_xml_cannot_hold_in_words() -> None:
    suites = ET.fromstring(junit.document(DIFFERENT, "check a b", text=f"the tables {NASTY}"))
    verdict = next(suites.iter("failure"))
    assert "the tables" in str(verdict.text)
    assert "\\x1b" in str(verdict.text)
    texts = [str(ending.text) for ending in suites.iter("failure")]
    assert "[1, 2]: f(-1.5) is -0.3, not -0.45" in "\n".join(texts)
    assert "tolerance: rtol 1e-05, atol 2e-05 (default)" in "\n".join(texts)


def test_a_check_that_was_not_made_is_an_error() -> None:
    case = ET.fromstring(junit.refusal("no such file", "ModelError", "check a b"))[0][1]
    assert (case.get("name"), case[0].tag, case[0].get("type")) == ("verdict", "error", "ModelError")
    case = ET.fromstring(junit.nothing("nothing to rewrite", "fuse a"))[0][1]
    assert case[0].tag == "skipped"


# Markdown.


@pytest.mark.parametrize("name", ALL)
def test_markdown_is_well_formed(name: str) -> None:
    page = markdown.page(ALL[name], f"check {NASTY}")
    assert page.startswith(f"{markdown.MARK}\n")
    assert "<b>" not in page
    for table in re.findall(r"(?:^\|.*\|$\n?)+", page, re.MULTILINE):
        rows = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(rows)) == 1


def test_markdown_says_what_matters() -> None:
    page = markdown.page(DIFFERENT, "check a b")
    assert "## ❌ different: check a b" in page
    assert "2 runs on cpu, cuda, onnxruntime 1.31.1" in page
    assert "| y | float32\\[2, 3\\] | cpu | different | 4 of 6 | 0.5 (9 u) | 1e-06 |" in page
    assert "### First divergence" in page
    assert "- the slope is 0.3, not 0.2" in page
    assert "3 of 12 wrong" in page
    assert "✅ equivalent" in markdown.page(EQUIVALENT, "check a b")
    assert "⚠️ inconclusive" in markdown.page(INCONCLUSIVE, "check a b")
    assert "❌ not checked" in markdown.refusal("no file", "check a b")


def test_long_tables_are_counted_not_shown() -> None:
    many = Verdict(
        "equivalent",
        outputs=tuple(
            EQUIVALENT.outputs[0].__class__(f"y{i}", EQUIVALENT.runs[0], "equivalent", dtype="float32")
            for i in range(60)
        ),
    )
    page = markdown.page(many, "check a b")
    assert page.count("\n| y") == markdown.SHOWN
    assert "... and 10 more" in page


# Text.


def test_the_text_says_at_once_what_where_and_how_far() -> None:
    text = plain_text(DIFFERENT, width=300)
    assert text.startswith("different: 2 runs on cpu, cuda, onnxruntime 1.31.1\n")
    for words in (
        "because output y (seed 0, cpu, optimisation off): outside",
        "rtol 1e-05, atol 2e-05 (default)",
        "has to be equal",
        "1 of 2 sites equivalent, at most 0.5 u from their functions",
        "3 of 12 wrong",
        "f(-1.5) is -0.3, not -0.45",
        "cuda: 2 nodes on cpu, 7 nodes on cuda",
        "site 'act': before cuda 1, after cpu 2",
        "Likely cause",
    ):
        assert words in text, words


def test_the_text_of_a_pass_is_short() -> None:
    text = plain_text(EQUIVALENT)
    assert text.splitlines()[0] == "equivalent: 1 run on cpu, cuda left out, onnxruntime 1.31.1"
    assert "2 of 2 sites equivalent, at most 2.5 u from their functions" in text
    assert len(text.splitlines()) == 5
    full = plain_text(EQUIVALENT, verbose=True)
    assert "5 below, 1 at, 6 above 0" in full
    assert "leaky_relu(alpha = 0.2)" in full
    assert "this ONNX Runtime was built without it" in full


def test_a_narrow_terminal_gets_lists_not_broken_words() -> None:
    text = plain_text(DIFFERENT, width=80)
    assert "  output y\n    type: float32[2, 3]\n    provider: cpu\n    verdict: different\n" in text


def test_what_was_left_out() -> None:
    notes = ("cuda left out: built without", "left out: provider dml: no driver", "a note, left out: of this")
    found = evidence.left_out(Verdict("equivalent", notes=notes))
    assert found == {"cuda": "built without", "dml": "provider dml: no driver"}
