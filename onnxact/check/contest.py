"""groups of like sites, and the forms that they could have -> which one is fastest for each, timed in its place.

    every group:  a site with its neighbours, as it is  against  the same, again  against  the same in each rival form
    what they won, all of it:                the whole model  against  itself, again  against  the whole model rewritten

A form is faster for sure where its bounds (see `timing`) are above 1 by more than the same model is from itself in a
second session, which is the noise. In the whole model three sets are tried: the groups that are faster for sure, those
that seem so as well, and those that are not shown to be slower. The set that gains most is taken, if the whole is
faster by more than the noise; if none is, nothing changes. What cannot be cut out of the model is timed in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from onnx import ModelProto

from onnxact.check.excerpt import Excerpt, excerpt
from onnxact.check.loading import UnloadableError
from onnxact.check.standings import Standing, Timing, shape_text, shown, wishes_of
from onnxact.check.timing import Effort, Pace, Runner, Stopwatch
from onnxact.check.track import Track
from onnxact.model.view import View
from onnxact.rewrite.target.contest import Group, Place, Wish

SCREENING, DECIDING, WHOLE = Effort(9, 2.0), Effort(101, 4.0), Effort(51, 60.0)
"""Of all rivals of a group; of the best of them, in sessions of its own; of the whole model."""
MEMORY = 1 << 30
"""Bytes that sessions may take together; one is taken to hold its weights twice, as it packs them."""
COPIES = 2
AGAIN = "again"
Rewriter = Callable[[ModelProto | None, Mapping[Place, Wish]], ModelProto]
"""(an excerpt, or None for the whole model; what is wished for) -> a copy with that, and with what the target needs."""


class Raced(NamedTuple):
    """A race: of each form, and of the first model in a second session, which is the noise."""

    paces: dict[str, Pace]
    noise: Pace

    def is_faster(self, form: str) -> bool:
        """Tell whether a form is faster by more than the noise."""
        return self.paces[form].low > 1 + self.noise.offset


class Ground(NamedTuple):
    """What a group is timed on: an excerpt, or None for the whole model; `places` are those of its sites there."""

    part: Excerpt | None
    places: tuple[Place, ...]

    def wishes(self, form: str) -> dict[Place, Wish]:
        """Return the wish that all take a form; none for the form that stands there."""
        return dict.fromkeys(self.places, Wish(form)) if form else {}


class Contest:
    """The races of one model, of which `sized` declares every shape."""

    def __init__(
        self,
        rewriter: Rewriter,
        track: Track,
        sized: View,
        stopwatch: Stopwatch,
        report: Callable[[str, float], None],
    ) -> None:
        self.rewriter = rewriter
        self.track = track
        self.sized = sized
        self.stopwatch = stopwatch
        self.report = report

    def decide(self, found: list[Group], timing: Timing) -> Timing:
        """Return the measurements, with what wins."""
        standings: list[Standing] = []
        tried = sum(bool(group.key.forms) for group in found)
        for group in found:
            done = sum(bool(one.group.key.forms) for one in standings)
            self.report(f"timing {_name(group)}, {done + 1} of {tried}", 0.05 + 0.75 * done / tried)
            standings.append(self._standing(group) if group.key.forms else Standing(group, reason=group.reason))
        trials = _trials(standings)
        if not trials:
            return replace(timing, groups=tuple(standings))
        self.report("timing the whole model", 0.8)
        return self._verified(timing, standings, trials)

    def _verified(self, timing: Timing, standings: list[Standing], trials: list[frozenset[int]]) -> Timing:
        """Return the measurements, with what the whole model gains most from, if that is more than the noise."""
        wishes = {
            str(number): wishes_of(standings[index].taken for index in trial) for number, trial in enumerate(trials)
        }
        raced = self._whole(wishes)
        held = [name for name in wishes if raced.is_faster(name)]
        best = max(held or wishes, key=lambda name: raced.paces[name].ratio)
        whole = raced.paces[best]
        kept = trials[int(best)] if held else frozenset()
        made = tuple(_concluded(one, whole, taken=index in kept) for index, one in enumerate(standings))
        return replace(timing, groups=made, whole=whole, noise=raced.noise)

    def _whole(self, trials: Mapping[str, Mapping[Place, Wish]]) -> Raced:
        """Race the whole model as it is against itself and against what it could become."""
        first, again = (self.track.runner(self.rewriter(None, {})) for _ in range(2))
        paces: dict[str, Pace] = {}
        for names in _chunks(tuple(trials), self._at_once):
            others = {name: self.track.runner(self.rewriter(None, trials[name])) for name in names}
            paces.update(self.stopwatch.race(first, {AGAIN: again, **others}, WHOLE))
        return Raced(paces, paces.pop(AGAIN))

    @property
    def _at_once(self) -> int:
        """How many sessions of the whole model there may be beside the two of it as it is."""
        return max(1, MEMORY // max(1, COPIES * self.track.weight_bytes) - 2)

    def _standing(self, group: Group) -> Standing:
        """Return which form a group takes: the best of the first rounds, if it is faster in sessions of its own."""
        ground = self._ground(group)
        failed: dict[str, str] = {}
        raced = self._race(ground, group.key.forms, SCREENING, failed)
        standing = Standing(group, alone=ground.part is not None, screened=raced.paces, failed=failed)
        best = _best(raced)
        if not best:
            said = _ratios(raced.paces, failed)
            return replace(standing, noise=raced.noise, reason=f"no other form is faster here: {said}")
        raced = self._race(ground, (best,), DECIDING, failed)
        standing = replace(standing, best=best, pace=raced.paces[best], noise=raced.noise)
        return replace(standing, form=best) if raced.is_faster(best) else standing

    def _ground(self, group: Group) -> Ground:
        """Return an excerpt that runs and in which the site can be rewritten, else the whole model."""
        part = excerpt(group.sites[0], self.sized)
        if part is not None and self._serves(part, group.key.forms[0]):
            return Ground(part, (part.place,))
        return Ground(None, group.places)

    def _serves(self, part: Excerpt, form: str) -> bool:
        ground = Ground(part, (part.place,))
        before, after = (self.rewriter(part.model, ground.wishes(one)) for one in ("", form))
        if before == after:
            return False
        try:
            self._runner(ground, "")()
        except UnloadableError:
            return False
        return True

    def _race(self, ground: Ground, forms: tuple[str, ...], effort: Effort, failed: dict[str, str]) -> Raced:
        """Race the forms against what stands there, as many at a time as there is memory for sessions."""
        first, again = self._runner(ground, ""), self._runner(ground, "")
        paces: dict[str, Pace] = {}
        for some in _chunks(forms, self._at_once if ground.part is None else len(forms)):
            runners = dict(self._runners(ground, some, failed))
            paces.update(self.stopwatch.race(first, {AGAIN: again, **runners}, effort))
        return Raced(paces, paces.pop(AGAIN))

    def _runners(self, ground: Ground, forms: tuple[str, ...], failed: dict[str, str]) -> Iterator[tuple[str, Runner]]:
        """Yield what runs each form; why one does not load goes to `failed`."""
        for form in forms:
            runner = self._runner_or_why(ground, form)
            if isinstance(runner, str):
                failed[form] = runner
            else:
                yield form, runner

    def _runner_or_why(self, ground: Ground, form: str) -> Runner | str:
        try:
            return self._runner(ground, form)
        except UnloadableError as error:
            return str(error)

    def _runner(self, ground: Ground, form: str) -> Runner:
        part = ground.part
        model = self.rewriter(None if part is None else part.model, ground.wishes(form))
        return self.track.runner(model, None if part is None else part.inputs)


def _chunks(names: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    yield from (names[start : start + size] for start in range(0, len(names), size))


def _trials(standings: list[Standing]) -> list[frozenset[int]]:
    """Return what is tried in the whole: the groups that are faster for sure, those that seem so, those that may be."""
    sets = (
        frozenset(index for index, one in enumerate(standings) if one.form),
        frozenset(index for index, one in enumerate(standings) if one.form or one.seems_faster),
        frozenset(index for index, one in enumerate(standings) if one.form or one.may_be_faster),
    )
    return [trial for trial in dict.fromkeys(sets) if trial]


def _best(raced: Raced) -> str:
    """Return the simplest form that is not shown to be slower than another, or than what stands there; empty for none.

    Which of several such is the fastest the rounds do not tell.
    """
    highest = max((1.0, *(pace.ratio for pace in raced.paces.values())))
    return next((form for form, pace in raced.paces.items() if pace.high >= highest), "")


def _concluded(standing: Standing, whole: Pace, *, taken: bool) -> Standing:
    """Return a standing with what becomes of it after all, and why."""
    pace = standing.pace
    if pace is None:
        return standing
    if taken:
        beside = "" if standing.form else ", and the whole model faster with it"
        return replace(standing, form=standing.best, reason=f"{standing.best} is {shown(pace)} as fast here{beside}")
    if standing.form:
        reason = f"{standing.form} is faster here, but the whole model is not, by more than the noise: {shown(whole)}"
        return replace(standing, form="", reason=reason)
    return replace(standing, reason=f"{standing.best} is not faster by more than the noise: {shown(pace)}")


def _name(group: Group) -> str:
    return f"{group.key.activation.replace('_', '-')} {shape_text(group)}".strip()


def _ratios(paces: Mapping[str, Pace], failed: Mapping[str, str]) -> str:
    parts = [f"{form} {pace.ratio:.3f} x" for form, pace in paces.items()]
    return ", ".join([*parts, *(f"{form} does not run" for form in failed)])
