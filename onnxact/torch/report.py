"""What a swap in PyTorch reports: the sites that it changed, and those that it left alone, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from onnxact.torch.classes import Meaning, Parameters
from onnxact.words import counted


@dataclass(frozen=True)
class Computed:
    """An activation and its parameters, as far as they are known."""

    activation: str
    params: Parameters = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = ", ".join(f"{name}={value:.6g}" for name, value in self.params.items())
        return f"{self.activation.replace('_', '-')}({numbers})" if numbers else self.activation.replace("_", "-")


@dataclass(frozen=True)
class Site:
    """One place where an activation is computed.

    `path`: the new submodule, as get_submodule takes it. `module`: the class that it stands in. `written`: what stood
    there. `function`, `file` and `line`: the call in the source, where it was not a submodule of its own. `slopes`: how
    many learnable slopes it has, 0 where it learns nothing. `note`: what a reader should know.
    """

    path: str
    module: str
    written: str
    before: Computed
    after: Computed
    function: str = ""
    file: str = ""
    line: int = 0
    in_place: bool = False
    slopes: int = 0
    note: str = ""

    def describe(self) -> dict[str, Any]:
        """Return plain data for json.dumps."""
        plain = {name: value for name, value in vars(self).items() if value}
        for name in ("before", "after"):
            computed: Computed = getattr(self, name)
            plain[name] = {"activation": computed.activation, "params": dict(computed.params)}
        return plain


@dataclass(frozen=True)
class Skip:
    """A place that was left alone although it looks as if it should not have been. `path` is the module around it."""

    path: str
    written: str
    reason: str
    function: str = ""
    file: str = ""
    line: int = 0

    @property
    def where(self) -> str:
        """The place in words."""
        place = f" in {self.function} ({self.file}:{self.line})" if self.function else ""
        return f"{self.path or 'the module'}: {self.written}{place}"


@dataclass(frozen=True)
class Swap:
    """What a swap did. Where there was nothing to change, `sites` is empty and `module` computes what it did.

    `found` counts the activations that the module has as submodules, for a report that has nothing else to say.
    `ran`: whether example inputs were given, which show what the code does not.
    """

    module: nn.Module = field(repr=False)
    source: str
    to: str
    parameters: Parameters
    sites: tuple[Site, ...]
    skipped: tuple[Skip, ...]
    found: Mapping[str, int] = field(default_factory=dict)
    ran: bool = False

    @property
    def changed(self) -> bool:
        """Whether any site was swapped."""
        return bool(self.sites)

    @property
    def notes(self) -> dict[str, list[str]]:
        """What a reader should know -> the paths that it is about."""
        found: dict[str, list[str]] = {}
        for site in self.sites:
            if site.note:
                found.setdefault(site.note, []).append(site.path)
        return found

    def summary(self) -> str:
        """Return what was changed, what was skipped and why, in lines."""
        lines = [f"swap: {counted(len(self.sites), 'site')} swapped, {len(self.skipped)} skipped"]
        kinds = Counter(f"{site.before} -> {site.after}" for site in self.sites)
        lines += [f"  {count} x {kind}" for kind, count in kinds.most_common()]
        for note, paths in self.notes.items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            lines.append(f"  {', '.join(paths[:3])}{more}: {note}")
        lines += [f"  skipped {skip.where}: {skip.reason}" for skip in self.skipped]
        if not self.ran:
            lines.append("  only the code was read; with inputs=, a run also shows calls that it does not show")
        if not self.sites:
            others = ", ".join(f"{count} x {name}" for name, count in self.found.items() if name != self.source)
            lines.append(f"  no {self.source.replace('_', '-')} was swapped; other activations: {others or 'none'}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps."""
        return {
            "schema": "onnxact/1",
            "verb": "torch.swap",
            "source": self.source,
            "to": {"activation": self.to, "params": dict(self.parameters)},
            "sites": [site.describe() for site in self.sites],
            "skipped": [vars(skip) for skip in self.skipped],
        }


def computed(meaning: Meaning) -> Computed:
    """Return what a meaning says, without where it writes."""
    return Computed(meaning.activation, dict(meaning.parameters))
