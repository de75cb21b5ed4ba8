"""Which functions are worth reading: those that may call an activation, themselves or through others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from onnxact.torch.functionals import NAMES, find_functional
from onnxact.torch.rewriting import innermost
from onnxact.torch.source import content

_NOT_FOLLOWED = frozenset({"torch", "numpy", "onnxact", *sys.stdlib_module_names}) - {"__main__"}


def followed(function: FunctionType) -> bool:
    """Tell whether a function is one of those that a model is written in, and not PyTorch's or Python's own."""
    return str(function.__module__).partition(".")[0] not in _NOT_FOLLOWED


def may_activate(function: FunctionType) -> bool:
    """Tell whether a function, or one that it refers to, has a name of an activation in it, whatever it stands for."""
    seen: set[int] = set()
    pending = [function]
    while pending:
        plain = innermost(pending.pop())
        if id(plain) in seen or not followed(plain):
            continue
        seen.add(id(plain))
        if mentions(plain):
            return True
        pending += [value for value in _referred(plain) if isinstance(value, FunctionType)]
    return False


def mentions(function: FunctionType, names: frozenset[str] = NAMES) -> bool:
    """Tell whether one of these names, or an activation under another name, occurs in a function."""
    plain = innermost(function)
    if any(names & set(code.co_names) for code in _codes(plain.__code__)):
        return True
    known = (find_functional(value) for value in _referred(plain))
    return any(functional is not None and functional.name in names for functional in known)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _referred(function: FunctionType) -> Iterator[Any]:
    """Yield the globals, what they have under the names used, and the variables of outer functions."""
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[inner] for inner in names & vars(value).keys())
    yield from map(content, function.__closure__ or ())
