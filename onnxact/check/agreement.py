"""(before, after, values) -> whether the same values hold in both models, on every set of inputs.

x before [1.0, 2.0], x after [1.0, 2.0000001]  ->  agree, by the default tolerance of outputs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxact.check.compare import compare
from onnxact.check.inputs import Feed
from onnxact.check.observe import chunks
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run

Names = tuple[str, str]
"""The name of a main-graph value before and after."""
Side = tuple[Session, Sequence[str]]
"""A session with the values that it gives besides."""


def agreeing(
    models: tuple[Subject, Subject],
    values: Sequence[Names],
    feeds: Sequence[Feed],
    *,
    provider: str,
    memory_budget: int,
) -> dict[Names, bool]:
    """Tell for each pair of values whether they agree throughout, with optimisation off; what does not run does not.

    The values of both models that are held at a time take at most `memory_budget` bytes.
    """
    before, after = models
    found = dict.fromkeys(values, False)
    groups = {pair: pair[:1] for pair in values}
    for chunk in chunks(before, groups, feeds[0], provider=provider, memory_budget=memory_budget // 2):
        if isinstance(chunk.session, Session):
            names = tuple(dict.fromkeys(pair[1] for pair in chunk.keys))
            other = open_session(after, provider, optimise=False, extra_outputs=names)
            if isinstance(other, Session):
                sides = (chunk.session, chunk.names), (other, names)
                found.update(_compared(sides, chunk.keys, feeds))
    return found


def _compared(sides: tuple[Side, Side], pairs: Sequence[Names], feeds: Sequence[Feed]) -> dict[Names, bool]:
    found = dict.fromkeys(pairs, True)
    for feed in feeds:
        first, second = (run_session(session, feed.values, names) for session, names in sides)
        if isinstance(first, RunFailure) or isinstance(second, RunFailure):
            return dict.fromkeys(pairs, False)
        run = Run(feed.label, sides[0][0].provider, optimise=False)
        found = {pair: agree and _agree(pair, run, first, second) for pair, agree in found.items()}
    return found


def _agree(pair: Names, run: Run, before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    items = compare(pair[0], run, before[pair[0]], after[pair[1]], tolerance=Tolerance(), noise={})
    return all(item.outcome == "equivalent" for item in items)
