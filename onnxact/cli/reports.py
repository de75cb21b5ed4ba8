"""--junit and --markdown: files that tell of one check, whole and true at any moment.

A report says "not finished" from the start and the outcome at the end, so that a run that is killed leaves no earlier
pass behind. What is there already is replaced if it is empty or such a report, and left alone otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnxact.cli.evidence import Evidence
from onnxact.cli.options import parse_path
from onnxact.errors import FileConflictError, ModelError, OnnxactError, UsageError

if TYPE_CHECKING:
    from onnxact.check import Verdict

_UNFINISHED = "the check did not finish; it was interrupted, killed, or it ended with an error"
_BEGINNING = 1 << 10


@dataclass(frozen=True)
class Reports:
    """The files that were asked for, by option, and what the check is called in them."""

    title: str
    junit: Path | None = None
    markdown: Path | None = None
    started: float = field(default_factory=time.monotonic)

    def write(self, verdict: Verdict, *, subject: str = "") -> None:
        """Write what a check found."""
        from onnxact.report import junit, markdown
        from onnxact.report.plain import plain_text

        seconds = time.monotonic() - self.started
        text = plain_text(verdict, subject=subject, verbose=True)
        self._put(
            lambda: junit.document(verdict, self.title, text=text, seconds=seconds),
            lambda: markdown.page(verdict, self.title, subject=subject),
        )

    def write_nothing(self, why: str, *, allowed: bool) -> None:
        """Write that there was nothing to check."""
        from onnxact.report import junit, markdown

        self._put(
            lambda: junit.nothing(why, self.title) if allowed else junit.refusal(why, "nothing to check", self.title),
            lambda: markdown.refusal(why, self.title, mild=allowed),
        )

    def write_error(self, message: str, kind: str) -> None:
        """Write that a check was not made, and why."""
        from onnxact.report import junit, markdown

        self._put(lambda: junit.refusal(message, kind, self.title), lambda: markdown.refusal(message, self.title))

    def _put(self, junit: Callable[[], bytes], markdown: Callable[[], str]) -> None:
        if self.junit is not None:
            _write(self.junit, junit())
        if self.markdown is not None:
            _write(self.markdown, markdown().encode(errors="backslashreplace"))


@contextmanager
def reporting(title: str, evidence: Evidence) -> Iterator[Reports]:
    """Yield the reports that `evidence` asks for; they say that nothing was found until they are written.

    Raises UsageError and FileConflictError, before anything is written, for names that cannot be taken.
    """
    reports = Reports(title, _path("--junit", evidence.junit), _path("--markdown", evidence.markdown))
    _demand_places(reports, evidence)
    reports.write_error(_UNFINISHED, "unfinished")
    try:
        yield reports
    except OnnxactError as error:
        reports.write_error(str(error), type(error).__name__)
        raise


def _path(option: str, text: str | None) -> Path | None:
    return None if text is None else parse_path(option, text)


def _demand_places(reports: Reports, evidence: Evidence) -> None:
    from onnxact.report import junit, markdown

    marks = {"--junit": f'<testsuites name="{junit.SUITES}"', "--markdown": markdown.MARK}
    places = {"--junit": reports.junit, "--markdown": reports.markdown}
    seen: dict[Path, str] = {}
    for option, place in {**places, "--save-inputs": _path("--save-inputs", evidence.save_inputs)}.items():
        if place is not None:
            first = seen.setdefault(place.absolute(), option)
            if first != option:
                raise UsageError(f"{place}: named by {first} and by {option}; give two names")
    for option, place in places.items():
        if place is not None:
            _demand_place(option, place, marks[option])


def _demand_place(option: str, path: Path, mark: str) -> None:
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # raises for names that no file can have
        if not path.parent.is_dir():
            raise FileConflictError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
        if path.is_dir():
            raise FileConflictError(f"{option} {path}: is a directory; name a file in it")
        if path.exists() and not path.is_file():
            raise FileConflictError(f"{option} {path}: is a pipe or device; name a file")
        if path.is_file() and not _is_report(path, mark):
            raise FileConflictError(
                f"{option} {path}: exists and is no such report of onnxact; delete it or name another"
            )
    except (OSError, ValueError) as error:
        raise FileConflictError(f"{option} {path}: cannot be written: {_why(error)}") from error


def _is_report(path: Path, mark: str) -> bool:
    with path.open("rb") as stream:
        beginning = stream.read(_BEGINNING)
    return not beginning.strip() or mark.encode() in beginning


def _write(path: Path, content: bytes) -> None:
    from onnxact.model import atomic

    try:
        atomic.write_all({path.resolve() if path.is_symlink() else path: atomic.put(content)})
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {_why(error)}") from error


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
