"""A target file (TOML) -> a Target. Whatever is wrong with it is a ModelError that names the line and the key.

    title = "My runtime 2.1"
    version = "2.1"
    source = "its manual, chapter 4"
    date = "2026-09-01"
    ops = ["Relu", "LeakyRelu", "Mul", "Add", "Max"]

    [restricted.LeakyRelu]
    when = "alpha <= 1"

docs/targets.md describes every key.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnx import defs

from onnxact.activation.forms import find_activation, find_form
from onnxact.activation.primitives import PRIMITIVES
from onnxact.arguments import nearest
from onnxact.errors import ModelError, UsageError
from onnxact.model.schema import op_names
from onnxact.rewrite.target.condition import Condition
from onnxact.rewrite.target.rules import Constants, Rule, Target, Wrong
from onnxact.rewrite.target.values import (
    CONSTANTS,
    HEAD,
    REQUIRED,
    RESTRICTED,
    WRONG,
    Reader,
    as_layouts,
    as_table,
    as_text,
    as_texts,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Keys = tuple[str, ...]
"""The way to a value: ("restricted", "Relu", "rank")."""


class _RefusedError(ValueError):
    """What is wrong at a key; `path` leads to it."""

    def __init__(self, path: Keys, message: str) -> None:
        super().__init__(message)
        self.path = path


def read(path: Path, name: str = "") -> Target:
    """Return the target of a file; ModelError where it is missing, not readable, or not a target."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ModelError(f"target file {path}: {reason}") from error
    return parse(text, name or path.stem, str(path))


def parse(text: str, name: str, where: str) -> Target:
    """Return the target that a text describes; `where` names the text in errors."""
    try:
        return _target(tomllib.loads(text), name)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"target file {where}: {error}; see docs/targets.md for how to write one") from error
    except _RefusedError as error:
        key, line = ".".join(error.path), _line(text, error.path)
        at = f"line {line}, key {key!r}" if key and line else f"key {key!r}" if key else "the whole file"
        raise ModelError(f"target file {where}, {at}: {error}; see docs/targets.md for how to write one") from error


def _line(text: str, path: Keys) -> int:
    """Return the number of the line that states a key, or of the table that should; 0 for none."""
    table: Keys = ()
    best, depth = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            table = _keys(header[1])
        stated = re.match(r"\s*([A-Za-z0-9_.\"':-]+)\s*=", line)
        here = (*table, *_keys(stated[1])) if stated else table
        common = len(here) if here == path[: len(here)] else 0
        if common > depth:
            best, depth = number, common
    return best


def _keys(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted))


def _fields(table: Mapping[str, Any], readers: Mapping[str, Reader], path: Keys) -> dict[str, Any]:
    """Return the values of a table, each read as its key says; an unknown key is refused."""
    found = {}
    for key, value in table.items():
        if key not in readers:
            raise _RefusedError((*path, key), f"is no key here{nearest(key, readers)}; known: {', '.join(readers)}")
        try:
            found[key] = readers[key](value)
        except ValueError as error:
            raise _RefusedError((*path, key), str(error)) from error
    return found


def _target(document: Mapping[str, Any], name: str) -> Target:
    head = _fields(document, HEAD, ())
    if absent := [key for key in REQUIRED if key not in head]:
        raise _RefusedError((), f"states no {absent[0]}; a target file needs {', '.join(REQUIRED)}")
    standard = head.pop("standard", False)
    if standard is ("ops" in head):
        raise _RefusedError(("ops",), "state either `ops` or `standard = true`")
    ops = head.pop("ops", ())
    for key, names in (("ops", ops), ("missing", head.get("missing", ()))):
        for op in names:
            _check_op(op, (key,))
    if both := set(ops) & set(head.get("missing", ())):
        raise _RefusedError(("missing",), f"{min(both)!r} is also among `ops`")
    rules = _rules(head.pop("restricted", {}), ops)
    listed = {op: (rules.get(op, Rule()),) for op in ops}
    missing = head.pop("missing", None)
    return Target(
        name=name,
        ops=None if standard else listed,
        missing=None if missing is None else frozenset(missing),
        notes=_notes(head.pop("notes", {})),
        wrong=_wrong(head.pop("wrong", {}), listed),
        patterns=_patterns(head.pop("patterns", {})),
        constants=_constants(head.pop("constants", {})),
        **head,
    )


def _check_op(op: str, path: Keys) -> None:
    if "::" not in op and op not in op_names():
        raise _RefusedError(path, f"{op!r} is no operator of ONNX{nearest(op, op_names())}")


def _rules(tables: Mapping[str, Any], ops: Iterable[str]) -> dict[str, Rule]:
    found = {}
    for op, table in tables.items():
        path = ("restricted", op)
        if op not in ops:
            raise _RefusedError(path, f"{op!r} is not among `ops`{nearest(op, ops)}")
        fields = _fields(_checked_table(table, path), RESTRICTED, path)
        for key in ("constant", "may_be_constant", "stated"):
            _check_operands(op, fields.get(key, ()), (*path, key))
        for name in fields.get("shapes", ()):
            _check_operands(op, [name], (*path, "shapes", name))
        if "shapes" in fields:
            readers = dict.fromkeys(fields["shapes"], as_layouts)
            fields["shapes"] = _fields(fields["shapes"], readers, (*path, "shapes"))
        if "when" in fields:
            fields["when"] = _condition(op, fields["when"], (*path, "when"))
        found[op] = Rule(**fields)
    return found


_OF_ANY_ATTRIBUTE = ("when", "stated", "unless_stated")
"""The keys that take any name for an op of another domain, whose attributes onnx does not know."""


def _checked_table(value: Any, path: Keys) -> dict[str, Any]:
    try:
        return as_table(value)
    except ValueError as error:
        raise _RefusedError(path, str(error)) from error


def _check_operands(op: str, names: Iterable[str], path: Keys) -> None:
    known = PRIMITIVES[op].operands if op in PRIMITIVES else ()
    for name in names:
        if name not in known and not ("::" in op and path[-1] in _OF_ANY_ATTRIBUTE):
            raise _RefusedError(
                path, f"{name!r} is no operand of {op}; its operands: {', '.join(known) or 'not known'}"
            )


def _condition(op: str, text: str, path: Keys) -> Condition:
    try:
        condition = Condition(text)
    except ValueError as error:
        raise _RefusedError(path, str(error)) from error
    _check_operands(op, sorted(condition.names), path)
    if reason := condition.misused(_texts(op, condition)):
        raise _RefusedError(path, reason)
    return condition


def _texts(op: str, condition: Condition) -> frozenset[str]:
    """Return the operands of an op that are texts; of one that onnx does not know, those that are compared with one."""
    if op not in PRIMITIVES:
        return condition.compared_with_texts
    known = {
        name for found in defs.get_all_schemas_with_history() if found.name == op for name in _text_attributes(found)
    }
    return frozenset(known)


def _text_attributes(schema: defs.OpSchema) -> list[str]:
    return [name for name, stated in schema.attributes.items() if stated.type == defs.OpSchema.AttrType.STRING]


def _wrong(tables: Mapping[str, Any], ops: Mapping[str, Any]) -> dict[str, tuple[Wrong, ...]]:
    found = {}
    for op, table in tables.items():
        path = ("wrong", op)
        if op not in ops:
            raise _RefusedError(path, f"{op!r} is not among `ops`{nearest(op, ops)}")
        entries = table if isinstance(table, list) else [table]
        found[op] = tuple(_wrong_entry(op, _checked_table(entry, path), path) for entry in entries)
    return found


def _wrong_entry(op: str, table: Mapping[str, Any], path: Keys) -> Wrong:
    fields = _fields(table, WRONG, path)
    if "why" not in fields:
        raise _RefusedError(path, "states no `why`")
    _check_operands(op, fields.get("unless_stated", ()), (*path, "unless_stated"))
    for key in ("when", "inputs"):
        if key in fields:
            fields[key] = _condition(op, fields[key], (*path, key))
    if "inputs" in fields and fields["inputs"].names != {(first := PRIMITIVES[op].operands[0])}:
        raise _RefusedError((*path, "inputs"), f"must speak of {first} alone; use `when` for the others")
    return Wrong(**fields)


def _notes(table: Mapping[str, Any]) -> dict[str, str]:
    for op in table:
        _check_op(op, ("notes", op))
    return _fields(table, dict.fromkeys(table, as_text), ("notes",))


def _patterns(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, forms in table.items():
        path = ("patterns", name)
        try:
            activation = find_activation(name)
            found[activation.name] = as_texts(forms)
            for form in found[activation.name]:
                find_form(activation, form)
        except (ValueError, UsageError) as error:
            raise _RefusedError(path, str(error)) from error
    return found


def _constants(table: Mapping[str, Any]) -> Constants:
    fields = _fields(table, CONSTANTS, ("constants",))
    return Constants(fields.get("shape", "one"), fields.get("shared", True), fields.get("as", False))
