"""Fresh names, unique over all scopes of a model."""

from __future__ import annotations

from onnxact.model.view import View


class Names:
    """Hands out names that nothing in the model bears, the same ones for the same requests in the same order."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._taken: set[str] | None = None
        self._next: dict[str, int] = {}

    def fresh(self, wish: str) -> str:
        """Return `wish`, or `wish_2`, `wish_3`, ... where it is taken."""
        taken = self._taken
        if taken is None:
            taken = self._taken = set(self._view.names)
        name = wish
        if name in taken:
            number = self._next.get(wish, 1)
            while name in taken:
                number += 1
                name = f"{wish}_{number}"
            self._next[wish] = number
        taken.add(name)
        return name
