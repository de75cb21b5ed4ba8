"""Python's cyclic garbage collector, held off while a rewrite makes many small objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Hold cyclic garbage collection off, and leave it as it was.

    A plan for 50,000 sites is some 300,000 tuples, none in a cycle. Walking all of them again and again, as the
    collector does while their number grows, takes as long as making them (measured: benchmarks/).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
