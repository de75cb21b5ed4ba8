"""Verdict -> the report for people as plain text, for a log, an assertion's message or a JUnit file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxact.check import Verdict


def plain_text(verdict: Verdict, *, subject: str = "", verbose: bool = False, width: int = 160) -> str:
    """What a terminal of `width` columns without colours shows."""
    from rich.console import Console

    from onnxact.report import text

    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, force_terminal=False)
    text.show(console, text.verdict(verdict, verbose=verbose, subject=subject))
    return stream.getvalue()
