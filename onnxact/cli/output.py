"""Reports and errors -> stdout and stderr, whatever these are: a terminal, a pipe that closes early, a full disk."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxact.errors import ModelError
from onnxact.report.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "onnxact/1"


class Reported(BaseException):
    """A command whose report is out already, with what it exits with."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


_UNLIMITED = 10_000
"""Columns of what is no terminal: a file or pipe gets whole lines."""


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, without limit and colour where there is none."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    found = Piped(stderr=stderr)
    return found if found.is_terminal else Piped(stderr=stderr, width=_UNLIMITED, no_color=True)


def emit_json(report: Mapping[str, Any]) -> None:
    """Write a report to stdout."""
    with delivering():
        print(json.dumps(finite(report), indent=2, allow_nan=False))  # noqa: T201


def finite(value: Any) -> Any:
    """Return plain data for JSON, which has no NaN and no infinities: these become texts, NumPy's scalars numbers."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def emit_error(message: str, exit_code: int, kind: str, *, verb: str | None) -> None:
    """Write an error as a report to stdout."""
    error = {"type": kind, "message": message, "exit_code": exit_code}
    emit_json({"schema": SCHEMA, "verb": verb, "error": error})


@contextmanager
def delivering() -> Iterator[None]:
    """Flush stdout at the end. A reader that has gone away (`| head`) is no error: the exit code stays the verb's."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_the_rest()
    except OSError as error:
        _discard_the_rest()
        raise ModelError(f"standard output cannot be written: {error.strerror or error}") from error


def _discard_the_rest() -> None:
    """Let what is still buffered go nowhere (docs.python.org/3/library/signal.html, "Note on SIGPIPE")."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def complain(message: str) -> None:
    """Write one line to stderr, if there is one."""
    if sys.stderr is not None:
        print(f"onnxact: {printable(message)}", file=sys.stderr)  # noqa: T201
