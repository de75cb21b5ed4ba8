"""Text with names out of a model -> text that a terminal and a page show as it is.

y + line feed + "equivalent" -> y\\nequivalent, on one line        escape [2J -> \\x1b[2J
"""

from __future__ import annotations

import unicodedata

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control, format (direction marks among them) and surrogate characters and line ends."""


def printable(text: str) -> str:
    """Return the text with what would not be seen, or would be done, in its place as an escape of Python's."""
    if text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if unicodedata.category(character) in _ESCAPED else character
