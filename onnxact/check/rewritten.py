"""What a check has to look at after a rewrite: (changes) -> probes of their sites, and how strictly to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onnxact.check.meaning import channel_axis, kinks, meaning_of
from onnxact.check.site_evidence import SiteProbe
from onnxact.rewrite.draft import Change
from onnxact.rewrite.reference import Other, best_other


def probes(changes: Iterable[Change], choose: Callable[[Change], Other | None] = best_other) -> tuple[SiteProbe, ...]:
    """Return one probe a change, with what the site means in the model that the rewritten one is compared with.

    After a swap that is a model in which the site has the new activation, in the other form that `choose` gives.
    """
    return tuple(_probe(change, choose) for change in changes)


def needs_exact(changes: Iterable[Change]) -> bool:
    """Tell whether every change claims to keep the bits, so that a difference is one, however small."""
    return all(change.exact for change in changes)


def _probe(change: Change, choose: Callable[[Change], Other | None]) -> SiteProbe:
    site = change.site
    was = meaning_of(site.activation, site.form, site.parameters, site.dtype)
    becomes = meaning_of(change.activation, change.form, change.parameters, site.dtype, exact=bool(change.exact))
    before = was
    if change.exact is None:
        other = choose(change)
        before = meaning_of(change.activation, other.name if other else "", change.parameters, site.dtype)
    axis = channel_axis(becomes)
    scope = site.scope.path
    return SiteProbe(scope, site.node, site.input, site.output, kinks(was, becomes), axis, before, becomes)
