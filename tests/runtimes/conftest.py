"""The runtimes of the tests, each opened once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from onnxact.check.runners import Backend
from tests.runtimes.runtimes import RUNTIMES

Open = Callable[[str], Backend]


@pytest.fixture(scope="session")
def open_backend() -> Iterator[Open]:
    """A function from the name of a runtime to its backend; it skips, and says why, where the runtime is not there."""
    held: dict[str, Backend] = {}
    with ExitStack() as stack:

        def opened(name: str) -> Backend:
            if problem := RUNTIMES[name].lacking():
                pytest.skip(problem)
            if name not in held:
                held[name] = stack.enter_context(RUNTIMES[name].backend())
            return held[name]

        yield opened
