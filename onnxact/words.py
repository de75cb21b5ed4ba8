"""Numbers in sentences: counted(1, "node") -> "1 node", counted(2, "node") -> "2 nodes"."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun, whose plural takes an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
