"""Squares with many swaps at once: in PyTorch before the export, and in ONNX after it, each at its own path."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from onnx import ModelProto
from torch import nn

import onnxact
from onnxact.torch import swap
from onnxact.torch.alike import difference
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


class Ends(NamedTuple):
    """The models at both ends of a square."""

    onnx_first: ModelProto
    torch_first: ModelProto

    def demand_same(self) -> None:
        """Fail unless both are the same up to names, which needs no run to tell."""
        assert not difference(*self)

    def demand_equivalent(self, **options: Any) -> None:
        """Run both; what no input reached may be left to say where both are the same up to names, and nothing else."""
        verdict = onnxact.check(self.onnx_first, with_own_names(self.torch_first), **options)
        assert set(verdict.output_outcomes().values()) == {"equivalent"}, verdict.summary()
        if verdict.outcome != "inconclusive":
            verdict.raise_unless_equivalent()
        self.demand_same()


def walk(module: nn.Module, model: ModelProto, inputs: Any, exchanges: Sequence[Exchange]) -> Ends:
    """Make all exchanges on both ways; each has to find something on both. `model`: the module as it is, exported."""
    swapped = copy.deepcopy(module)
    for exchange in exchanges:
        path = rf"^{re.escape(exchange.path)}([./][^./]*)?$" if exchange.path else "^[^./]*$"
        others = {other.path for other in exchanges} - {exchange.path, ""}
        where: dict[str, Any] = {"include": [path], "exclude": [rf"^{re.escape(p)}(/[^./]*)?$" for p in others]}
        in_torch = swap(swapped, exchange.source, exchange.to, inplace=True, **where)
        parameters = onnx_parameters(in_torch)
        in_onnx = onnxact.swap(model, exchange.source, exchange.to, parameters=parameters, **where)
        assert in_torch.sites and in_onnx.sites, (exchange, in_torch.summary(), in_onnx.summary())
        left = [skip for skip in in_onnx.skipped if not skip.reason.startswith("is part of a ")]
        assert not in_torch.skipped and not left, "parts are of what an earlier exchange put there"
        swapped, model = in_torch.module, in_onnx.proto
    return Ends(model, exported(swapped, inputs))


def sites_by_path(module: nn.Module) -> list[tuple[str, str]]:
    """Return the path and activation of every submodule that is one, and of every submodule whose code calls one."""
    found: dict[tuple[str, str], None] = {}
    for source in ROWS:
        for site in swap(module, source, "tanh" if source != "tanh" else "relu").sites:
            path = site.path.rpartition(".")[0] if site.function else site.path
            found[path, source] = None
    return list(found)


def rounds(module: nn.Module) -> list[list[Exchange]]:
    """Return lists of exchanges, one at each place, in which each activation of the module meets every other.

    Where an activation stands in several places, each round gives them as many targets.
    """
    places: dict[str, list[str]] = {}
    for path, source in sites_by_path(module):
        places.setdefault(source, []).append(path)
    count = max(-(-(len(ROWS) - 1) // len(paths)) for paths in places.values())
    return [
        [
            Exchange(path, source, others[(number * len(paths) + position) % len(others)])
            for source, paths in places.items()
            for others in [[name for name in ROWS if name != source]]
            for position, path in enumerate(paths)
        ]
        for number in range(count)
    ]
