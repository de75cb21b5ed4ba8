"""An exception from PyTorch or from a user's module -> one sentence: what it says, and where in the user's code."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from onnxact.errors import OnnxactError

_LINES = 3
_NOISE = re.compile(
    r"For more information, run with|For extended logs|If you suspect the guard|For more debugging help"
    r"|For C\+\+ stack|The error above occurred when calling|consider using data-dependent friendly|^Caused by: "
    r"|^\s*$|^The following call|^\s*File \"|^    \S"
)
_ASIDE = re.compile(r" \((unhinted|Size-like symbols): [^()]*(\([^()]*\)[^()]*)*\)")
_OWN_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')


def said(error: BaseException) -> str:
    """Return the type and the first lines of what an exception says, in one line."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if not _NOISE.search(line)]
    text = _ASIDE.sub("", " ".join(lines[:_LINES])).rstrip(". ")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """Return the exception at the beginning of a chain of `raise ... from`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def own_error(error: BaseException) -> OnnxactError | None:
    """Return the exception of ours in a chain, if there is one."""
    return next((item for item in chain(error) if isinstance(item, OnnxactError)), None)


def place(error: BaseException) -> str:
    """Return "file:line in function" of the innermost frame in the user's own code; "" where there is none.

    It is in a traceback of the chain, or in what PyTorch quotes of one.
    """
    for item in reversed([*chain(error)]):
        frames = traceback.extract_tb(item.__traceback__)
        own = [frame for frame in frames if _is_own(frame.filename)]
        if own:
            return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}"
    quoted = [match for item in chain(error) for match in _OWN_FRAME.finditer(str(item)) if _is_own(match["file"])]
    return f"{quoted[-1]['file']}:{quoted[-1]['line']} in {quoted[-1]['name']}" if quoted else ""


def at(error: BaseException) -> str:
    """Return " (file:line in function)", or "" where the user's code has no part in it."""
    found = place(error)
    return f" ({found})" if found else ""


def described(value: object) -> str:
    """Return what a value is: "an int", "nothing"."""
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _is_own(file: str) -> bool:
    if file.startswith("<") or not file:
        return False
    path = Path(file)
    places = [Path(item) for item in _installed()]
    return not any(path.is_relative_to(item) for item in places)


def _installed() -> Iterator[str]:
    """Yield the folders of the standard library, of installed packages, and of onnxact."""
    import sysconfig

    yield from {
        value for key, value in sysconfig.get_paths().items() if key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    for name in ("torch", "onnxscript", "onnx"):
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin:
            yield str(Path(origin).parent)
    yield str(Path(__file__).resolve().parents[1])
