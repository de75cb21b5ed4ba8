"""Sets of inputs <-> files: .npz, a folder of .npy files, Polygraphy's JSON. What is saved is read back bit for bit.

x.npy, mask.npy -> {"x": ..., "mask": ...}; several sets lie in folders 0, 1, ..., or one after the other in a .json.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check import polygraphy
from onnxact.check.inputs import Feed
from onnxact.check.npy import UNREADABLE, arrays_in, content_of, reading, reason
from onnxact.errors import FileConflictError, ModelError, UsageError
from onnxact.model import atomic

Array = npt.NDArray[Any]

MANIFEST = "onnxact-inputs"
"""The member of an .npz, or the file in a folder (with .json), that lists the sets; it marks what onnxact wrote."""


def load_inputs(path: str | os.PathLike[str]) -> tuple[Feed, ...]:
    """The sets of inputs in an .npz, in Polygraphy's .json, or in a folder of .npy files, whose stems are the names.

    Raises ModelError: nothing there, nothing in it, broken, or Python objects in it, which are never unpickled.
    """
    source = Path(path)
    try:
        feeds = tuple(_sets(source))
    except (*UNREADABLE, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{source}: cannot be read as inputs: {reason(error)}") from error
    if not any(feed.values for feed in feeds):
        raise ModelError(
            f"{source}: holds no arrays; an .npz, a folder of .npy files or Polygraphy's .json is expected"
        )
    labels = (feed.label or _label(number, len(feeds)) for number, feed in enumerate(feeds))
    return tuple(Feed(label, feed.values, origin=str(source)) for label, feed in zip(labels, feeds, strict=True))


def save_inputs(path: str | os.PathLike[str], feeds: Sequence[Feed]) -> None:
    """Write `feeds` to an .npz, a .json that Polygraphy reads too, or (without a suffix) a folder of .npy files.

    Each file is written whole or not at all; what onnxact wrote there before is replaced. Raises what
    demand_place_for_inputs raises, UsageError for a value that the format cannot hold, ModelError where it cannot be
    written.
    """
    target = Path(path)
    demand_place_for_inputs(target)
    try:
        atomic.write_all({place: atomic.put(content) for place, content in _files(target, feeds).items()})
    except OSError as error:
        raise ModelError(f"{target}: cannot be written: {reason(error)}") from error


def demand_place_for_inputs(path: str | os.PathLike[str]) -> None:
    """Raise FileConflictError for a place where something lies that onnxact did not write, UsageError for a format."""
    target = Path(path)
    if target.suffix not in {".npz", ".json", ""}:
        raise UsageError(f"{target}: inputs are saved as .npz, as .json, or without a suffix as a folder of .npy files")
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # raises for names that no file can have
        if not target.parent.is_dir():
            raise FileConflictError(f"{target}: the folder {target.parent} does not exist; make it first")
        if _is_taken(target):
            raise FileConflictError(f"{target}: exists and is not what onnxact saved; delete it or name another place")
    except (OSError, ValueError) as error:
        raise FileConflictError(f"{target}: cannot be written: {reason(error)}") from error


# Reading


def _sets(path: Path) -> Iterator[Feed]:
    if path.is_dir():
        return _folder_sets(path)
    if path.exists() and not path.is_file():
        raise ValueError("it is a pipe or device")
    return _record_sets(path) if path.suffix == ".json" else _archive_sets(path)


def _archive_sets(path: Path) -> Iterator[Feed]:
    with path.open("rb") as stream:
        arrays = arrays_in(stream)
    if isinstance(arrays, np.ndarray):
        raise ValueError("it holds one array without a name; put it into an .npz, or into a folder as NAME.npy")
    strays = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strays:
        raise ValueError(f"its member {strays[0]!r} is not an array")
    manifest = arrays.pop(MANIFEST, None)
    if manifest is None:
        yield Feed("", arrays)
        return
    for entry in json.loads(str(manifest)):
        yield Feed(entry["label"], {name: _placed(place, arrays) for name, place in entry["inputs"].items()})


def _placed(place: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(place, list):
        return [_placed(item, arrays) for item in place]
    if place is not None and place not in arrays:
        raise ValueError(f"it lists an array {place!r} that it lacks")
    return None if place is None else arrays[place]


def _record_sets(path: Path) -> Iterator[Feed]:
    return polygraphy.feeds(json.loads(path.read_text(encoding="utf-8")))


def _folder_sets(path: Path) -> Iterator[Feed]:
    """What onnxact's own list names; else the .npy files, else those of each folder inside, else the .json files."""
    if _manifest_of(path).is_file():
        entries = json.loads(_manifest_of(path).read_text(encoding="utf-8"))
        for number, entry in enumerate(entries):
            folder = _set_folder(path, number, len(entries))
            yield Feed(entry["label"], _named_arrays([folder / f"{name}.npy" for name in entry["inputs"]]))
        return
    inside = sorted((item for item in path.iterdir() if item.is_dir()), key=_in_order)
    folders = [path] if any(path.glob("*.npy")) else [folder for folder in inside if any(folder.glob("*.npy"))]
    yield from (Feed("", _named_arrays(sorted(folder.glob("*.npy")))) for folder in folders)
    for record in sorted(path.glob("*.json")) if not folders else ():
        with reading(record.name):
            yield from list(_record_sets(record))


def _named_arrays(files: Sequence[Path]) -> dict[str, Array]:
    return {file.stem: _array(file) for file in files}


def _array(file: Path) -> Array:
    with reading(file.name), file.open("rb") as stream:
        array = arrays_in(stream)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an .npz; give that file itself")
        return array


def _in_order(folder: Path) -> tuple[int, str]:
    """By number, so that 10 comes after 9."""
    return (int(folder.name) if folder.name.isdecimal() else 0, folder.name)


def _label(number: int, count: int) -> str:
    return "given inputs" if count == 1 else f"given inputs {number + 1}"


# Writing


def _files(path: Path, feeds: Sequence[Feed]) -> dict[Path, bytes]:
    if path.suffix == ".npz":
        return {path: _archive(feeds)}
    if path.suffix == ".json":
        return {path: polygraphy.text(feeds).encode()}
    return _folder(path, feeds)


def _archive(feeds: Sequence[Feed]) -> bytes:
    arrays: dict[str, Array] = {}
    manifest = [
        {"label": feed.label, "inputs": {name: _put(v, f"{number}/{name}", arrays) for name, v in feed.values.items()}}
        for number, feed in enumerate(feeds)
    ]
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for key, array in {MANIFEST: np.array(json.dumps(manifest)), **arrays}.items():
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), content_of(array, key))
    return content.getvalue()


def _put(value: Any, key: str, arrays: dict[str, Array]) -> Any:
    """Store a value under `key`, a list item by item; return where it lies."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_put(item, f"{key}/{number}", arrays) for number, item in enumerate(value)]
    while key in arrays:
        key += "'"
    arrays[key] = np.asarray(value)
    return key


def _folder(path: Path, feeds: Sequence[Feed]) -> dict[Path, bytes]:
    manifest = [{"label": feed.label, "inputs": sorted(feed.values)} for feed in feeds]
    files = {_manifest_of(path): json.dumps(manifest, indent=1).encode()}
    for number, feed in enumerate(feeds):
        folder = _set_folder(path, number, len(feeds))
        for name, value in feed.values.items():
            stem = _as_stem(name, value)
            files[folder / f"{stem}.npy"] = content_of(value, name)
    return files


def _set_folder(path: Path, number: int, count: int) -> Path:
    return path if count == 1 else path / str(number)


def _as_stem(name: str, value: Any) -> str:
    if not isinstance(value, np.ndarray):
        raise UsageError(f"input {name} is a sequence or empty, which a folder of .npy files cannot hold; save an .npz")
    if not name or any(character in name for character in '/\\:\0<>"|?*') or name.startswith("."):
        raise UsageError(f"input {name!r} cannot be the name of a file; save an .npz or .json")
    return name


def _is_taken(path: Path) -> bool:
    """Whether something lies at `path` that onnxact did not save there."""
    if path.is_dir():
        return not _manifest_of(path).is_file() and any(path.iterdir())
    return (path.exists() or path.is_symlink()) and not _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether a file is empty, or what onnxact saved."""
    if not path.is_file() or not path.suffix or path.stat().st_size == 0:
        return path.is_file() and bool(path.suffix)
    if path.suffix == ".json":
        return polygraphy.is_ours(path)
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return f"{MANIFEST}.npy" in archive.namelist()


def _manifest_of(folder: Path) -> Path:
    return folder / f"{MANIFEST}.json"
