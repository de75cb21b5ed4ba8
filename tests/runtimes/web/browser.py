#!/usr/bin/env python3
"""onnxruntime-web's WebGL backend in a headless Chromium: a page on the loopback address that asks for models to run.

    python browser.py --version                          python browser.py MODEL.onnx INPUTS.npz OUTPUTS.npz

ONNXACT_WEB names the folder in which npm has installed what package.json asks for (default: build/runtimes/web of this
repository), ONNXACT_CHROMIUM the browser (default: the first of chromium, chromium-browser, google-chrome on the path).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("ONNXACT_WEB", HERE.parents[2] / "build" / "runtimes" / "web"))
SCRIPT = Path("node_modules", "onnxruntime-web", "dist", "ort.webgl.min.js")
NAMES = ("chromium", "chromium-browser", "google-chrome")
# WebGL in software, and no more of a browser than that takes; as root, Chromium starts without its sandbox only.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio",
)  # fmt: skip
_START = 60.0
_PATIENCE = 300.0
_POLL = 5.0


class Refused(Exception):  # noqa: N818 - what the runtime says of a model
    """Why a model was not run."""


def lacking() -> str:
    """What has to be installed for this; "" where all is there."""
    if not (FOLDER / SCRIPT).is_file():
        return f"onnxruntime-web is not in {FOLDER}: make runtimes"
    return "" if chromium() else f"none of {', '.join(NAMES)} is on the path: apt-get install chromium"


def chromium() -> str | None:
    """The path of the browser."""
    own = os.environ.get("ONNXACT_CHROMIUM")
    return own or next((found for name in NAMES if (found := shutil.which(name))), None)


def version() -> str:
    """The versions of onnxruntime-web and of the browser."""
    package = json.loads((FOLDER / SCRIPT.parts[0] / SCRIPT.parts[1] / "package.json").read_text(encoding="utf-8"))
    said = subprocess.run([str(chromium()), "--version"], capture_output=True, text=True, timeout=_START, check=False)
    browser = " ".join(said.stdout.split()[:2])
    return f"{package['version']} (WebGL, {browser})"


class Browser:
    """A running browser; models run one after the other. Use it as a context manager."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[bytes] = queue.Queue()
        self.outcomes: queue.Queue[dict[str, Any]] = queue.Queue()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.profile = tempfile.TemporaryDirectory(prefix="onnxact-", ignore_cleanup_errors=True)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Browser:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self.server.server_port}/"
        command = [str(chromium()), *OPTIONS, f"--user-data-dir={self.profile.name}", address]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=_START)
        self.server.shutdown()
        self.server.server_close()
        self.profile.cleanup()

    def run(self, model: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Raises Refused with what onnxruntime-web says."""
        inputs = {name: _encoded(array) for name, array in feeds.items()}
        self.tasks.put(json.dumps({"model": base64.b64encode(model).decode(), "inputs": inputs}).encode())
        try:
            found = self.outcomes.get(timeout=_PATIENCE)
        except queue.Empty as error:
            raise TimeoutError("the browser did not answer") from error
        if "said" in found:
            raise Refused(found["said"])
        return {name: _decoded(value) for name, value in found["outputs"].items()}


def _handler(browser: Browser) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """The page, its script, tasks to fetch, and outcomes to take."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            files = {"/": (HERE / "page.html", "text/html"), f"/{SCRIPT.name}": (FOLDER / SCRIPT, "text/javascript")}
            if self.path in files:
                path, kind = files[self.path]
                self._answer(200, path.read_bytes(), kind)
            elif self.path == "/task":
                try:
                    self._answer(200, browser.tasks.get(timeout=_POLL), "application/json")
                except queue.Empty:
                    self._answer(204, b"", "text/plain")
            else:
                self._answer(404, b"", "text/plain")

        def do_POST(self) -> None:
            browser.outcomes.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(204, b"", "text/plain")

        def _answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a browser that is gone
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _encoded(array: Array) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"type": array.dtype.name, "dims": list(array.shape), "data": data}


def _decoded(value: Mapping[str, Any]) -> Array:
    found: Array = np.frombuffer(base64.b64decode(value["data"]), value["type"]).reshape(value["dims"])
    return found


def main(arguments: list[str]) -> int:
    """Run one model, as onnxact's --backend asks a program to."""
    if problem := lacking():
        sys.stderr.write(f"{problem}\n")
        return 1
    if arguments == ["--version"]:
        sys.stdout.write(f"ort-web-webgl {version()}\n")
        return 0
    model, inputs, outputs = arguments
    try:
        with Browser() as browser, np.load(inputs) as given:
            np.savez(outputs, **browser.run(Path(model).read_bytes(), dict(given)))  # type: ignore[arg-type]
    except (Refused, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
