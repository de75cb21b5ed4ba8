"""Function <-> syntax tree: a function's definition is found in its file, and an edited one compiled to a function.

A tree is taken for a function's only if compiling it gives the very instructions that the function runs. The compiled
function shares the globals and closure of the original, and its text stands in linecache, where debuggers and
compilers look for it.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import linecache
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple, TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class Source(NamedTuple):
    """A definition and the class around it, "" for none."""

    definition: Definition
    class_name: str

    @property
    def digest(self) -> str:
        """A short text that changes with the definition."""
        return hashlib.sha256(ast.dump(self.definition).encode()).hexdigest()[:16]


EMPTY = object()
"""What a variable of an outer function holds before it is bound."""


def content(cell: CellType) -> Any:
    """Return what a cell of a closure holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return EMPTY


def source_of(function: FunctionType) -> Source | str:
    """Return the source of a function that is not wrapped, or why there is none."""
    return _source_of(function.__code__)


@lru_cache(maxsize=4096)
def _source_of(code: CodeType) -> Source | str:
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    file = _parsed(text) if text else None
    if file is None:
        return f"its source, {code.co_filename}, cannot be read"
    found = file.definitions.get((code.co_firstlineno, code.co_name), [])
    if len(found) > 1:
        return f"several of that name begin in line {code.co_firstlineno} of {code.co_filename}"
    if not found or not any(_alike(other, code) for other in file.codes.get(code.co_firstlineno, [])):
        return f"its source in {code.co_filename}, line {code.co_firstlineno}, is not what runs"
    return found[0]


class _File(NamedTuple):
    """A file of Python: its definitions by first line and name, and what they compile to by first line."""

    definitions: dict[tuple[int, str], list[Source]]
    codes: dict[int, list[CodeType]]


@lru_cache(maxsize=64)
def _parsed(text: str) -> _File | None:
    try:
        tree, code = ast.parse(text), compile(text, "<read>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    definitions: dict[tuple[int, str], list[Source]] = {}
    for source in _definitions(tree, ""):
        name = getattr(source.definition, "name", "<lambda>")
        definitions.setdefault((_begins(source.definition), name), []).append(source)
    codes: dict[int, list[CodeType]] = {}
    for inner in _codes(code):
        codes.setdefault(inner.co_firstlineno, []).append(inner)
    return _File(definitions, codes)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _definitions(node: ast.AST, class_name: str) -> Iterator[Source]:
    if isinstance(node, Definition):
        yield Source(node, class_name)
    inside = node.name if isinstance(node, ast.ClassDef) else class_name
    for child in ast.iter_child_nodes(node):
        yield from _definitions(child, inside)


def _begins(definition: Definition) -> int:
    decorators = [] if isinstance(definition, ast.Lambda) else definition.decorator_list
    return min([definition.lineno, *(decorator.lineno for decorator in decorators)])


def _code(text: str, source: Source, like: CodeType, filename: str) -> CodeType | None:
    """Return the code of the definition in a module that `_surrounded` made."""
    found: CodeType | None = compile(text, filename, "exec", flags=like.co_flags & _FUTURES, dont_inherit=True)
    for name in filter(None, ("surroundings", source.class_name, getattr(source.definition, "name", "<lambda>"))):
        inner = (constant for constant in found.co_consts if isinstance(constant, CodeType)) if found else ()
        found = next((constant for constant in inner if constant.co_name == name), None)
    return found


def _surrounded(source: Source, free: tuple[str, ...]) -> ast.Module:
    """Return a module that defines it, with the names of its closure as variables around it."""
    definition = deepcopy(source.definition)
    if not isinstance(definition, ast.Lambda):
        definition.decorator_list = []
    body: ast.stmt = ast.Expr(definition) if isinstance(definition, ast.Lambda) else definition
    if source.class_name:
        body = ast.ClassDef(name=source.class_name, bases=[], keywords=[], body=[body], decorator_list=[])
    variables = [ast.arg(name) for name in free if name != "__class__"]
    arguments = ast.arguments(posonlyargs=[], args=variables, kwonlyargs=[], kw_defaults=[], defaults=[])
    defined = source.class_name or getattr(definition, "name", "")
    outside: list[ast.stmt] = [ast.Global([defined])] if defined and defined not in free else []
    around = ast.FunctionDef(name="surroundings", args=arguments, body=[*outside, body], decorator_list=[])
    return ast.fix_missing_locations(ast.Module([around], []))


def _alike(left: CodeType, right: CodeType) -> bool:
    """Tell whether two pieces of code do the same: everything but names of files, lines and outer functions."""
    if _described(left) != _described(right) or len(left.co_consts) != len(right.co_consts):
        return False
    return all(_same_constant(a, b) for a, b in zip(left.co_consts, right.co_consts, strict=True))


def _described(code: CodeType) -> tuple[Any, ...]:
    return (code.co_code, code.co_name, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)


def _same_constant(left: Any, right: Any) -> bool:
    if isinstance(left, CodeType) and isinstance(right, CodeType):
        return _alike(left, right)
    return type(left) is type(right) and repr(left) == repr(right)


def compiled(source: Source, original: FunctionType) -> FunctionType:
    """Return a function with this definition and all else of `original`: globals, closure, defaults, attributes.

    Its text stands in linecache under a name of its own.
    """
    like = original.__code__
    text = ast.unparse(_surrounded(source, like.co_freevars))
    filename = f"<onnxact {original.__qualname__} {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    code = _code(text, source, like, filename)
    if code is None:
        raise AssertionError(f"{original.__qualname__}: its edited text does not compile:\n{text}")
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    cells = dict(zip(like.co_freevars, original.__closure__ or (), strict=True))
    closure: tuple[CellType, ...] = tuple(cells[free] for free in code.co_freevars)
    function = FunctionType(code, original.__globals__, original.__name__, original.__defaults__, closure)
    function.__kwdefaults__ = original.__kwdefaults__
    function.__qualname__, function.__module__ = original.__qualname__, original.__module__
    function.__doc__, function.__annotations__ = original.__doc__, dict(original.__annotations__)
    function.__dict__.update(original.__dict__)
    return function
