"""A program of the caller's own -> a Backend: a board, a simulator, a browser, or a Python with other packages.

    ./runner --version                             prints its name and version in one line
    ./runner MODEL.onnx INPUTS.npz OUTPUTS.npz     runs the model; exit code 0, and OUTPUTS.npz holds every output

Any other exit code means that it does not take the model, and its last line on stderr says why.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from onnxact.check.npy import UNREADABLE, arrays_in, content_of
from onnxact.check.runners.backend import Array, Backend, Refused, Run
from onnxact.errors import ProviderError

_PATIENCE = 600.0
"""Seconds for one run of a model."""
_GREETING = 60.0
"""Seconds for --version."""


def program(name: str) -> Backend:
    """The program at a path. Raises ProviderError where there is none, or it does not answer to --version."""
    found = shutil.which(name)
    if found is None:
        raise ProviderError(f"backend {name}: there is no program at this path that may be run")
    path = str(Path(found).resolve())
    try:
        done = _called([path, "--version"], _GREETING)
    except (OSError, Refused) as error:
        raise ProviderError(f"backend {name} does not start: {error}") from error
    if done.returncode or not done.stdout.strip():
        raise ProviderError(f"backend {name}: --version gave {_ended(done)}; it should print a name and a version")
    first, _, version = done.stdout.strip().splitlines()[0].partition(" ")
    return Backend(first, version, lambda model, _interface: _runner(path, model))


def _runner(path: str, model: Path) -> Run:
    """A run of its own for every set of inputs. The model is kept, as its file may not outlive the loading."""
    content = model.read_bytes()

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with TemporaryDirectory(prefix="onnxact-") as folder:
            places = [Path(folder) / name for name in ("model.onnx", "inputs.npz", "outputs.npz")]
            places[0].write_bytes(content)
            _write(places[1], feeds)
            done = _called([path, *map(str, places)], _PATIENCE)
            if done.returncode:
                raise Refused(_ended(done))
            return _read(places[2])

    return run


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    """np.savez, whose own parameters no input may be named after."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", content_of(array, name))


def _read(path: Path) -> Mapping[str, Array]:
    try:
        with path.open("rb") as stream:
            found = arrays_in(stream)
    except UNREADABLE as error:
        raise Refused(f"it wrote no outputs that can be read: {error}") from error
    if isinstance(found, np.ndarray):
        raise Refused("it wrote a single array, an .npz with the outputs by name is needed")
    return found


def _called(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"it did not end within {seconds:.0f} seconds") from error


def _ended(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "nothing on stderr"
    return f"{said} (exit code {done.returncode})" if done.returncode >= 0 else f"killed by signal {-done.returncode}"
