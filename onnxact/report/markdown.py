"""Verdict -> a page in Markdown, for a CI job's summary or a comment on a pull request (GitHub's and GitLab's dialect).

A file that onnxact wrote begins with MARK, which renders as nothing; only such a file is overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from onnxact.report.evidence import Block, blocks, headline

if TYPE_CHECKING:
    from onnxact.check import Verdict

MARK = "<!-- onnxact report -->"
SHOWN = 50
"""How many rows of a table are shown; the rest is counted."""
_SIGNS = {"equivalent": "✅", "different": "❌", "inconclusive": "⚠️"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#+!|~$@&])")


def page(verdict: Verdict, title: str, *, subject: str = "") -> str:
    """The whole page; `title` says what was checked."""
    parts = [MARK, f"## {_SIGNS[verdict.outcome]} {verdict.outcome}: {escaped(title)}", escaped(headline(verdict))]
    parts += [text for block in blocks(verdict, subject=subject, verbose=False) for text in _block(block)]
    return "\n\n".join(parts) + "\n"


def refusal(message: str, title: str, *, mild: bool = False) -> str:
    """The page of a check that was not made; `mild` where that is as it should be."""
    sign = _SIGNS["equivalent" if mild else "different"]
    return f"{MARK}\n\n## {sign} not checked: {escaped(title)}\n\n{escaped(message)}\n"


def escaped(text: str) -> str:
    """Text as it is to be read: on one line, with nothing that Markdown or HTML would take for its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block) -> Iterator[str]:
    if block.title and (block.lines or block.rows):
        yield f"### {escaped(block.title)}"
    if block.lines:
        yield "\n".join(f"- {escaped(line)}" for line in block.lines)
    if block.rows:
        yield _table(block)
        if len(block.rows) > SHOWN:
            yield f"... and {len(block.rows) - SHOWN} more"


def _table(block: Block) -> str:
    filled = [index for index in range(len(block.columns)) if any(row[index] for row in block.rows)]
    head = [block.columns[index] for index in filled]
    rows = ([row[index] for index in filled] for row in block.rows[:SHOWN])
    return "\n".join([_row(head), _row(["---"] * len(filled), plain=True), *map(_row, rows)])


def _row(cells: Sequence[str] | Iterable[str], *, plain: bool = False) -> str:
    return f"| {' | '.join(cell if plain else escaped(cell) for cell in cells)} |"
