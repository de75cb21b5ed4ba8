"""(expression, function, module) -> the object that it stands for, where nothing has to be run to tell.

`F.relu` is a function of PyTorch, `self.act` what the module has under that name, `self.acts[0]`, `ACT[self.kind]` and
`getattr(F, self.name)` are what they hold; local variables and what is computed are UNKNOWN.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from onnxact.torch.editing import first_parameter
from onnxact.torch.functionals import UNKNOWN, meaning_of_module
from onnxact.torch.rewriting import innermost
from onnxact.torch.source import EMPTY, Definition, content

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Bound:
    """A function that is a method of this module, and the name of the attribute that it is found by."""

    function: FunctionType
    module: nn.Module
    name: str


class Names:
    """What the names in one function mean. `module`: what its first parameter holds; None where it is no method."""

    def __init__(self, function: FunctionType, definition: Definition, module: nn.Module | None) -> None:
        plain = innermost(function)
        self.globals = plain.__globals__
        self.closure = _closure(plain)
        self.module = module
        self.class_name = plain.__qualname__.rpartition(".")[0].rpartition(".")[2].lstrip("_")
        self.imported = _imported(definition, plain.__globals__.get("__package__") or "")
        self.local = bound_names(definition)
        self.itself = first_parameter(definition) if module is not None else ""
        if self.itself in _assigned(definition):
            self.itself = ""

    def value(self, node: ast.expr, hidden: frozenset[str] = frozenset()) -> Any:
        """Return the object, or UNKNOWN. `hidden`: names that inner scopes have bound to something else."""
        found: Any = UNKNOWN
        match node:
            case ast.Constant():
                found = node.value
            case ast.Name() if node.id not in hidden:
                found = self._named(node.id)
            case ast.Attribute():
                found = attribute(self.value(node.value, hidden), self.mangled(node.attr))
            case ast.Subscript():
                found = _item(self.value(node.value, hidden), self.value(node.slice, hidden))
            case ast.UnaryOp(op=ast.USub()):
                number = self.value(node.operand, hidden)
                found = -number if isinstance(number, (int, float)) else UNKNOWN
            case ast.Call():
                found = self._called(node, hidden)
        return found

    def mangled(self, name: str) -> str:
        """Return an attribute's name as it is stored: __act of class Net is _Net__act."""
        private = name.startswith("__") and not name.endswith("__") and self.class_name
        return f"_{self.class_name}{name}" if private else name

    def _named(self, name: str) -> Any:
        if name == self.itself:
            return self.module
        if name in self.local:
            return UNKNOWN
        for names in (self.imported, self.closure, self.globals, vars(builtins)):
            if name in names:
                return names[name]
        return UNKNOWN

    def _called(self, node: ast.Call, hidden: frozenset[str]) -> Any:
        function = self.value(node.func, hidden)
        arguments = [self.value(argument, hidden) for argument in node.args]
        named = {str(keyword.arg): self.value(keyword.value, hidden) for keyword in node.keywords}
        if any(argument is UNKNOWN for argument in (*arguments, *named.values())):
            return UNKNOWN
        if function is super and not named:
            return self._super(arguments)
        if function is getattr and len(arguments) > 1 and isinstance(arguments[1], str):
            return attribute(arguments[0], arguments[1])
        return _made(function, arguments, named) if isinstance(function, type) else UNKNOWN

    def _super(self, arguments: list[Any]) -> Any:
        """Return super() of the module: where the classes behind the one that is named, or written around, begin."""
        start = arguments[0] if arguments else self.closure.get("__class__", UNKNOWN)
        known = isinstance(start, type) and isinstance(self.module, start)
        return super(start, self.module) if known and arguments[1:] in ([], [self.module]) else UNKNOWN


def _made(kind: type, arguments: list[Any], named: dict[str, Any]) -> Any:
    """Return the activation that a call like nn.ReLU() makes, if it has no parameters to learn."""
    if kind.__module__ != nn.ReLU.__module__ or kind is nn.PReLU or not issubclass(kind, nn.Module):
        return UNKNOWN
    try:
        module = kind(*arguments, **named)
    except (TypeError, ValueError):
        return UNKNOWN
    return module if meaning_of_module(module) else UNKNOWN


def attribute(value: Any, name: str) -> Any:
    """Return an attribute without running code: what is stored, and functions of classes as what they become."""
    if value is UNKNOWN:
        return UNKNOWN
    if isinstance(value, super):
        return _bound(getattr(value, name, UNKNOWN), name)
    if isinstance(value, nn.Module):
        return _of_module(value, name)
    if isinstance(value, type):
        return _of_class(value, name)
    stored = getattr(value, "__dict__", {})
    if name in stored or isinstance(value, ModuleType):
        return stored.get(name, UNKNOWN)
    found = _of_class(type(value), name)
    return UNKNOWN if isinstance(found, FunctionType) else found


def _of_module(module: nn.Module, name: str) -> Any:
    for stored in (vars(module), module._modules, module._parameters, module._buffers):
        if name in stored:
            return stored[name]
    found = inspect.getattr_static(type(module), name, UNKNOWN)
    if isinstance(found, FunctionType):
        return Bound(found, module, name)
    return _of_class(type(module), name)


def _of_class(kind: type, name: str) -> Any:
    found = inspect.getattr_static(kind, name, UNKNOWN)
    if isinstance(found, staticmethod):
        return found.__func__
    return UNKNOWN if isinstance(found, (property, classmethod)) else found


def _bound(method: Any, name: str) -> Any:
    module, function = getattr(method, "__self__", None), getattr(method, "__func__", None)
    known = isinstance(function, FunctionType) and isinstance(module, nn.Module)
    return Bound(function, module, name) if known and function and module is not None else UNKNOWN


def own_function(module: nn.Module, name: str) -> FunctionType | None:
    """Return the function that a module's class has under a name, as a method."""
    found = inspect.getattr_static(type(module), name, None)
    return found if isinstance(found, FunctionType) else None


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, (nn.ModuleList, nn.Sequential)) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    if isinstance(value, (list, tuple)) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    if isinstance(value, nn.ModuleDict) and isinstance(key, str) and key in value:
        return value[key]
    return value.get(key, UNKNOWN) if type(value) is dict and isinstance(key, (str, int)) else UNKNOWN


def _closure(function: FunctionType) -> dict[str, Any]:
    contents = map(content, function.__closure__ or ())
    found = zip(function.__code__.co_freevars, contents, strict=True)
    return {name: UNKNOWN if value is EMPTY else value for name, value in found}


def _imported(definition: Definition, package: str) -> Mapping[str, Any]:
    """Return what import statements inside the function bind, where the packages are loaded already."""
    found: dict[str, Any] = {}
    for node in ast.walk(definition):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or name] = sys.modules.get(name, UNKNOWN)
        elif isinstance(node, ast.ImportFrom):
            source = _module(node, package)
            found |= {alias.asname or alias.name: attribute(source, alias.name) for alias in node.names}
    return found


def _module(node: ast.ImportFrom, package: str) -> Any:
    try:
        name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return UNKNOWN
    return sys.modules.get(name, UNKNOWN)


def bound_names(scope: ast.AST) -> frozenset[str]:
    """Return the names that a function or lambda binds: parameters, assignments, imports, definitions inside it."""
    found = set(_parameters(scope)) | _assigned(scope)
    return frozenset(found)


def _parameters(scope: ast.AST) -> list[str]:
    arguments = getattr(scope, "args", None)
    if not isinstance(arguments, ast.arguments):
        return []
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred)]


def _assigned(scope: ast.AST) -> set[str]:
    """Return what is bound in the body of a scope; what inner functions bind is their own."""
    found: set[str] = set()
    pending = list(ast.iter_child_nodes(scope))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        found |= {name for name in (_defined(node),) if name}
        if not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)
    return found


def _defined(node: ast.AST) -> str:
    """Return the one name that a node binds without being a Name."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return node.name
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return node.name or ""
    return ""
