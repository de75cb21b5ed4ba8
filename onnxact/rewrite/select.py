"""Which sites a verb works on: by activation, and by regular expressions over node and scope names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxact.activation.forms import alias_parameters, find_activation
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.arguments import texts
from onnxact.errors import UsageError
from onnxact.rewrite.site import Site, known


@dataclass(frozen=True)
class Selection:
    """`include`, `exclude`: regular expressions, searched in node and scope names; `activations`: none means all.

    Each is a text or several.
    """

    include: str | Iterable[str] = ()
    exclude: str | Iterable[str] = ()
    activations: str | Iterable[str] = ()

    def __post_init__(self) -> None:
        for field in ("include", "exclude", "activations"):
            object.__setattr__(self, field, texts(field, getattr(self, field)))
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
        return self.takes_all or (self._names(site) and self.reaches(site.node, site.scope.path))

    def _names(self, site: Site) -> bool:
        """Tell whether the activations, where there are any, are this one: quick-gelu is swish with its own beta."""
        if not self.wants(site.activation):
            return False
        named = [name for name in self.activations if find_activation(name).name == site.activation]
        return not named or any(has_parameters(site, alias_parameters(name)) for name in named)

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


def has_parameters(site: Site, wanted: Mapping[str, float]) -> bool:
    """Tell whether a site has these parameters, in its own dtype."""
    bound = known(site.parameters) if wanted else {}
    dtype = FLOATS[site.dtype or "float32"]
    return bound is not None and all(
        name in bound and np.all(rounded(bound[name], dtype) == rounded(value, dtype)) for name, value in wanted.items()
    )


def _check(option: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise UsageError(f"{option} {expression!r}: is not a regular expression: {error}") from error


def _found(expression: str, places: tuple[str, str]) -> bool:
    return any(re.search(expression, place) for place in places if place)


EVERYTHING = Selection()
