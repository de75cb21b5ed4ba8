"""A proof -> what a person reads: the verdict first, then counts, the largest distance, the special inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxact.report.text import number, spelled, table

if TYPE_CHECKING:
    from onnxact.check.prove import Example, FormProof, Proof, SpecialValue
    from onnxact.check.prove.patterns import Space
    from onnxact.check.prove.tally import Tally

_COLOURS = {"proven": "green", "not refuted": "yellow", "refuted": "red", "interrupted": "yellow"}
_ALL = "all"
_LONGEST = 100
"""Characters of a formula."""


def proof(found: Proof, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield a proof: one form at length, several as a table."""
    yield from (_single if len(found.forms) == 1 else _several)(found, verbose)
    for form, reason in found.left_out:
        yield Text(f"  not tried: {form}: {reason}")
    for note in found.notes:
        yield Text(f"  note: {note}")
    yield Text(_circumstances(found), style="dim")


def _single(found: Proof, verbose: bool) -> Iterator[RenderableType]:
    form = found.forms[0]
    title = Text(form.outcome, style=f"bold {_COLOURS[form.outcome]}")
    yield title.append(f": {_verdict(found, form)}")
    formula = form.formula if len(form.formula) <= _LONGEST else f"{form.formula[:_LONGEST]}…"
    yield Text(f"  {formula}{_with_parameters(found)}, {found.dtype}, against {_against(found, form)}\n")
    yield _counts(found, form)
    yield from _examples(found, form)
    yield from _specials(found, form, verbose)
    yield from _ends([form])


def _verdict(found: Proof, form: FormProof) -> str:
    name = f"{spelled(found.activation)} {form.form}"
    declared = "exact" if form.exact else "within its absolute bound" if form.absolute else "within its bound"
    but = f", but {form.tally.overflowed:,} finite ones where it overflows, as it says" if form.tally.overflowed else ""
    if form.outcome == "refuted":
        return f"{name} is not {declared}, at {_broken(form)}"
    if form.outcome == "interrupted":
        tried = f"{form.tally.tried:,} of {_total(found):,} inputs{but}"
        return f"{name} was {declared} at {tried}, those of the lowest bit patterns, and no more were tried"
    if form.outcome == "not refuted":
        return f"{name} is {declared} at every input of a sample{but}, which proves nothing of the others"
    return f"{name} is {declared} at every input{but}"


def _broken(form: FormProof) -> str:
    """At how many inputs the class is broken; at the end of a tensor only a sample was tried."""
    if form.tally.broken or form.ends is None:
        return f"{form.tally.broken:,} of {form.tally.tried:,} inputs"
    return f"{form.ends.broken:,} of a sample of {form.ends.tried:,} inputs, at the end of a tensor"


def _total(found: Proof) -> int:
    return found.total * max(found.lanes, 1)


def _with_parameters(found: Proof) -> str:
    return "".join(f", {name} = {_numbers(value)}" for name, value in found.parameters.items())


def _numbers(value: object) -> str:
    flat = np.asarray(value, np.float64).reshape(-1)
    listed = ", ".join(number(float(item)) for item in flat[:4])
    return listed if flat.size <= 4 else f"{listed} and {flat.size - 4} more"


def _against(found: Proof, form: FormProof) -> str:
    where = "NumPy" if found.provider == "numpy" else found.provider
    if form.against == "reference":
        return f"the reference rounded once, on {where}"
    return f"{found.op} on {where}"


def _overflowed(tally: Tally) -> str:
    return f"{tally.overflowed:,} at finite inputs: a step on the way overflows" if tally.overflowed else ""


def _counts(found: Proof, form: FormProof) -> Table:
    tally = form.tally
    rows = [
        ("inputs", tally.tried, "" if tally.tried == _total(found) else f"of {_total(found):,}"),
        ("  the same bits", tally.equal, ""),
        ("  NaN with another payload", tally.payload, ""),
        ("  zero of the other sign", tally.zero_sign, ""),
        ("  NaN or infinity on one side", tally.special, _overflowed(tally)),
        ("  another number", tally.numbers, _worst(found, tally.worst)),
    ]
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column()
    made.add_column(justify="right")
    made.add_column()
    for name, count, remark in rows:
        if count or name in ("inputs", "  the same bits"):
            made.add_row(name, f"{count:,}", remark)
    for remark in _remarks(found, form):
        made.add_row("", "", remark)
    return made


def _near_one(found: Proof, example: Example, allowed: float) -> float:
    """What is allowed in u of the result at an input, in u of max(1, |result|)."""
    space = _space(found)
    size = abs(float(space.numbers(np.array([example.wanted], space.word))[0]))
    return float(allowed * max(size, space.smallest_normal) / max(size, 1.0))


def _remarks(found: Proof, form: FormProof) -> Iterator[str]:
    """Yield what else is said of other numbers."""
    near = form.tally.worst_near_one
    if form.allowed is not None and not form.absolute:
        yield f"  its bound there: {_u(form.allowed)}"
    elif form.allowed is not None and form.tally.worst is not None:
        yield f"  its bound there: {_u(_near_one(found, form.tally.worst, form.allowed))} of max(1, |result|)"
    if near is not None:
        yield f"at most {_error(near)} of max(1, |result|) at x = {_at(found, near)}"


def _worst(found: Proof, worst: Example | None) -> str:
    if worst is None:
        return ""
    space = _space(found)
    came = f"{_value(space, worst.got)} for {_value(space, worst.wanted)}"
    return f"at most {_error(worst)} of the result: {came} at x = {_at(found, worst)}"


def _space(found: Proof) -> Space:
    from onnxact.check.prove.patterns import Space

    return Space(found.dtype)


def _at(found: Proof, example: Example) -> str:
    from onnxact.check.prove.result import hexadecimal

    space = _space(found)
    slope = f", slope {_slope(found, example.lane)}" if found.lanes else ""
    return f"{_value(space, example.x)} ({hexadecimal(space, example.x)}){slope}"


def _slope(found: Proof, lane: int) -> str:
    tensors = [value for value in found.parameters.values() if np.ndim(value) == 2]
    return number(float(tensors[0][lane, 0])) if tensors else ""


def _of_slope(found: Proof, item: SpecialValue) -> str:
    return f" (slope {_slope(found, item.lane)})" if found.lanes else ""


def _value(space: Space, pattern: int) -> str:
    """Return a number with the fewest digits that tell it from its neighbours."""
    stored = space.numbers(np.array([pattern], space.word))[0]
    return str(stored) if space.dtype in ("float16", "float32") else f"{float(stored):.{_DIGITS[space.dtype]}g}"


_DIGITS = {"bfloat16": 4, "float64": 17}


def _error(example: Example) -> str:
    return _u(example.error)


def _u(error: float) -> str:
    return f"{error:.4g} u" if math.isfinite(error) else "no number of u"


def _examples(found: Proof, form: FormProof) -> Iterator[RenderableType]:
    """Yield the first inputs that break the form's class."""
    space = _space(found)
    listed = form.tally.examples or (form.ends.examples if form.ends is not None else ())
    rows = (
        (_at(found, e), _value(space, e.got), _value(space, e.wanted), "" if math.isnan(e.error) else _error(e))
        for e in listed
    )
    if listed:
        where = "" if form.tally.examples else ", at the end of a tensor"
        yield from table(f"\nWhat breaks it{where}, the first of these", ("x", form.form, "wanted", "distance"), rows)


def _specials(found: Proof, form: FormProof, verbose: bool) -> Iterator[RenderableType]:
    """Yield the special inputs: those at which the form differs, or with -v all."""
    shown = [item for item in form.specials if verbose or _differs(found, form, item)]
    space = _space(found)
    op = found.op if form.specials and form.specials[0].op is not None else ""
    rows = [
        (
            item.name + _of_slope(found, item),
            _value(space, item.x),
            _value(space, item.got),
            "" if item.op is None else _value(space, item.op),
            _value(space, item.reference),
        )
        for item in shown
    ]
    if rows:
        yield from table("\nSpecial inputs", ("", "x", form.form, op, "reference"), rows, limit=None)
    alike = len(form.specials) - sum(_differs(found, form, item) for item in form.specials)
    which = "the same" if form.against == "op" else "as the reference"
    yield Text(f"\nspecial inputs: {which} at {alike} of {len(form.specials)}" + ("" if verbose else "; -v lists them"))


def _differs(found: Proof, form: FormProof, item: SpecialValue) -> bool:
    space = _space(found)
    wanted = item.reference if item.op is None else item.op
    both = np.array([item.got, wanted], space.word)
    return item.got != wanted and not bool(space.is_nan(both).all())


def _ends(forms: Sequence[FormProof]) -> Iterator[RenderableType]:
    """Say at how many sampled inputs the end of a tensor has other bits."""
    moved = [form for form in forms if form.moved and form.ends is not None]
    if moved:
        listed = ", ".join(f"{form.form} {form.moved:,}" for form in moved)
        kept = all(form.ends.broken == 0 for form in moved if form.ends)
        verdict = "all within the class" if kept else "not all within the class"
        yield Text(f"at the end of a tensor, by a sample of {moved[0].ends.tried:,}, other bits: {listed}; {verdict}")  # type: ignore[union-attr]


_NUMBERS = ("same bits", "±0", "NaN", "numbers", "NaN or inf")
_COLUMNS = ("form", "class", "against", "verdict", *_NUMBERS, "largest error", "of max(1, |result|)")


def _several(found: Proof, verbose: bool) -> Iterator[RenderableType]:
    title = Text(found.outcome, style=f"bold {_COLOURS[found.outcome]}")
    yield title.append(f": {spelled(found.activation)}{_with_parameters(found)}, {found.dtype}, {_scope(found)}")
    made = Table(header_style="bold", box=None, pad_edge=False)
    rows = [_row(found, form) for form in found.forms]
    filled = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows)]
    for i in filled:
        made.add_column(_COLUMNS[i], justify="right" if _COLUMNS[i] in _NUMBERS else "left", overflow="fold")
    for form, row in zip(found.forms, rows, strict=True):
        made.add_row(*(Text(row[i], style=_COLOURS[form.outcome] if i == 3 else "") for i in filled))
    yield made
    yield from _special_notes(found)
    yield from _ends(found.forms)


def _scope(found: Proof) -> str:
    if found.inputs == found.total:
        return f"every one of {_total(found):,} inputs"
    return f"{found.inputs * max(found.lanes, 1):,} of {_total(found):,} inputs"


def _row(found: Proof, form: FormProof) -> tuple[str, ...]:
    tally = form.tally
    counts = (tally.zero_sign, tally.payload, tally.numbers, tally.special)
    worst = "" if tally.worst is None else f"{_error(tally.worst)} at {_value(_space(found), tally.worst.x)}"
    near_one = "" if tally.worst_near_one is None else _error(tally.worst_near_one)
    return (
        form.form,
        form.kind,
        form.against,
        form.outcome,
        _ALL if tally.equal == tally.tried else f"{tally.equal:,}",
        *(f"{count:,}" if count else "" for count in counts),
        worst,
        near_one,
    )


def _special_notes(found: Proof) -> Iterator[RenderableType]:
    """Say at which special inputs each form differs, and what comes out; forms that do so alike together."""
    space = _space(found)
    by_text: dict[str, list[str]] = {}
    for form in found.forms:
        differing = [item for item in form.specials if _differs(found, form, item)]
        told = "; ".join(f"{item.name}{_of_slope(found, item)} → {_value(space, item.got)}" for item in differing)
        if told:
            by_text.setdefault(told, []).append(form.form)
    for told, names in by_text.items():
        yield Text(f"  {', '.join(names)}: {told}")


def _circumstances(found: Proof) -> str:
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    runtime = found.versions.get("onnxruntime")
    where = f"ONNX Runtime {runtime}, optimisation off" if runtime else f"NumPy {found.versions['numpy']}"
    return f"{found.seconds:.2f} s on {found.provider}, {threads}; {where}; opset {found.opset}, {_packages(found)}"


def _packages(found: Proof) -> str:
    return ", ".join(f"{name} {found.versions[name]}" for name in ("onnx", "onnxact"))
