"""Files written whole or not at all: under a temporary name in the same folder, synced, then renamed.

Copies go from file to file inside the kernel (copy_file_range, a reflink where the file system has them).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO

Writer = Callable[[IO[bytes]], None]
"""Fills an open file."""


def put(content: bytes) -> Writer:
    """Return what writes these bytes."""
    return partial(_put, content)


def _put(content: bytes, stream: IO[bytes]) -> None:
    stream.write(content)


def copied(source: Path) -> Writer:
    """Return what copies this file."""
    return partial(_copy, source)


def write_all(writers: Mapping[Path, Writer]) -> None:
    """Write every file under a temporary name, then rename them all: where one cannot be written, none changes."""
    staged: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for path, write in writers.items():
            made += _make_folder(path.parent)
            staged[path] = _stage(path, write)
        for path, temporary in staged.items():
            temporary.replace(path)
    except BaseException:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        raise
    for folder in dict.fromkeys(path.parent for path in staged):
        _sync_folder(folder)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; return them, outermost first."""
    missing = [*reversed([parent for parent in (folder, *folder.parents) if not parent.exists()])]
    for parent in missing:
        parent.mkdir()
    return missing


def _stage(path: Path, write: Writer) -> Path:
    """Write a temporary file in the folder of `path`, with its permissions, and bring it to the disk."""
    descriptor, name = tempfile.mkstemp(prefix=".onnxact-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, stream: IO[bytes]) -> None:
    """Copy a file without bringing its content into this process; holes of a sparse file stay holes."""
    with source.open("rb") as origin:
        size = os.fstat(origin.fileno()).st_size
        if not hasattr(os, "copy_file_range"):
            shutil.copyfileobj(origin, stream)
            return
        stream.truncate(size)
        position = 0
        while position < size:
            start, end = _next_data(origin.fileno(), position, size)
            position = start
            while position < end:
                position += _copy_range(origin.fileno(), stream.fileno(), position, end - position)


def _next_data(descriptor: int, position: int, size: int) -> tuple[int, int]:
    """Return the next stretch of a file that is not a hole."""
    try:
        start = os.lseek(descriptor, position, os.SEEK_DATA)
        return start, os.lseek(descriptor, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return position, size


def _copy_range(source: int, target: int, position: int, count: int) -> int:
    count = min(count, 2**30)
    try:
        copied = os.copy_file_range(source, target, count, position, position)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
        os.lseek(target, position, os.SEEK_SET)
        copied = os.sendfile(target, source, position, count)
    if copied == 0:
        raise OSError(errno.EIO, "the external data changed while it was copied")
    return copied
