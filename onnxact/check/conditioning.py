"""(outputs that differ, the model before) -> inconclusive those that move as far when inputs move by one rounding.

1 / d before and after a scale was folded into the weights behind d: where d is nearly 0, rounding alone moves it far

Inputs that are halves stay, so that what decides by them is told apart. Only inputs that were drawn are moved: those
that were put beside what a condition compares with would turn it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from onnxact.check.compare import NOISE_FACTOR, compare
from onnxact.check.distance import UNIT_ROUNDOFF
from onnxact.check.inputs import Feed
from onnxact.check.pairs import PairEvidence
from onnxact.check.part_feeds import nudged
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import OutputEvidence, Run

_DRAWS = 3
_MOVES = "the unchanged model moves as far when its inputs move by one rounding, so this output cannot tell"


class Moves(NamedTuple):
    """How many elements leave their tolerance, and how far the furthest moves."""

    outside: int = 0
    furthest: float = 0.0


def doubted(before: Subject, provider: str, feeds: Sequence[Feed], part: PairEvidence) -> PairEvidence:
    """The evidence of one provider, with such outputs as inconclusive. Raises ProviderError."""
    doubtful = [item for item in part.outputs if _may_be_rounding(item)]
    wanted = [feed for feed in feeds if any(item.run.inputs == feed.label for item in doubtful)]
    if not wanted:
        return part
    session = open_session(before, provider, optimise=False)
    moved = {feed.label: _moved(session, feed) for feed in wanted} if isinstance(session, Session) else {}
    outputs = (_weighed(item, moved.get(item.run.inputs, {}).get(item.name, Moves())) for item in part.outputs)
    return replace(part, outputs=tuple(outputs))


def _may_be_rounding(item: OutputEvidence) -> bool:
    """Whether numbers are apart, by the tolerances that the caller left to onnxact."""
    if item.outcome != "different" or item.tolerance == "given" or not item.outside:
        return False
    if item.dtype not in UNIT_ROUNDOFF:
        return item.tolerance == "exact"
    ends = (item.worst_before, item.worst_after)
    return item.tolerance == "default" and all(isinstance(end, float) and math.isfinite(end) for end in ends)


def _moved(session: Session, feed: Feed) -> Mapping[str, Moves]:
    """How many elements of every tensor leave the default tolerance, and how far the furthest moves."""
    plain = run_session(session, feed.values)
    found: dict[str, Moves] = {}
    for seed in range(_DRAWS):
        moved = run_session(session, nudged(feed.values, seed=seed, halves=False))
        if isinstance(plain, RunFailure) or isinstance(moved, RunFailure):
            return {}
        run = Run(feed.label, session.provider, optimise=False)
        for name, value in plain.items():
            for item in compare(name, run, value, moved[name], tolerance=Tolerance(), noise={}):
                known = found.get(item.name, Moves())
                found[item.name] = Moves(max(known.outside, item.outside), max(known.furthest, item.max_abs))
    return found


def _weighed(item: OutputEvidence, moves: Moves) -> OutputEvidence:
    several = item.outside <= NOISE_FACTOR * moves.outside
    as_far = item.dtype not in UNIT_ROUNDOFF or item.max_abs <= NOISE_FACTOR * moves.furthest
    if not _may_be_rounding(item) or not several or not as_far:
        return item
    return replace(item, outcome="inconclusive", judged_by="", reason=f"{item.reason}; {_MOVES}")
