"""A name -> a target: a file of onnxact/targets, a file of one's own, or the kernels of the installed ONNX Runtime.

tract, opencv-dnn  ->  onnxact/targets/*.toml        ./mine.toml  ->  that file        ort:cpu  ->  kernels
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from onnxact.arguments import text
from onnxact.errors import UsageError
from onnxact.rewrite.target.reading import read
from onnxact.rewrite.target.rules import Target

FOLDER = Path(__file__).parents[2] / "targets"
KERNELS = "ort:"


def names() -> list[str]:
    """Return the names of the targets that come with onnxact."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_target(name: str) -> Target:
    """Return the target called `name`, in any spelling (opencv-dnn, opencv_dnn), or of the file at that path.

    Raises UsageError for an unknown name, ModelError for a file that is none, MissingPackageError and ProviderError
    for `ort:` without the package or the provider.
    """
    if text("target", name).lower().startswith(KERNELS):
        from onnxact.rewrite.target.kernels import target_of

        return target_of(name[len(KERNELS) :])
    if name.endswith(".toml"):
        return read(Path(name))
    return _shipped(_known(name))


def _known(name: str) -> str:
    plain = name.strip().lower().replace("_", "-")
    if plain in names():
        return plain
    near = [one for one in names() if len(plain) > 2 and plain in one]
    near = near or difflib.get_close_matches(plain, names(), n=3, cutoff=0.5)
    meant = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    raise UsageError(
        f"unknown target {name!r}{meant}; `onnxact targets` lists them; a file of your own ends in .toml, and ort:cpu "
        "is what the installed ONNX Runtime has"
    )


@cache
def _shipped(name: str) -> Target:
    return read(FOLDER / f"{name}.toml", name)
