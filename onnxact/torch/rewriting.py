"""(class, methods) -> a class derived from it, with these methods in the place of its own.

The class has the name of the original. Its instances are pickled and copied as the original with the methods to be
made again, from the source that is there then.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CellType, FunctionType
from typing import Any

from torch import nn

from onnxact.errors import ModelError
from onnxact.torch.editing import Edit, edited
from onnxact.torch.source import Definition, Source, compiled, content, source_of

_METHOD = "_onnxact_method"
_METHODS = "_onnxact_methods"


@dataclass(frozen=True)
class Method:
    """A function that becomes a method called `name`, with edits made pass by pass.

    digest: of the source that the edits were made for. bound: whether the function's first parameter is the module;
    else it is given the module in front of all others.
    """

    name: str
    function: FunctionType
    digest: str
    passes: tuple[tuple[Edit, ...], ...]
    bound: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make it again. pickle takes a function by its name, which for __this is not its attribute's."""
        around, _, name = self.function.__qualname__.rpartition(".")
        if not around or not name.startswith("__"):
            return (Method, (self.name, self.function, self.digest, self.passes, self.bound))
        path = f"{around}._{around.rpartition('.')[2].lstrip('_')}{name}"
        return (_private, ((self.function.__module__, path), (self.name, self.digest, self.passes, self.bound)))

    def source(self) -> Source:
        """Return the source with all edits made. A ModelError if it has changed since."""
        source = source_of(innermost(self.function))
        if isinstance(source, str) or source.digest != self.digest:
            raise ModelError(
                f"{self.function.__qualname__} is not what it was when its activations were swapped; make the module "
                "anew, swap again, and load the weights with load_state_dict"
            )
        return Source(edited(source.definition, self.passes, bound=self.bound), source.class_name)

    def build(self) -> FunctionType:
        """Return the edited function, decorated as the original is."""
        function = compiled(self.source(), innermost(self.function))
        function.__dict__[_METHOD] = self
        return _decorated(self.function, function)


def _private(place: tuple[str, str], fields: tuple[str, str, tuple[tuple[Edit, ...], ...], bool]) -> Method:
    """Return the method of the function at this place, a module and the attributes that lead to it."""
    module, path = place
    name, digest, passes, bound = fields
    return Method(name, operator.attrgetter(path)(importlib.import_module(module)), digest, passes, bound)


def method_of(function: FunctionType) -> Method | None:
    """Return the edits that a function came about by; None for one that stands as it was written."""
    return innermost(function).__dict__.get(_METHOD)


def definition_of(function: FunctionType) -> Definition | str:
    """Return the syntax tree of what a function runs, made of edits or written, or why there is none."""
    if not _can_be_decorated(function):
        return "a decorator around it does not show what it wraps"
    method = method_of(function)
    source = method.source() if method else source_of(innermost(function))
    return source if isinstance(source, str) else source.definition


def extended(name: str, function: FunctionType, edits: tuple[Edit, ...], *, bound: bool) -> Method:
    """Return a method of what a function runs with further edits."""
    method = method_of(function)
    if method is not None:
        return Method(name, method.function, method.digest, (*method.passes, edits), method.bound)
    source = source_of(innermost(function))
    assert isinstance(source, Source)
    return Method(name, function, source.digest, (edits,), bound)


def innermost(function: FunctionType) -> FunctionType:
    """Return the function inside decorators that tell what they wrap, as functools.wraps makes them."""
    inner = _wrapped(function)
    return innermost(inner) if inner else function


def _wrapped(function: FunctionType) -> FunctionType | None:
    inner = getattr(function, "__wrapped__", None)
    return inner if isinstance(inner, FunctionType) else None


def _can_be_decorated(function: FunctionType) -> bool:
    """Tell whether each decorator holds what it wraps in its closure, where another can be put."""
    if not hasattr(function, "__wrapped__"):
        return True
    inner, closure = _wrapped(function), function.__closure__ or ()
    return inner is not None and any(content(cell) is inner for cell in closure) and _can_be_decorated(inner)


def _decorated(function: FunctionType, new: FunctionType) -> FunctionType:
    """Return `new` inside copies of the decorators around `function`."""
    inner = _wrapped(function)
    if inner is None:
        return new
    inside = _decorated(inner, new)
    closure = tuple(CellType(inside) if content(cell) is inner else cell for cell in function.__closure__ or ())
    name = function.__name__
    wrapper = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, closure)
    wrapper.__kwdefaults__ = function.__kwdefaults__
    wrapper.__qualname__, wrapper.__module__, wrapper.__doc__ = function.__qualname__, function.__module__, new.__doc__
    wrapper.__dict__.update({**function.__dict__, "__wrapped__": inside})
    return wrapper


def original_of(kind: type[nn.Module]) -> Any:
    """Return the class as it was written."""
    return kind.__mro__[1] if _METHODS in vars(kind) else kind


def methods_of(kind: type[nn.Module]) -> tuple[Method, ...]:
    """Return the methods that were put into a class."""
    methods: tuple[Method, ...] = vars(kind).get(_METHODS, ())
    return methods


@cache
def rewritten(original: Any, methods: tuple[Method, ...]) -> type[nn.Module]:
    """Return the class derived from `original` that has these methods: one class for equal arguments."""
    namespace: dict[str, Any] = {method.name: method.build() for method in methods}
    namespace |= {name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")}
    namespace |= {_METHODS: methods, "__reduce_ex__": _reduce}
    metaclass: Any = type(original)
    derived: type[nn.Module] = metaclass(original.__name__, (original,), namespace)
    return derived


def _reduce(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Return how to make the module again: as pickle makes the original, then with the methods put in."""
    kind = type(module)
    original = original_of(kind)
    reduced: Any = super(kind, module).__reduce_ex__(protocol)
    make, arguments, *rest = reduced
    arguments = tuple(original if argument is kind else argument for argument in arguments)
    return (_made_again, (make, arguments, original, methods_of(kind)), *rest)


def _made_again(
    make: Callable[..., nn.Module], arguments: tuple[Any, ...], original: Any, methods: tuple[Method, ...]
) -> nn.Module:
    module = make(*arguments)
    module.__class__ = rewritten(original, methods)
    return module
