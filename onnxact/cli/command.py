"""A typer command that leaves the texts of its options to `options`.

typer converts every value by a pydantic schema, also one that was not given; pydantic takes half as long to import as
onnx (typer 0.29). Here an option is a text, a list of texts, or a flag, and nothing is converted.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_TEXTS = (str, list, tuple)


class _Option(TyperOption):
    """An option whose value is what was given."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return _as_given(self, value) if _is_plain(self, value) else super().process_value(ctx, value)


class _Argument(TyperArgument):
    """An argument whose value is what was given."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return _as_given(self, value) if _is_plain(self, value) else super().process_value(ctx, value)


class PlainCommand(TyperCommand):
    """A command whose parameters are annotated as str, list[str], bool, or one of these or None."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return what typer made of the signature, and --help."""
        return [_left_plain(parameter) for parameter in super().get_params(ctx)]


class PlainGroup(TyperGroup):
    """The command above the commands; its parameters are flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return what typer made of the signature, and --help."""
        return [_left_plain(parameter) for parameter in super().get_params(ctx)]


def _left_plain(parameter: Any) -> Any:
    plain: dict[type, type] = {TyperOption: _Option, TyperArgument: _Argument}
    parameter.__class__ = plain.get(type(parameter), type(parameter))
    return parameter


def _is_plain(parameter: TyperOption | TyperArgument, value: Any) -> bool:
    """Whether a value needs no conversion: a text, or nothing where nothing is needed (--help, not given, is one)."""
    if value is None:
        return not parameter.required
    return isinstance(value, _TEXTS) and parameter.callback is None


def _as_given(parameter: TyperOption | TyperArgument, value: Any) -> Any:
    return () if value is None and parameter.multiple else value
