"""What was measured of a model in several forms: of each group of like sites, and of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onnxact.check.timing import Pace
from onnxact.rewrite.target.contest import Group, Place, Wish


@dataclass(frozen=True)
class Standing:
    """What was found of one group. `form`: what it takes, empty where it stays; `reason`: why.

    `alone`: it was timed as one site with its neighbours, else in the whole model. `screened`: form -> its pace in the
    first rounds; `best`: the one that won these, `pace`: how it did then. `noise`: the same model against itself.
    """

    group: Group
    form: str = ""
    reason: str = ""
    alone: bool = False
    screened: Mapping[str, Pace] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    best: str = ""
    pace: Pace | None = None
    noise: Pace | None = None

    @property
    def may_be_faster(self) -> bool:
        """Whether the best form is not shown to be slower."""
        return self.pace is not None and self.pace.high > 1

    @property
    def seems_faster(self) -> bool:
        """Whether the median says that a form is faster, be it not sure."""
        return self.pace is not None and self.noise is not None and self.pace.ratio > 1 + self.noise.offset

    @property
    def taken(self) -> Standing:
        """The standing in which the best form is taken."""
        return replace(self, form=self.best)

    def describe(self) -> dict[str, Any]:
        """Return plain data."""
        key = self.group.key
        return {
            "activation": key.activation,
            "before": key.form,
            "after": self.form or key.form,
            "dtype": key.dtype,
            "shape": None if key.shape is None else list(key.shape),
            "behind": key.behind or None,
            "sites": [{"scope": site.scope.path, "node": site.node} for site in self.group.sites],
            "reason": self.reason or None,
            "timed": ("one site with its neighbours" if self.alone else "the whole model") if key.forms else None,
            "best": self.best or None,
            "pace": None if self.pace is None else self.pace.describe(),
            "noise": None if self.noise is None else self.noise.describe(),
            "screened": {form: pace.describe() for form, pace in self.screened.items()},
            "failed": dict(self.failed),
        }


@dataclass(frozen=True)
class Timing:
    """What was measured, where and how.

    `whole`: the whole model against what all that won makes of it, `noise`: against itself; None where nothing won.
    """

    provider: str
    threads: str
    shapes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    groups: tuple[Standing, ...] = ()
    whole: Pace | None = None
    noise: Pace | None = None

    @property
    def faster(self) -> bool:
        """Whether anything is gained."""
        return any(standing.form for standing in self.groups)

    def describe(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "provider": self.provider,
            "threads": self.threads,
            "inputs": {name: list(shape) for name, shape in self.shapes.items()},
            "notes": list(self.notes),
            "noise": None if self.noise is None else self.noise.describe(),
            "whole": None if self.whole is None else self.whole.describe(),
            "faster": self.faster,
            "groups": [standing.describe() for standing in self.groups],
        }


def wishes_of(standings: Iterable[Standing]) -> dict[Place, Wish]:
    """Return what becomes of every site, with the reason."""
    found: dict[Place, Wish] = {}
    for standing in standings:
        found.update(standing.group.wishes(standing.form, standing.reason))
    return found


def shape_text(group: Group) -> str:
    """Return the shape of a group's sites as a text; empty where it is not known."""
    shape = group.key.shape
    return "" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def shown(pace: Pace) -> str:
    """Return a ratio with its bounds."""
    return f"{pace.ratio:.3f} x ({pace.low:.3f} to {pace.high:.3f})"
