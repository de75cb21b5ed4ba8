"""array <-> bytes in NumPy's own format, without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from onnxact.errors import UsageError

Array = npt.NDArray[Any]

UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, MemoryError, zipfile.BadZipFile)
"""What NumPy and zipfile raise for broken files."""
_BEGINNINGS = {b"\x93N", b"PK"}
_PICKLE = "it holds Python objects, which are not read; save arrays of numbers or texts"


def content_of(array: Array, name: str) -> bytes:
    """The content of an .npy file; texts become NumPy's own of fixed length.

    Raises UsageError, with `name`, for a text that this format cannot hold.
    """
    plain = array.astype(str) if array.dtype == object else array
    if array.dtype == object and not np.array_equal(plain.astype(object), array):
        raise UsageError(f"input {name} holds a text that ends in a NUL character, which NumPy's format cannot hold")
    content = BytesIO()
    np.lib.format.write_array(content, plain, allow_pickle=False)
    return content.getvalue()


def arrays_in(stream: IO[bytes]) -> Array | dict[str, Any]:
    """The array of an .npy file, or the members of an .npz by name; raises what `UNREADABLE` lists."""
    beginning = stream.read(2)
    stream.seek(0)
    if not beginning:
        raise ValueError("it is empty")
    if beginning not in _BEGINNINGS:
        raise ValueError(_PICKLE if beginning.startswith(b"\x80") else "it is neither .npy nor .npz")
    loaded = np.load(stream, allow_pickle=False)
    return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what is raised inside into a ValueError that begins with `what`, in one line and plain words."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"{what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The reason in one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it is truncated"
    if "pickled" in text or "allow_pickle" in text:
        return _PICKLE
    return text.splitlines()[0]
