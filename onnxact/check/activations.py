"""(model, value) -> which activation computes it, in words: "leaky_relu(alpha=0.2) as mul-max"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onnxact.check.subject import Subject
from onnxact.model.view import View
from onnxact.rewrite.find import find
from onnxact.rewrite.recorded import recorded_sites
from onnxact.rewrite.site import Site, plain


@dataclass(frozen=True)
class Activations:
    """The sites of a model, found when they are first asked for."""

    subject: Subject

    @cached_property
    def sites(self) -> Mapping[tuple[str, str], Site]:
        """(scope path, output value) -> site. What a rewrite recorded goes before what is recognised."""
        view = View(self.subject.model, self.subject.folder)
        found = {(site.scope.path, site.output): site for site in find(view).sites}
        found.update(((site.scope.path, site.output), site) for site in recorded_sites(view).values())
        return found

    def at(self, output: str, scope: str = "") -> Site | None:
        """The site that makes a value, or of which it is a step; None where there is none."""
        exact = self.sites.get((scope, output))
        if exact is not None:
            return exact
        inside = (site for (path, _), site in self.sites.items() if path == scope and output in _steps(site))
        return next(inside, None)


def in_words(site: Site | None) -> str:
    """An activation with its parameters and form; "" for None."""
    if site is None:
        return ""
    values = {name: plain(value) for name, value in site.parameters.items()}
    text = ", ".join(f"{name}={_text(value)}" for name, value in values.items())
    name = f"{site.activation}({text})" if text else site.activation
    return name if site.form == "op" else f"{name} as {site.form}"


def _steps(site: Site) -> set[str]:
    return {name for index in site.nodes for name in site.scope.nodes[index].output}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict) and "shape" in value:
        return f"{value['shape']} from {value['min']:.9g} to {value['max']:.9g}"
    return str(value)
