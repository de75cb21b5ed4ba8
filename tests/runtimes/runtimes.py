"""The runtimes of the exhibit: how each is opened, what its target file is, and why it is not there where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnxact.check.runners import BACKENDS, Backend, Interface, Refused, Run, find_backend
from onnxact.check.runners.backend import Array
from onnxact.errors import OnnxactError
from tests.runtimes.web import browser


@dataclass(frozen=True)
class Runtime:
    """`name` is that of the backend, `target` that of its file, "" where it has none."""

    name: str
    target: str
    lacking: Callable[[], str]
    opening: Callable[[], Iterator[Backend]]

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """The runtime, for as long as it is used."""
        yield from self.opening()


def _package(name: str, target: str) -> Runtime:
    def lacking() -> str:
        try:
            find_backend(name)
        except OnnxactError as error:
            return str(error)
        return ""

    def opening() -> Iterator[Backend]:
        yield find_backend(name)

    return Runtime(name, target, lacking, opening)


def _webgl() -> Iterator[Backend]:
    """One browser for all models, in place of one a run as the program itself has it."""
    with browser.Browser() as running:

        def load(path: Path, _interface: Interface) -> Run:
            content = path.read_bytes()

            def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
                try:
                    return running.run(content, feeds)
                except browser.Refused as error:
                    raise Refused(str(error)) from error

            return run

        yield Backend("ort-web-webgl", browser.version(), load)


_TARGETS = {
    "tract": "tract",
    "opencv": "opencv-dnn",
    "onnx2torch": "onnx2torch",
    "jaxonnxruntime": "jaxonnxruntime",
    "wonnx": "wonnx",
}
RUNTIMES: Mapping[str, Runtime] = {
    **{name: _package(name, _TARGETS.get(name, "")) for name in BACKENDS},
    "ort-web-webgl": Runtime("ort-web-webgl", "ort-web-webgl", browser.lacking, _webgl),
}
