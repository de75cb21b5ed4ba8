"""pytest: `onnxact_equivalent(before, after)` asserts that two models compute the same, with the evidence if not.

@pytest.mark.onnx_provider("cuda") runs a test where a session really gets that provider, and skips it elsewhere;
with --onnx-require-providers it fails there. Nothing of ONNX is imported until one of the two is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from onnxact.check import Verdict

MARKER = "onnx_provider"
REQUIRE = "--onnx-require-providers"
_MARGIN = 8
"""Columns that pytest puts before the lines of a message."""
_NARROWEST = 100

_absences: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""Provider -> why no session gets it, "" where one does; asked once a session of pytest."""


class OnnxactEquivalent(Protocol):
    """The fixture `onnxact_equivalent`, for annotations."""

    def __call__(self, before: Any, after: Any, *, providers: Sequence[str] | None = None, **options: Any) -> Verdict:
        """Return the verdict of `onnxact.check` if it is "equivalent", else raise NotEquivalent with the tables."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --onnx-require-providers."""
    parser.getgroup("onnxact").addoption(
        REQUIRE,
        action="store_true",
        help="Fail, rather than skip, a test whose onnx_provider is not available here.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    line = f"{MARKER}(name, ...): skip the test unless sessions of ONNX Runtime get these execution providers."
    config.addinivalue_line("markers", line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test that is marked for a provider that no session gets."""
    for name in _marked(item):
        absence = _absence(item.config, name)
        if absence and item.config.getoption(REQUIRE):
            pytest.fail(f"{absence} ({REQUIRE})", pytrace=False)
        if absence:
            pytest.skip(absence)


@pytest.fixture
def onnxact_equivalent(request: pytest.FixtureRequest) -> OnnxactEquivalent:
    """Return a function that asserts that two models compute the same; options as for `onnxact.check`.

    `providers` are those that the test is marked for, unless given. Models are paths, ModelProtos,
    onnx-graphsurgeon graphs or onnx-ir models. The verdict and where it was reached become properties of the test.
    """
    marked = _marked(request.node)

    def onnxact_equivalent(
        before: Any, after: Any, *, providers: Sequence[str] | None = None, **options: Any
    ) -> Verdict:
        __tracebackhide__ = True
        verdict = _verdict(before, after, providers=marked or None if providers is None else providers, **options)
        request.node.user_properties += _properties(verdict)
        if not verdict.equivalent:
            raise _failure(verdict, request.config)
        return verdict

    return onnxact_equivalent


def _verdict(before: Any, after: Any, **options: Any) -> Verdict:
    """Errors that a reader can act on come without a look into onnxact."""
    __tracebackhide__ = True
    from onnxact.api import check
    from onnxact.errors import OnnxactError

    try:
        return check(before, after, **options)
    except OnnxactError as error:
        raise error.with_traceback(None) from None


def _failure(verdict: Verdict, config: pytest.Config) -> AssertionError:
    from onnxact.check import NotEquivalent
    from onnxact.report.plain import plain_text

    width = max(config.get_terminal_writer().fullwidth - _MARGIN, _NARROWEST)
    failure = NotEquivalent(verdict)
    failure.args = (plain_text(verdict, width=width).rstrip(),)
    return failure


def _properties(verdict: Verdict) -> list[tuple[str, object]]:
    """What JUnit reports of pytest show: the verdict, where it was reached, how far the outputs moved."""
    moved = max((item.max_u for item in verdict.outputs), default=0.0)
    return [
        ("onnxact.verdict", verdict.outcome),
        ("onnxact.providers", ", ".join(verdict.providers)),
        ("onnxact.largest_u", f"{moved:.3g}"),
    ]


def _marked(node: pytest.Item) -> list[str]:
    """The providers that a test is marked for."""
    markers = list(node.iter_markers(MARKER))
    if any(not marker.args or marker.kwargs for marker in markers):
        pytest.fail(f'@pytest.mark.{MARKER} takes names of providers, such as "cuda"', pytrace=False)
    return list(dict.fromkeys(str(name) for marker in reversed(markers) for name in marker.args))


def _absence(config: pytest.Config, name: str) -> str:
    """Why no session gets a provider, with what to install; "" where one does."""
    from onnxact.check import resolve_providers
    from onnxact.errors import MissingPackageError, ProviderError, UsageError

    known = config.stash.setdefault(_absences, {})
    if name not in known:
        try:
            resolve_providers([name])
            known[name] = ""
        except (ProviderError, MissingPackageError) as error:
            known[name] = str(error)
        except UsageError as error:
            pytest.fail(f"@pytest.mark.{MARKER}: {error}", pytrace=False)
    return known[name]
