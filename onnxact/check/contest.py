"""groups of like sites, and the forms that they could have -> which one is fastest for each, timed in the model.

    every group:          the model as it is  against  the model with that group in each rival form, in turn
    what each group won:  all of it together, once more, against the model as it is

A form is kept where the whole model gets faster by more than the noise, which is what the bounds of `timing` leave, and
how much faster the model is than itself in another session. Groups too small for that to be seen are tried together. If
in the end the whole is not faster, nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from onnx import ModelProto

from onnxact.check.loading import UnloadableError
from onnxact.check.standings import Standing, Timing, shape_text, shown, wishes_of
from onnxact.check.timing import ROUNDS, Pace, Runner, Stopwatch
from onnxact.check.track import Track
from onnxact.rewrite.target.contest import Group, Place, Wish

SCREENING = 7
"""Rounds in which the rivals of a group run in turn; the best of them then runs ROUNDS against the model as it is."""
MEMORY = 1 << 30
"""Bytes that sessions may take together; one is taken to hold its weights twice, as it packs them."""
COPIES = 2


class Contest:
    """The races of one model. `variant` makes a copy of it with what is wished for."""

    def __init__(
        self,
        variant: Callable[[Mapping[Place, Wish]], ModelProto],
        track: Track,
        stopwatch: Stopwatch,
        report: Callable[[str, float], None],
    ) -> None:
        self.variant = variant
        self.track = track
        self.stopwatch = stopwatch
        self.report = report
        self.plain = self._runner({})
        self.noise = self._against(self.plain, {})

    def decide(self, found: list[Group], timing: Timing) -> Timing:
        """Return the measurements, with what wins."""
        standings: list[Standing] = []
        tried = sum(bool(group.key.forms) for group in found)
        for group in found:
            done = sum(bool(one.group.key.forms) for one in standings)
            self.report(f"timing {_name(group)}, {done + 1} of {tried}", 0.05 + 0.85 * done / tried)
            standings.append(self._standing(group) if group.key.forms else Standing(group, reason=group.reason))
        self.report("timing what is small, together", 0.9)
        standings = self._pooled(standings)
        self.report("timing the whole", 0.95)
        whole = self._against(self._runner({}), _forms(standings)) if _any(standings) else None
        if whole is not None and not self._is_faster(whole):
            standings = [_withdrawn(one, whole) if one.form else one for one in standings]
        return replace(timing, noise=self.noise, groups=tuple(standings), whole=whole)

    def _runner(self, wishes: Mapping[Place, Wish]) -> Runner:
        return self.track.runner(self.variant(wishes))

    def _against(self, first: Runner, wishes: Mapping[Place, Wish]) -> Pace:
        """Return the pace of the model with these wishes against `first`."""
        return self.stopwatch.race(first, {"": self._runner(wishes)}, ROUNDS)[""]

    def _is_faster(self, pace: Pace) -> bool:
        """Tell whether it is faster by more than the noise."""
        return pace.low > 1 + self.noise.offset

    def _standing(self, group: Group) -> Standing:
        """Return which form a group takes on its own."""
        screened: dict[str, Pace] = {}
        failed: dict[str, str] = {}
        for forms in self._chunks(group.key.forms):
            runners = dict(self._runners(group, forms, failed))
            screened.update(self.stopwatch.race(self.plain, runners, SCREENING))
        standing = Standing(group, screened=screened, failed=failed)
        best = self._best(screened)
        if not best or screened[best].ratio <= 1:
            return replace(standing, best=best, reason=f"no other form is faster here: {_ratios(screened, failed)}")
        pace = self._against(self.plain, group.wishes(best))
        standing = replace(standing, best=best, pace=pace)
        if self._is_faster(pace):
            return replace(standing, form=best, reason=f"the whole model is {shown(pace)} as fast for these sites")
        return replace(standing, reason=f"{best} is not faster by more than the noise: {shown(pace)}")

    def _chunks(self, forms: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield the forms, as many at a time as there is memory for sessions."""
        size = max(1, MEMORY // max(1, COPIES * self.track.weight_bytes) - 1)
        yield from (forms[start : start + size] for start in range(0, len(forms), size))

    def _runners(self, group: Group, forms: tuple[str, ...], failed: dict[str, str]) -> Iterator[tuple[str, Runner]]:
        """Yield what runs the model with a group in each form; why it does not load goes to `failed`."""
        for form in forms:
            runner = self._runner_or_why(group.wishes(form))
            if isinstance(runner, str):
                failed[form] = runner
            else:
                yield form, runner

    def _runner_or_why(self, wishes: Mapping[Place, Wish]) -> Runner | str:
        try:
            return self._runner(wishes)
        except UnloadableError as error:
            return str(error)

    def _best(self, screened: Mapping[str, Pace]) -> str:
        """Return the form with the highest ratio; of those that the noise does not tell from it, the simplest."""
        if not screened:
            return ""
        highest = max(pace.ratio for pace in screened.values())
        margin = (self.noise.high - self.noise.low) / 2
        return next(form for form, pace in screened.items() if pace.ratio >= highest - margin)

    def _pooled(self, standings: list[Standing]) -> list[Standing]:
        """Return the standings, with those that seemed faster but not by enough taken together, if that is enough."""
        small = [one for one in standings if not one.form and one.pace is not None and one.pace.ratio > 1]
        if not small or (len(small) < 2 and not _any(standings)):
            return standings
        trial = [replace(one, form=self._common(one, standings), together=True) for one in small]
        won = _forms(standings)
        first = self._runner(won) if won else self.plain
        pace = self._against(first, {**won, **_forms(trial)})
        if not self._is_faster(pace):
            return standings
        reason = f"the whole model is {shown(pace)} as fast for these sites and other small ones together"
        taken = {id(old.group): replace(new, reason=reason, pace=pace) for old, new in zip(small, trial, strict=True)}
        return [taken.get(id(one.group), one) for one in standings]

    @staticmethod
    def _common(small: Standing, standings: list[Standing]) -> str:
        """Return the form that a like group took, else its own best."""
        key = small.group.key
        for one in standings:
            other = one.group.key
            if one.form in key.forms and (other.activation, other.form) == (key.activation, key.form):
                return one.form
        return small.best


def _forms(standings: list[Standing]) -> dict[Place, Wish]:
    """Return the forms that are taken."""
    return wishes_of(standing for standing in standings if standing.form)


def _any(standings: list[Standing]) -> bool:
    return any(one.form for one in standings)


def _withdrawn(standing: Standing, whole: Pace) -> Standing:
    reason = f"{standing.form} seemed faster, but the whole model is not, by more than the noise: {shown(whole)}"
    return replace(standing, form="", together=False, reason=reason)


def _name(group: Group) -> str:
    name = group.key.activation.replace("_", "-")
    return f"{name} {shape_text(group)}".strip()


def _ratios(screened: Mapping[str, Pace], failed: Mapping[str, str]) -> str:
    parts = [f"{form} {pace.ratio:.3f} x" for form, pace in screened.items()]
    return ", ".join([*parts, *(f"{form} does not run" for form in failed)])
