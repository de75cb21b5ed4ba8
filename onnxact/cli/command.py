"""A typer command that leaves the texts of its options to `options`.

typer converts every value by a pydantic schema, also one that was not given; pydantic takes half as long to import as
onnx (typer 0.29). Here an option is a text, a list of texts, or a flag, and nothing is converted.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption

_TEXTS = (str, list, tuple)


class _Option(TyperOption):
    """An option whose value is what was given."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _is_plain(self, value) else super().process_value(ctx, value)


class _Argument(TyperArgument):
    """An argument whose value is what was given."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _is_plain(self, value) else super().process_value(ctx, value)


class PlainCommand(TyperCommand):
    """A command whose parameters are annotated as str, list[str], bool, or one of these or None."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **settings: Any) -> None:
        plain = {TyperOption: _Option, TyperArgument: _Argument}
        for parameter in params or ():
            parameter.__class__ = plain.get(type(parameter), type(parameter))
        super().__init__(*args, params=params, **settings)


def _is_plain(parameter: TyperOption | TyperArgument, value: Any) -> bool:
    if parameter.callback is not None:
        return False
    return isinstance(value, _TEXTS) or (value is None and not parameter.required)
