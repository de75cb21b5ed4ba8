"""What a check has to look at after a rewrite: (changes) -> probes of their sites, and how strictly to judge."""

from __future__ import annotations

from collections.abc import Iterable

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.check.meaning import channel_axis, kinks, meaning_of
from onnxact.check.site_evidence import SiteProbe
from onnxact.rewrite.draft import Change
from onnxact.rewrite.reference import other_form


def probes(changes: Iterable[Change]) -> tuple[SiteProbe, ...]:
    """Return one probe a change, with what the site means in the model that the rewritten one is compared with.

    After a swap that is a model in which the site has the new activation, in another form.
    """
    return tuple(map(_probe, changes))


def needs_exact(changes: Iterable[Change]) -> bool:
    """Tell whether every change claims to keep the bits, so that a difference is one, however small."""
    return all(change.exact for change in changes)


def _probe(change: Change) -> SiteProbe:
    site = change.site
    was = meaning_of(site.activation, site.form, site.parameters, site.dtype)
    becomes = meaning_of(change.activation, change.form, change.parameters, site.dtype, exact=bool(change.exact))
    before = was if change.exact is not None else meaning_of(*_reference(change), change.parameters, site.dtype)
    axis = channel_axis(becomes)
    scope = site.scope.path
    return SiteProbe(scope, site.node, site.input, site.output, kinks(was, becomes), axis, before, becomes)


def _reference(change: Change) -> tuple[str, str]:
    """The activation after a swap, and the name of the other form that stands in the model it is compared with."""
    forms, written = ACTIVATIONS[change.activation].forms, other_form(change)
    return change.activation, next((name for name, form in forms.items() if form is written), "")
