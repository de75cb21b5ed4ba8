"""Names -> activations and forms, and forms derived from the table by computing one of their ops another way.

gelu-like name "tanh-softplus[softplus=stable]"  ->  x * Tanh(Relu(x) + Log(1 + Exp(-Abs(x))))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial, reduce
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS, ALIASES, FALSE, FAMILIES, REWRITES, Activation, Form
from onnxact.activation.expr import TRUE, Call, Expr, Literal, Parameter, ops, parameters, substitute, varies, x, y
from onnxact.activation.numeric import Values, holds
from onnxact.activation.primitives import PRIMITIVES
from onnxact.arguments import nearest, text
from onnxact.errors import UsageError


class Alternative(NamedTuple):
    """Another way to compute a call: its name in the table, the term, when it is the same function, and when exactly.

    `exact` leaves no room for special values: a way that has some of its own is not exact.
    """

    name: str
    expr: Expr
    when: Expr
    exact: Expr = FALSE


def find_activation(name: str) -> Activation:
    """Return the activation called `name` in any spelling: leaky_relu, leaky-relu, LeakyRelu.

    One with a second name, such as quick-gelu for swish, has that name's parameters as its defaults.
    """
    key = plain_name(text("activation", name))
    if key in _ALIASES:
        row, other = ACTIVATIONS[_ALIASES[key].activation], _ALIASES[key].parameters
        return replace(row, params=tuple(replace(p, default=other.get(p.name, p.default)) for p in row.params))
    for row in ACTIVATIONS.values():
        if plain_name(row.name) == key:
            return row
    known = [row.spelled for row in ACTIVATIONS.values()]
    also = [alias.replace("_", "-") for alias in ALIASES]
    raise UsageError(f"unknown activation {name!r}{nearest(name, known + also)}; known: {', '.join(known + also)}")


def alias_parameters(name: str) -> Mapping[str, float]:
    """Return the parameters that a second name of an activation stands for; none for its own name."""
    alias = _ALIASES.get(plain_name(name))
    return alias.parameters if alias else {}


def find_form(activation: Activation, name: str) -> Form:
    """Return the form called `name`, which may say how ops inside it are computed: `form[op=form,op=form]`."""
    match = re.fullmatch(r"([a-z0-9-]+)(?:\[(.*)\])?", text("form", name))
    base = activation.forms.get(match[1]) if match else None
    if match is None or base is None:
        known = list(activation.forms)
        raise UsageError(
            f"{activation.spelled} has no form {name!r}{nearest(name, known)}; its forms: {', '.join(known)}"
        )
    form = base
    for choice in filter(None, (match[2] or "").split(",")):
        op, _, alternative = (part.strip() for part in choice.partition("="))
        if form is base and op == FAMILIES.get(match[1], ("",))[0]:
            form = family_member(match[1], alternative).form
        else:
            form = _with(form, _op_named(op), alternative, name)
    return form


def family_member(name: str, number: float | str) -> Lowered:
    """Return the form of a family that has this number, with its full name: `fixed-slope[slope=0.25]`."""
    what, member = FAMILIES[name]
    try:
        value = float(number)
        form = member(value)
    except ValueError as error:
        raise UsageError(f"form {name!r}: {number!r} cannot be its {what}") from error
    return Lowered(f"{name}[{what}={value!r}]", form)


def _with(form: Form, op: str, alternative: str, spelled: str) -> Form:
    expr = _rewrite(form.expr, op, alternative)
    if expr == form.expr:
        raise UsageError(f"form {spelled!r}: it has no {op} that can be computed as {alternative!r}")
    taken = [option for call in _calls(form.expr) if call.op == op for option in _named(call, alternative)]
    when = _all([form.when, *(option.when for option in taken)])
    exact = _all([form.exact, *(option.exact for option in taken)])
    return replace(form, expr=expr, when=when, exact=exact, signed_zero=True)


def _all(conditions: Iterable[Expr]) -> Expr:
    """Return the condition that all of them hold, without those that the parameters cannot change."""
    distinct = dict.fromkeys(conditions)
    if not all(holds(condition, {}) for condition in distinct if not parameters(condition)):
        return FALSE
    open_ones = [condition for condition in distinct if parameters(condition)]
    return reduce(Expr.__and__, open_ones) if open_ones else TRUE


def _named(call: Call, alternative: str) -> Iterator[Alternative]:
    return (option for option in alternatives(call) if option.name == alternative)


def _rewrite(expr: Expr, op: str, alternative: str) -> Expr:
    if not isinstance(expr, Call):
        return expr
    call = Call(expr.op, tuple(_rewrite(arg, op, alternative) for arg in expr.args))
    if call.op != op or not varies(call):
        return call
    return next((option.expr for option in _named(call, alternative)), call)


@cache
def alternatives(call: Call) -> tuple[Alternative, ...]:
    """Return the other ways to compute `call`: the forms of the activation whose op it is, or a row of REWRITES."""
    if call.op in REWRITES:
        variables: dict[Expr, Expr] = dict(zip((x, y), call.args, strict=False))
        exact = FALSE if call.op in _INEXACT_REWRITES else TRUE
        rows = REWRITES[call.op].items()
        return tuple(Alternative(name, substitute(expr, variables), TRUE, exact) for name, expr in rows)
    for activation in ACTIVATIONS.values():
        operands = _unify(activation, call)
        if operands is not None:
            return tuple(
                _alternative(name, form, operands)
                for name, form in activation.forms.items()
                if name != "op" and form.emitted and call.op not in ops(form.expr)
            )
    return ()


def _alternative(name: str, form: Form, operands: dict[Expr, Expr]) -> Alternative:
    exact = FALSE if form.special and form.exact is TRUE else form.exact
    return Alternative(name, *(substitute(term, operands) for term in (form.expr, form.when, exact)))


def _unify(activation: Activation, call: Call) -> dict[Expr, Expr] | None:
    """Return what the variables and parameters of an activation stand for in a call of its op; None for another op.

    Parameters that the op does not have (Softplus has no beta) are at their defaults.
    """
    native = activation.native
    if native is None or native.op != call.op:
        return None
    pairs = list(zip(native.args, call.args, strict=True))
    fits = all(pattern in (arg, x) or isinstance(pattern, Parameter) for pattern, arg in pairs)
    defaults: dict[Expr, Expr] = {param.term: Literal(param.default) for param in activation.params}
    return defaults | dict(pairs) if fits else None


class Lowered(NamedTuple):
    """A form whose ops all are admitted, with its full name."""

    name: str
    form: Form


def lowered(name: str, form: Form, admits: Callable[[str], bool], parameters: Values) -> Lowered | None:
    """Return `form` with every op that `admits` refuses computed by admitted ones, or None where that is impossible.

    Of several ways, the first in the table's order is taken.
    """
    choices: dict[str, str] = {}
    for _ in range(len(PRIMITIVES)):
        refused = sorted(op for op in ops(form.expr) if not admits(op))
        if not refused:
            return Lowered(_full_name(name, choices), form)
        step = next(_steps(form, refused[0], admits, parameters, choices), None)
        if step is None:
            return None
        choices[refused[0]] = step
        form = _with(form, refused[0], step, name)
    return None


SEARCHED = 2000
"""Forms that `derivations` looks at before it stops."""


def derivations(name: str, form: Form, refused: Callable[[Call], bool], parameters: Values | None) -> Iterator[Lowered]:
    """Yield `form` with every call that is refused computed another way, in every way that the table has.

    parameters: None where they are not known, which leaves the ways that hold for all.
    """
    pending: list[tuple[Form, dict[str, str]]] = [(form, {})]
    refused, seen = cache(refused), {form.expr}
    fits = partial(_holds, values=parameters)
    if not _reachable(form.expr, refused, frozenset(), fits):
        return
    for _ in range(SEARCHED):
        if not pending:
            return
        form, choices = pending.pop()
        ops_refused = list(dict.fromkeys(call.op for call in _calls(form.expr) if refused(call)))
        if not ops_refused:
            yield Lowered(_full_name(name, choices), form)
        for op in reversed([op for op in ops_refused if op not in choices]):
            closed = frozenset({*choices, op})
            for way in reversed(list(_ways(form, op, parameters))):
                derived = _with(form, op, way, name)
                if derived.expr not in seen and _reachable(derived.expr, refused, closed, fits):
                    seen.add(derived.expr)
                    pending.append((derived, {**choices, op: way}))


def _ways(form: Form, op: str, parameters: Values | None) -> Iterator[str]:
    """Yield the names of the ways to compute every call of `op` in the form."""
    calls = [_shallow(call) for call in _calls(form.expr) if call.op == op]
    for name in [option.name for option in alternatives(calls[0])] if calls else ():
        found = [option for call in calls for option in _named(call, name)]
        if len(found) == len(calls) and all(_holds(option.when, parameters) for option in found):
            yield name


def _holds(condition: Expr, values: Values | None) -> bool:
    return not parameters(condition) and holds(condition, {}) if values is None else holds(condition, values)


def _steps(
    form: Form, op: str, admits: Callable[[str], bool], parameters: Values, choices: dict[str, str]
) -> Iterator[str]:
    """Yield the ways to compute every call of `op` in the form without an op that was already replaced."""
    calls = [_shallow(call) for call in _calls(form.expr) if call.op == op]
    for name in [option.name for option in alternatives(calls[0])] if calls else ():
        found = [option for call in calls for option in _named(call, name)]
        usable = len(found) == len(calls) and all(holds(option.when, parameters) for option in found)
        closed, fits = frozenset({*choices, op}), partial(_holds, values=parameters)
        if usable and all(_reachable(option.expr, lambda c: not admits(c.op), closed, fits) for option in found):
            yield name


def _shallow(call: Call) -> Call:
    """Return the call on bare variables: the ops inside its operands are not its own."""
    return Call(call.op, tuple(x if varies(arg) else arg for arg in call.args))


def _reachable(
    expr: Expr, refused: Callable[[Call], bool], closed: frozenset[str], fits: Callable[[Expr], bool]
) -> bool:
    """Tell whether every call that is refused can be computed by others that fit, without those in `closed`."""
    for call in _calls(expr):
        if not refused(call):
            continue
        if call.op in closed:
            return False
        options = [option for option in alternatives(_shallow(call)) if fits(option.when)]
        if not any(_reachable(option.expr, refused, closed | {call.op}, fits) for option in options):
            return False
    return True


def _calls(expr: Expr) -> Iterator[Call]:
    if isinstance(expr, Call) and varies(expr):
        yield expr
        for arg in expr.args:
            yield from _calls(arg)


def _full_name(name: str, choices: dict[str, str]) -> str:
    if not choices:
        return name
    return f"{name}[{','.join(f'{spelled_op(op)}={form}' for op, form in choices.items())}]"


def spelled_op(op: str) -> str:
    """Return an ONNX op name as the command line writes it: HardSigmoid -> hard-sigmoid, PRelu -> prelu."""
    return _SPELLED.get(op) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", op).lower()


def _op_named(spelled: str) -> str:
    for op in PRIMITIVES:
        if spelled in (op, spelled_op(op)):
            return op
    raise UsageError(f"unknown op {spelled!r}; known: {', '.join(sorted(PRIMITIVES))}")


def plain_name(name: str) -> str:
    """Return what all spellings of a name have in common."""
    return name.strip().replace("-", "").replace("_", "").lower()


_SPELLED = {"PRelu": "prelu"}
_ALIASES = {plain_name(name): alias for name, alias in ALIASES.items()}
_INEXACT_REWRITES = {"Div"}
