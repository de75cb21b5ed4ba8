"""What takes long -> a bar on stderr, where that is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from onnxact.cli.options import Display
from onnxact.cli.output import console

_PATIENCE = 1.0
"""Seconds after which what takes long shows its progress."""


@contextmanager
def progressing(display: Display, *, left: bool = False) -> Iterator[Callable[[str, float], None] | None]:
    """Yield a callback that shows progress on stderr once things take longer than a second.

    left: show the share done and the time left, which even work allows; else the time that has passed.
    """
    stderr = console(stderr=True)
    if display.quiet or not stderr.is_terminal:
        yield None
        return
    from rich import progress as rich

    ends = (rich.TaskProgressColumn(), rich.TimeRemainingColumn()) if left else (rich.TimeElapsedColumn(),)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), *ends)
    bar = rich.Progress(*columns, console=stderr, transient=True)
    task = bar.add_task("working", total=1.0)
    started = time.monotonic()

    def advance(what: str, done: float) -> None:
        if time.monotonic() - started > _PATIENCE and not bar.live.is_started:
            bar.start()
        bar.update(task, description=what, completed=done)

    try:
        yield advance
    finally:
        bar.stop()
