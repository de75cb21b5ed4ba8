"""(module, inputs) -> what one run sees: the channels that enter each new submodule, and calls that no code showed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.overrides import TorchFunctionMode

from onnxact.errors import UsageError
from onnxact.export.example import Example
from onnxact.torch.applying import Seen
from onnxact.torch.functionals import find_functional, names_of
from onnxact.torch.planning import Order, Plan
from onnxact.torch.report import Skip

_LAST = "_onnxact_features_last"
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Watched:
    """`seen`: by path of the new submodule. `missed`: activations that were computed and not swapped."""

    seen: Mapping[str, Seen] = field(default_factory=dict)
    missed: tuple[Skip, ...] = ()


def watch(root: nn.Module, plan: Plan, order: Order, example: Example) -> Watched:
    """Run a module that the plan was carried out on, in evaluation mode and without gradients; it is used up."""
    seen = {new.path: Seen() for new in plan.new.values()}
    for new in plan.new.values():
        _hook(new.owner.get_submodule(new.name), before=_noting(seen, new.path))
    for module in plan.tree.modules:
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            _hook(module, after=_mark)
    mode = _Mode(plan, order)
    try:
        with mode:
            run(root, example)
    except TorchDynamoException:  # torch.cond and its like compile what they call, and take no hooks there
        return Watched(dict.fromkeys(seen, Seen(blind=True)))
    return Watched(seen, tuple(mode.missed.values()))


def run(module: nn.Module, example: Example) -> None:
    """Call a module in evaluation mode, without gradients; the random state stays. Raises UsageError if it fails."""
    own = example.with_tensors([tensor.clone() for tensor in example.tensors])
    devices = list({p.device for p in module.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            module.eval()(*own.args, **own.kwargs)
    except TorchDynamoException:
        raise
    except Exception as error:  # whatever a user's forward raises
        raise UsageError(f"the module does not run on these inputs: {type(error).__name__}: {error}") from error


def _hook(module: nn.Module, *, before: Any = None, after: Any = None) -> None:
    """Add a hook to this module alone: those that took the place of a shared one have their hooks in common."""
    if before:
        module._forward_pre_hooks = module._forward_pre_hooks.copy()
        module.register_forward_pre_hook(before)
    if after:
        module.register_forward_hook(after)


def _mark(_module: nn.Module, _arguments: Any, output: Any) -> None:
    if isinstance(output, torch.Tensor) and output.dim() > 2:
        setattr(output, _LAST, True)


def _noting(seen: dict[str, Seen], path: str) -> Any:
    def note(_module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        calls, channels, last, _ = seen[path]
        size = arguments[0].shape[1] if arguments[0].dim() > 1 else 1
        seen[path] = Seen(calls + 1, channels | {size}, last or hasattr(arguments[0], _LAST))

    return note


class _Mode(TorchFunctionMode):
    """Notes calls of the activation by the line that makes them, unless that line was left alone on purpose."""

    def __init__(self, plan: Plan, order: Order) -> None:
        super().__init__()
        self.plan, self.order = plan, order
        self.names = names_of(order.source)
        self.missed: dict[tuple[str, int], Skip] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        functional = find_functional(func)
        if functional is not None and functional.name in self.names:
            values = dict(zip((name for name in functional.arguments if name), args[1:], strict=False)) | (kwargs or {})
            in_place = bool(values.pop("inplace", False))
            meaning = functional.meaning(values, in_place=in_place)
            floating = isinstance(args[0] if args else None, torch.Tensor) and args[0].is_floating_point()
            if meaning is not None and meaning.activation == self.order.source and floating:
                self._note(functional.name)
        return func(*args, **(kwargs or {}))

    def _note(self, written: str) -> None:
        path, frame = self._caller()
        if frame is None:
            return
        code, line = frame.f_code, frame.f_lineno
        known = code.co_filename.startswith("<onnxact ") or (code.co_filename, line) in self.plan.left
        function = getattr(code, "co_qualname", code.co_name)
        if not known and self.order.takes(path, function):
            reason = "it was called in a run, where the code did not show it"
            skip = Skip(path, written, reason, function, code.co_filename, line)
            self.missed.setdefault((code.co_filename, line), skip)

    def _caller(self) -> tuple[str, FrameType | None]:
        """Return the submodule around a call and the frame that makes it; none where a submodule is the activation."""
        frame, caller = sys._getframe(3), None
        while frame is not None:
            owner = frame.f_locals.get("self")
            inside = frame.f_code.co_filename.startswith(_TORCH)
            if caller is None and not inside:
                caller = frame
            if isinstance(owner, nn.Module) and self.plan.tree.has(owner):
                return self.plan.tree.path(owner), caller
            frame = frame.f_back  # type: ignore[assignment]
        return "", caller
