"""Which sites a verb works on: by activation, and by regular expressions over node and scope names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxact.activation.forms import find_activation
from onnxact.errors import UsageError
from onnxact.rewrite.site import Site


@dataclass(frozen=True)
class Selection:
    """`include`, `exclude`: regular expressions, searched in node and scope names; `activations`: none means all."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    activations: Sequence[str] = ()

    def __post_init__(self) -> None:
        for option, expressions in (("--include", self.include), ("--exclude", self.exclude)):
            for expression in expressions:
                _check(option, expression)
        for name in self.activations:
            find_activation(name)

    @property
    def names(self) -> frozenset[str]:
        """The activations as the table calls them."""
        return frozenset(find_activation(name).name for name in self.activations)

    def takes(self, site: Site) -> bool:
        """Tell whether the verb is asked to work on this site."""
        return self.takes_all or (self.wants(site.activation) and self.reaches(site.node, site.scope.path))

    @cached_property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.activations or self.include or self.exclude)

    def wants(self, activation: str) -> bool:
        """Tell whether the verb is asked to work on this activation."""
        return not self.activations or activation in self.names

    def reaches(self, node: str, scope: str) -> bool:
        """Tell whether the verb is asked to work on a node of this name in this scope."""
        if not (self.include or self.exclude):
            return True
        places = (node, scope)
        if self.include and not any(_found(expression, places) for expression in self.include):
            return False
        return not any(_found(expression, places) for expression in self.exclude)


def _check(option: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise UsageError(f"{option} {expression!r}: is not a regular expression: {error}") from error


def _found(expression: str, places: tuple[str, str]) -> bool:
    return any(re.search(expression, place) for place in places if place)


EVERYTHING = Selection()
