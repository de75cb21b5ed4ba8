"""Options for ONNX Runtime: what it knows reaches it, what it does not is refused with its own words."""

from __future__ import annotations

from typing import Any

import pytest

from onnxact.check import check, resolve_providers
from onnxact.check.options import RuntimeOptions, parse_provider_options, parse_session_options
from onnxact.check.providers import create, runtime, runtime_options
from onnxact.check.session import Session, open_session
from onnxact.check.subject import open_subject
from onnxact.errors import UsageError
from tests.check.models import LEAKY, MUL_MAX, RELU, unary


def opened(**options: Any) -> Any:
    subject = open_subject(unary(RELU), options=runtime_options(**options))
    session = open_session(subject, "cpu", optimise=False)
    assert isinstance(session, Session)
    return session.handle.get_session_options()


def test_session_options_reach_the_session() -> None:
    chosen = {"intra_op_num_threads": 1, "session.intra_op.allow_spinning": "0", "enable_mem_pattern": False}
    found = opened(session_options=chosen)
    assert (found.intra_op_num_threads, found.enable_mem_pattern) == (1, False)
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_texts_are_read_as_the_type_of_the_option() -> None:
    texts = parse_session_options(
        ["intra_op_num_threads=1", "enable_mem_pattern=off", "execution_mode=ORT_PARALLEL", "logid=a=b"]
    )
    found = opened(session_options=texts)
    assert (found.intra_op_num_threads, found.enable_mem_pattern, found.logid) == (1, False, "a=b")
    assert found.execution_mode == runtime().ExecutionMode.ORT_PARALLEL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonsense": 1}, "has none of this name; known: .*intra_op_num_threads"),
        ({"intra_op_num_threads": "many"}, "session option intra_op_num_threads: invalid literal"),
        ({"intra_op_num_threads": [1]}, r"it does not take \[1\]"),
        ({"enable_mem_pattern": "perhaps"}, "'perhaps' is neither true nor false"),
        ({"execution_mode": "FAST"}, "'FAST' is none of ORT_SEQUENTIAL, ORT_PARALLEL"),
        ({"graph_optimization_level": 0}, "cannot be given: a check runs with optimisation off and on"),
        ({"a." + "b" * 2000: "1"}, "longer than maximum length"),
        ({"run": 1}, "none of this name"),
    ],
)
def test_session_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(unary(LEAKY), unary(MUL_MAX), providers=["cpu"], session_options=options)


def test_provider_options_that_are_ignored_are_refused() -> None:
    with pytest.raises(UsageError, match="provider cpu ignores the option nonsense; it takes none"):
        check(unary(LEAKY), unary(MUL_MAX), providers=["cpu"], provider_options={"cpu": {"nonsense": "1"}})


def test_provider_options_for_another_provider_are_refused() -> None:
    with pytest.raises(UsageError, match="provider options for cuda: the check runs on cpu only"):
        check(unary(LEAKY), unary(MUL_MAX), providers=["cpu"], provider_options={"CUDA": {"device_id": 0}})
    with pytest.raises(UsageError, match="unknown provider 'cud'"):
        check(unary(LEAKY), unary(MUL_MAX), providers=["cpu"], provider_options={"cud": {}})


def test_what_onnxruntime_refuses_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(source: Any, name: str, **options: Any) -> Any:
        if options.get("options", RuntimeOptions()).provider_options:
            raise RuntimeError('/onnxruntime_src/a/b.h:151 void f(const int&) Unknown provider option: "x".\nmore')
        return create(source, name, **options)

    monkeypatch.setattr("onnxact.check.providers.create", refusing)
    with pytest.raises(UsageError) as caught:
        resolve_providers(["cpu"], runtime_options({"cpu": {"x": True}}))
    assert str(caught.value) == 'provider cpu does not take the options x=1: Unknown provider option: "x".'


def test_tf32_is_off_unless_asked_for() -> None:
    assert RuntimeOptions().of_provider("cuda") == {"use_tf32": "0"}
    assert RuntimeOptions(tf32=True).of_provider("cuda") == {"use_tf32": "1"}
    assert runtime_options({"CUDAExecutionProvider": {"use_tf32": 1}}).of_provider("cuda") == {"use_tf32": "1"}
    assert runtime_options({"cuda": {"use_tf32": 1}}).uses_tf32
    assert not RuntimeOptions().uses_tf32
    assert RuntimeOptions().of_provider("cpu") == {}
    with pytest.raises(UsageError, match="not both"):
        runtime_options({"cuda": {"use_tf32": "0"}}, tf32=True)


def test_options_are_in_the_report() -> None:
    verdict = check(unary(LEAKY), unary(MUL_MAX), providers=["cpu"], session_options={"intra_op_num_threads": 1})
    report = verdict.to_json()
    assert report["options"] == {
        "provider_options": {},
        "session_options": {"intra_op_num_threads": 1},
        "tf32": False,
    }
    assert report["runtime"] == f"onnxruntime {runtime().__version__}"


@pytest.mark.parametrize("text", ["cuda", "cuda:device_id", "device_id=1", ":a=1", "cuda:=1"])
def test_provider_options_that_are_no_options(text: str) -> None:
    with pytest.raises(UsageError, match="write it as PROVIDER:NAME=VALUE"):
        parse_provider_options([text])


def test_provider_options_are_parsed() -> None:
    texts = ["cuda:device_id=1", "cpu:a=b=c", "cuda:use_tf32=0"]
    assert parse_provider_options(texts) == {"cuda": {"device_id": "1", "use_tf32": "0"}, "cpu": {"a": "b=c"}}
    with pytest.raises(UsageError, match="given twice"):
        parse_provider_options(["cuda:a=1", "cuda:a=2"])
    with pytest.raises(UsageError, match="given twice"):
        parse_session_options(["a=1", "a=2"])
    with pytest.raises(UsageError, match="write it as NAME=VALUE"):
        parse_session_options(["a"])
