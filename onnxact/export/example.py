"""What a module is traced with: its own example, or made-up tensors of the shapes asked for.

--input x:2,3,224,224            float32 (or the module's dtype), signed, from a seed
--input ids:2,10:int64           zeros, which every embedding has

A module says what it takes by a method or attribute `example_inputs` (a tensor, a tuple of positional arguments, or a
dict by name), by torch.onnx.ExportableModule's `example_arguments`, or by Lightning's `example_input_array`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from onnxact.errors import ExportError, UsageError
from onnxact.export.dynamic import DynamicAxis, dynamic_shapes
from onnxact.export.failures import at, said

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
    )
}  # fmt: skip
"""The element types of --input; the others of ONNX have no arithmetic in PyTorch."""
_CONVENTIONS = ("example_inputs", "example_arguments", "example_input_array")


@dataclass(frozen=True)
class InputSpec:
    """One --input: a name ("" where none is given), a shape, and a dtype or None for the module's."""

    name: str
    shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class Example:
    """What a module is called with. `names` are those of the tensors in it, in the order of ONNX's inputs."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    dynamic_shapes: Any = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, in the order of ONNX's inputs."""
        return tuple(leaf for leaf in self._leaves()[0] if isinstance(leaf, Tensor))

    def with_tensors(self, tensors: Sequence[Tensor]) -> Example:
        """Return the same call with other tensors."""
        leaves, spec = self._leaves()
        others = iter(tensors)
        filled = [next(others) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return replace(self, args=args, kwargs=kwargs)

    def _leaves(self) -> tuple[list[Any], Any]:
        return pytree.tree_flatten((self.args, dict(self.kwargs)))


def parse_input(text: str) -> InputSpec:
    """Return "x:2,3,224,224:float16" as a spec; the name and the dtype may be left out. Raises UsageError."""
    parts = text.split(":")
    dtype = parts.pop() if len(parts) > 1 and parts[-1] and not _is_shape(parts[-1]) else None
    shape, name = parts.pop(), ":".join(parts)
    if not _is_shape(shape) or (parts and not name):
        raise UsageError(f"--input {text!r}: write it as NAME:1,3,224,224 or NAME:1,3,224,224:DTYPE")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--input {text!r}: {dtype!r} is no dtype; known: {', '.join(DTYPES)}")
    return InputSpec(name, tuple(int(size) for size in shape.split(",") if size), dtype)


def make_example(
    module: nn.Module, given: Any, inputs: Sequence[InputSpec], dynamic: Sequence[DynamicAxis], dtype: str | None = None
) -> Example:
    """Return what `module` is traced with: `given`, else its own example, with `inputs` in place of what they name.

    given: a tensor, a tuple of positional arguments, or a dict of arguments by name. Floating tensors become `dtype`.

    Raises UsageError for names, axes and sizes that do not fit the module's forward, ExportError where the module's
    own example cannot be had.
    """
    signature = _Signature.of(module)
    own = given if given is not None else _own(module)
    if inputs:
        args, kwargs = _replaced(signature, own, inputs, default=dtype or _dtype_of(module))
    elif own is None and not signature.takes_nothing:
        raise UsageError(_none_given(signature))
    else:
        args, kwargs = _arguments(() if own is None else own)
    cast = pytree.tree_map(lambda leaf: _as_dtype(leaf, dtype), (args, dict(kwargs)))
    example = _apart(Example(cast[0], cast[1], ()))
    named = _named(signature, example)
    shapes = dynamic_shapes(named, dynamic, by_name=bool(example.kwargs)) if dynamic else None
    return replace(example, names=_names(named), dynamic_shapes=shapes)


def _apart(example: Example) -> Example:
    """Return the same call with a copy of each tensor that occurs again: torch.export takes it for the same input."""
    first = {id(tensor): at for at, tensor in reversed([*enumerate(example.tensors)])}
    tensors = (tensor if first[id(tensor)] == at else tensor.clone() for at, tensor in enumerate(example.tensors))
    return example.with_tensors([*tensors])


@dataclass(frozen=True)
class _Signature:
    """The parameters of a module's forward: names in order, those that need a value, and whether there are any more."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    keyword_only: frozenset[str]
    is_open: bool

    @classmethod
    def of(cls, module: nn.Module) -> _Signature:
        found = inspect.signature(module.forward).parameters.values()
        plain = [item for item in found if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
        return cls(
            tuple(item.name for item in plain),
            tuple(item.name for item in plain if item.default is item.empty),
            frozenset(item.name for item in plain if item.kind is item.KEYWORD_ONLY),
            len(plain) < len(found),
        )

    @property
    def takes_nothing(self) -> bool:
        """Whether forward has no parameter at all."""
        return not self.names and not self.is_open

    def __str__(self) -> str:
        return ", ".join(self.names) or ("no inputs" if self.takes_nothing else "no named inputs")


def _is_shape(text: str) -> bool:
    return all(size.isdigit() for size in text.split(",")) if text else False


def _dtype_of(module: nn.Module) -> str:
    """The dtype of the module's floating weights, by name."""
    found = next((item.dtype for item in module.parameters() if item.is_floating_point()), torch.float32)
    return next((name for name, dtype in DTYPES.items() if dtype == found), "float32")


def _none_given(signature: _Signature) -> str:
    first = signature.names[0] if signature.names else "x"
    return (
        f"no example inputs: give --input {first}:SHAPE (the module's forward takes {signature}), "
        "or let the module have a method example_inputs() that returns them"
    )


def _own(module: nn.Module) -> Any:
    """Return the module's own example by one of the conventions, None where it has none."""
    for name in _CONVENTIONS:
        found = getattr(module, name, None)
        if found is not None:
            return _called(found, f"{type(module).__name__}.{name}")
    return None


def _called(found: Callable[[], Any] | Any, what: str) -> Any:
    if not callable(found) or isinstance(found, nn.Module):
        return found
    try:
        result = found()
    except Exception as error:
        raise ExportError(f"{what}() fails: {said(error)}{at(error)}") from error
    is_pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], tuple)
    return {"args": result[0], "kwargs": result[1] or {}} if is_pair and _is_keywords(result[1]) else result


def _is_keywords(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(key, str) for key in value))


def _arguments(found: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(found, Mapping):
        if set(found) == {"args", "kwargs"}:
            return tuple(found["args"]), dict(found["kwargs"])
        return (), dict(found)
    return (tuple(found), {}) if isinstance(found, (tuple, list)) else ((found,), {})


def _replaced(
    signature: _Signature, own: Any, inputs: Sequence[InputSpec], default: str
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments with a made-up tensor for each spec, under its name or by position."""
    args, kwargs = _arguments(own if own is not None else ())
    bound = {**dict(zip(signature.names, args, strict=False)), **kwargs}
    seen: set[str] = set()
    for number, spec in enumerate(inputs):
        name = spec.name or _positional(signature, number)
        if name not in signature.names and not signature.is_open:
            raise UsageError(f"--input {name}: the module has no such input; its forward takes {signature}")
        if name in seen:
            raise UsageError(f"--input {name}: given twice")
        seen.add(name)
        known = bound.get(name)
        dtype = spec.dtype or (_name_of(known.dtype) if isinstance(known, Tensor) else default)
        bound[name] = _made(spec.shape, dtype, number)
    missing = [name for name in signature.required if name not in bound]
    if missing:
        raise UsageError(f"--input: nothing is given for {', '.join(missing)}; the module's forward takes {signature}")
    return _in_order(signature, bound)


def _positional(signature: _Signature, number: int) -> str:
    if number < len(signature.names):
        return signature.names[number]
    if signature.is_open:
        return f"input_{number}"
    raise UsageError(f"--input: {number + 1} shapes are given, and the module's forward takes {signature}")


def _in_order(signature: _Signature, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return values by name as positional arguments, as far as none is left out, and the others by name."""
    args: list[Any] = []
    rest = dict(bound)
    for name in signature.names:
        if name not in rest or name in signature.keyword_only:
            break
        args.append(rest.pop(name))
    if signature.is_open and not signature.names:
        return tuple(bound.values()), {}
    return tuple(args), rest


def _made(shape: tuple[int, ...], dtype: str, number: int) -> Tensor:
    kind = DTYPES[dtype]
    if not kind.is_floating_point:
        return torch.ones(shape, dtype=kind) if dtype == "bool" else torch.zeros(shape, dtype=kind)
    generator = torch.Generator().manual_seed(number)
    return torch.randn(shape, generator=generator).to(kind)


def _name_of(dtype: torch.dtype) -> str:
    return next((name for name, known in DTYPES.items() if known == dtype), "float32")


def _as_dtype(leaf: Any, dtype: str | None) -> Any:
    is_float = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf.to(DTYPES[dtype]) if dtype is not None and is_float else leaf


def _named(signature: _Signature, example: Example) -> dict[str, Any]:
    """Return the arguments by the names of the parameters."""
    return {**dict(zip(_positions(signature, len(example.args)), example.args, strict=True)), **example.kwargs}


def _names(named: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what PyTorch's exporter calls the tensors: the parameter, and the way into it where it is no tensor."""
    found = []
    for name, value in named.items():
        for path, leaf in pytree.tree_flatten_with_path(value)[0]:
            if isinstance(leaf, Tensor):
                found.append("_".join([name, *(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)]))
    return tuple(found)


def _positions(signature: _Signature, count: int) -> list[str]:
    return [signature.names[i] if i < len(signature.names) else f"input_{i}" for i in range(count)]


def describe(tensors: Sequence[Tensor], names: Sequence[str]) -> str:
    """Return "x float32[2, 3, 224, 224], ids int64[2, 10]"."""
    pairs = zip(names, tensors, strict=True)
    return ", ".join(f"{name} {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}" for name, tensor in pairs)
