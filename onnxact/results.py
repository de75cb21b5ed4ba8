"""What the verbs of the library return: sites and changes, a model, a report, and the evidence on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from onnxact.interop import Source
from onnxact.model.edit import Skip
from onnxact.model.view import View
from onnxact.rewrite.draft import Change, Draft
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.decide import Decision
from onnxact.words import counted

if TYPE_CHECKING:
    import os

    from onnxact.check import Drift, Verdict
    from onnxact.check.drawing import ValRange
    from onnxact.check.equivalence import Progress
    from onnxact.check.feeding import Given as Inputs
    from onnxact.check.runners.backend import Backend
    from onnxact.check.standings import Timing
    from onnxact.check.tolerance import Given as Tolerances

Model = Any
"""A path, an onnx.ModelProto, an onnx_graphsurgeon.Graph or an onnx_ir.Model."""
SCHEMA = "onnxact/1"


@dataclass(frozen=True)
class Inspection:
    """What was found in a model; for a `target`, also what becomes of each site there, and what else is to be said."""

    sites: tuple[Site, ...]
    skipped: tuple[Skip, ...]
    op_counts: Mapping[str, int]
    input: str = ""
    target: str = ""
    decisions: tuple[Decision, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps, after the schema of the documentation."""
        described = [site.describe() for site in self.sites]
        if self.target:
            described = [{**site, "target": d.describe()} for site, d in zip(described, self.decisions, strict=True)]
        about = {"target": self.target, "remarks": list(self.remarks)} if self.target else {}
        return {
            "schema": SCHEMA,
            "verb": "inspect",
            "input": self.input or None,
            **about,
            "sites": described,
            "skipped": [skip_json(skip) for skip in self.skipped],
            "op_counts": dict(sorted(self.op_counts.items())),
        }

    def summary(self) -> str:
        """Return the sites by activation and form, in lines."""
        kinds = Counter((site.activation, site.form) for site in self.sites)
        lines = [f"{count} x {activation} ({form})" for (activation, form), count in kinds.most_common()]
        return "\n".join(lines) or "no activations"


@dataclass(frozen=True)
class Result:
    """What a verb did. `model` is of the kind that was handed in: for a path, the path written.

    `proto` is the rewritten model itself, with external data left in its files. Where there was nothing to change,
    `sites` is empty and `model` is the model as it was.
    """

    verb: str
    model: Model
    proto: ModelProto = field(repr=False)
    input: str
    output: str
    _draft: Draft = field(repr=False)
    _source: Source = field(repr=False)
    _op_types: Sequence[Sequence[str]] = field(repr=False)
    target: str = ""
    partial: bool = False
    timing: Timing | None = None
    """What was measured, where the fastest forms were looked for."""

    @property
    def changed(self) -> bool:
        """Whether any site was rewritten."""
        return bool(self._draft.plan.edits)

    @property
    def left(self) -> tuple[Skip, ...]:
        """The skips of what the target is known not to run, or the ops allowed cannot express, with every reason."""
        return tuple(self._draft.left)

    @property
    def unfinished(self) -> bool:
        """Whether something is left that the target does not run, and that was not accepted: nothing is written."""
        return bool(self._draft.left) and not self.partial

    @property
    def looked_at(self) -> int:
        """For a target: how many activations were selected."""
        return self._draft.looked_at

    @property
    def passed_over(self) -> int:
        """For a target: how many activations that it does not run, as far as is known, were not selected."""
        return self._draft.passed_over

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else there is to say about the model on the target."""
        return tuple(self._draft.remarks)

    @property
    def taken_apart(self) -> tuple[Site, ...]:
        """Fused nodes without an activation that became standard nodes, or again what they were."""
        return tuple(self._draft.others)

    @property
    def sites(self) -> tuple[Change, ...]:
        """The sites that were rewritten, each before and after."""
        return self._draft.changes

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """The sites that were left alone although they look as if they should not have been, with the reason."""
        return self._draft.plan.skips

    @property
    def ops_before(self) -> Counter[str]:
        """Op type -> number of nodes in all scopes of the model as it was."""
        return Counter(chain.from_iterable(self._op_types))

    @property
    def ops_after(self) -> Counter[str]:
        """Op type -> number of nodes in all scopes of the rewritten model."""
        return op_counts(View(self.proto))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps, after the schema of the documentation."""
        left = {"left": [skip_json(skip) for skip in self.left]} if self.left else {}
        about = self._about_target() if self.target else left
        apart = [{"scope": s.scope.path, "node": s.node, "output": s.output, "op": s.form} for s in self.taken_apart]
        return {
            "schema": SCHEMA,
            "verb": self.verb,
            "input": self.input or None,
            "output": self.output or None,
            **about,
            **({"timing": self.timing.describe()} if self.timing is not None else {}),
            "sites": [change.describe() for change in self.sites],
            **({"taken_apart": apart} if apart else {}),
            "skipped": [skip_json(skip) for skip in self.skipped],
            "op_counts": {
                "before": dict(sorted(self.ops_before.items())),
                "after": dict(sorted(self.ops_after.items())),
            },
        }

    def _about_target(self) -> dict[str, Any]:
        left = [skip_json(skip) for skip in self.left]
        return {"target": self.target, "left": left, "not_selected": self.passed_over, "remarks": list(self.remarks)}

    def summary(self) -> str:
        """Return what was changed, what was skipped and why, in lines."""
        kinds = Counter(f"{c.site.activation} ({c.site.form}) -> {c.activation} ({c.form})" for c in self.sites)
        lines = [f"{self.verb}: {counted(len(self.sites), 'site')} rewritten, {len(self.skipped)} skipped"]
        lines += [f"  {count} x {kind}" for kind, count in kinds.most_common()]
        lines += [f"  skipped {skip.node or '(unnamed)'}: {skip.reason}" for skip in self.skipped]
        return "\n".join(lines)

    def check(
        self,
        *,
        providers: str | Sequence[str] | None = None,
        backend: str | Backend | None = None,
        inputs: Inputs | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        val_range: ValRange | None = None,
        seeds: Sequence[int] = (0, 1),
        save_inputs: str | os.PathLike[str] | None = None,
        rtol: Tolerances = None,
        atol: Tolerances = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
        session_options: Mapping[str, Any] | None = None,
        tf32: bool = False,
        folder: str | os.PathLike[str] | None = None,
        memory_budget: int = 1 << 28,
        diagnose: bool = True,
        progress: Progress | None = None,
    ) -> Verdict:
        """Return the evidence that the rewrite is right; options as for `onnxact.check`.

        A decomposition or fusion is compared with the model as it was handed in. A swap means another function: it
        is compared with that model in which every rewritten site stands in another form of the new activation, and is
        "different" also where the model as it was handed in runs and the result does not. Where a fused node is taken
        apart, all sites of both models are looked at, and the parts around those of one. Where ONNX Runtime cannot
        load the model as it was handed in, the verdict is "inconclusive".
        """
        from onnxact.check import UnloadableError, Verdict
        from onnxact.check import check as judge
        from onnxact.check.rewritten import needs_exact, probes
        from onnxact.check.swapped import check_swap

        options: dict[str, Any] = {
            "providers": providers,
            "backend": backend,
            "inputs": inputs,
            "input_shapes": input_shapes,
            "val_range": val_range,
            "seeds": seeds,
            "save_inputs": save_inputs,
            "rtol": rtol,
            "atol": atol,
            "provider_options": provider_options,
            "session_options": session_options,
            "tf32": tf32,
            "memory_budget": memory_budget,
            "diagnose": diagnose,
            "progress": progress,
            "folder": self._source.folder if folder is None else folder,
        }
        original = self._source.original()
        if self.verb.startswith("swap"):
            return check_swap(original, self.proto, self.sites, **options)
        try:
            seen = probes(self.sites) if all(change.is_elementwise for change in self.sites) else ()
            exact = needs_exact(self.sites) and not self.taken_apart
            return judge(original, self.proto, sites=seen, exact=exact, **options)
        except UnloadableError as error:
            return Verdict("different" if error.is_after else "inconclusive", (str(error),))

    def drift(
        self,
        *,
        provider: str = "cpu",
        inputs: Inputs | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        val_range: ValRange | None = None,
        seeds: Sequence[int] = (0, 1),
        folder: str | os.PathLike[str] | None = None,
    ) -> Drift:
        """Return how far the outputs moved: what a swap did to the model's numbers; options as for `check`."""
        from onnxact.check import drift

        return drift(
            self._source.original(),
            self.proto,
            provider=provider,
            inputs=inputs,
            input_shapes=input_shapes,
            val_range=val_range,
            seeds=seeds,
            folder=self._source.folder if folder is None else folder,
        )


def skip_json(skip: Skip) -> dict[str, str]:
    """Return a skip as plain data."""
    return {"scope": skip.scope, "node": skip.node, "reason": skip.reason}


def op_counts(view: View) -> Counter[str]:
    """Return op type -> number of nodes in all scopes."""
    return Counter(chain.from_iterable(scope.op_types for scope in view.scopes))
