"""Fresh names, unique over all scopes of a model."""

from __future__ import annotations

from collections.abc import Iterable

from onnxact.model.view import View


class Names:
    """Hands out names that nothing in the model bears, the same ones for the same requests in the same order."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._taken: set[str] | None = None
        self._next: dict[str, int] = {}

    def fresh(self, wish: str) -> str:
        """Return `wish`, or `wish_2`, `wish_3`, ... where it is taken."""
        return self.fresh_all(wish, ("",))[0]

    def fresh_all(self, stem: str, endings: Iterable[str]) -> list[str]:
        """Return one fresh name, `stem + ending` where that is free, for each ending."""
        if self._taken is None:
            self._taken = self._view.names()
        taken, found = self._taken, []
        for ending in endings:
            name = stem + ending
            if name in taken:
                name = self._numbered(name, taken)
            taken.add(name)
            found.append(name)
        return found

    def _numbered(self, wish: str, taken: set[str]) -> str:
        number = self._next.get(wish, 1)
        name = wish
        while name in taken:
            number += 1
            name = f"{wish}_{number}"
        self._next[wish] = number
        return name
