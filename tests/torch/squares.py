"""Squares with many swaps at once: in PyTorch before the export, and in ONNX after it, each at its own path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

import onnxact
from onnxact.check import Verdict
from onnxact.torch import swap
from onnxact.torch.classes import ROWS, find_target
from onnxact.torch.square import exported, onnx_parameters, with_own_names


class Exchange(NamedTuple):
    """One activation for another in the submodule at a path."""

    path: str
    source: str
    to: str


class Pairs(nn.Module):
    """One branch for each pair: a diagonal matrix that spreads the inputs over both sides of every kink, then `source`.

    The matrices differ, else the exporter would compute equal branches once.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__()
        self.pairs = nn.ModuleDict()
        for number, (source, to) in enumerate((s, t) for s in sources for t in ROWS if s != t):
            spread = nn.Linear(6, 6, bias=False)
            spread.weight.data.zero_().fill_diagonal_(2.0 + number / 64)
            self.pairs[f"{source}__{to}"] = nn.Sequential(spread, find_target(source, {}).build(in_place=False))

    def forward(self, x: Any) -> Any:
        """Return the outputs of all branches by name."""
        return {name: branch(x) for name, branch in self.pairs.items()}

    @property
    def exchanges(self) -> list[Exchange]:
        """The swaps that its branches are for."""
        return [Exchange(f"pairs.{name}.1", *name.split("__")) for name in self.pairs]


def check_squares(module: nn.Module, inputs: Any, exchanges: Sequence[Exchange], **options: Any) -> Verdict:
    """Return the verdict on both ways round, with all exchanges made on each; each has to find something on both."""
    swapped, model = module, exported(module, inputs)
    for exchange in exchanges:
        path = rf"^{re.escape(exchange.path)}([./][^./]*)?$" if exchange.path else "^[^./]*$"
        in_torch = swap(swapped, exchange.source, exchange.to, include=path, inplace=swapped is not module)
        parameters = onnx_parameters(in_torch)
        in_onnx = onnxact.swap(model, exchange.source, exchange.to, parameters=parameters, include=[path])
        assert in_torch.sites and in_onnx.sites, (exchange, in_torch.summary(), in_onnx.summary())
        assert not in_torch.skipped and not in_onnx.skipped
        swapped, model = in_torch.module, in_onnx.proto
    return onnxact.check(model, with_own_names(exported(swapped, inputs)), **options)


def demand_same(verdict: Verdict) -> None:
    """Raise NotEquivalent unless all outputs agree; that some branches were not reached may be left to say."""
    unreached = all("no value" in reason for reason in verdict.reasons)
    agree = set(verdict.output_outcomes().values()) == {"equivalent"}
    if verdict.outcome == "different" or not agree or not unreached:
        verdict.raise_unless_equivalent()


def sites_by_path(module: nn.Module) -> list[tuple[str, str]]:
    """Return the path and activation of every submodule that is one, and of every submodule whose code calls one."""
    found: dict[tuple[str, str], None] = {}
    for source in ROWS:
        for site in swap(module, source, "tanh" if source != "tanh" else "relu").sites:
            path = site.path.rpartition(".")[0] if site.function else site.path
            found[path, source] = None
    return list(found)


def rotated(module: nn.Module, start: int) -> list[Exchange]:
    """Return one exchange for each path and activation of a module, each to the next other activation of the table."""
    exchanges = []
    for number, (path, source) in enumerate(sites_by_path(module)):
        targets = [name for name in ROWS if name != source]
        exchanges.append(Exchange(path, source, targets[(start + number) % len(targets)]))
    return exchanges
