"""A PyTorch module with all options -> a checked ONNX file, its activations swapped and decomposed on the way.

module -> torch.onnx.export -> judged against eager PyTorch -> each swap, judged -> the decomposition, judged -> OUT

Nothing appears at OUT until all of it is done, and nothing that was found to be different ever does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import ModelProto, helper

from onnxact.errors import UsageError
from onnxact.interop import FileSource
from onnxact.model.view import View
from onnxact.results import SCHEMA, Inspection, Result, op_counts, skip_json
from onnxact.rewrite.select import Selection
from onnxact.verbs import Rewrite, decomposing, swapping

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from onnxact.check import Drift, Verdict
    from onnxact.export.making import Made
    from onnxact.export.mending import Mend
    from onnxact.model.edit import Skip
    from onnxact.rewrite.site import Site

Progress = Callable[[str, float], None]
EXTERNAL_FROM = 2**28
"""Bytes of weights from which they get a file of their own: protobuf ends at 2 GB, and below it needs copies."""
_PER_CHANNEL = "per-channel"


@dataclass(frozen=True)
class Step:
    """One rewrite of the exported model, and what was found when it was checked."""

    what: str
    result: Result
    verdict: Verdict | None = None
    drift: Drift | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps."""
        found = {"what": self.what, **self.result.to_json(), "input": None, "output": None}
        if self.verdict is not None:
            found["check"] = self.verdict.to_json()
        if self.drift is not None:
            found["drift"] = [vars(output) for output in self.drift.outputs]
        return found


@dataclass(frozen=True)
class Exported:
    """What an export did.

    `files`: what was written, the model first; nothing where it was found to be different, had nothing to rewrite, or
    was not to be written. `proto` is the model, with external data in the second of `files`. `op_counts`, `sites` and
    `verdict` are about the model as PyTorch's exporter wrote it, the verdicts of `steps` about what was made of it;
    None where nothing was checked. `mends`: nodes that were not written as PyTorch's exporter would. `mode`: that it
    is the module's evaluation mode, or, for an ExportedProgram, the one in which that was exported.
    """

    source: str
    output: Path
    files: tuple[Path, ...]
    proto: ModelProto = field(repr=False)
    opset: int
    mode: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    op_counts: Mapping[str, int]
    sites: tuple[Site, ...] = field(repr=False)
    skipped: tuple[Skip, ...] = field(repr=False)
    mends: tuple[Mend, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    steps: tuple[Step, ...] = ()

    @property
    def model(self) -> str:
        """The path of the model."""
        return str(self.output)

    @property
    def inspection(self) -> Inspection:
        """The activations of the model as PyTorch's exporter wrote it."""
        return Inspection(self.sites, (), self.op_counts)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, in the order of what they are about."""
        return tuple(item for item in (self.verdict, *(step.verdict for step in self.steps)) if item is not None)

    @property
    def lacking(self) -> Step | None:
        """The first step that found nothing to rewrite."""
        return next((step for step in self.steps if not step.result.changed), None)

    @property
    def exit_code(self) -> int:
        """0 done; 1 something is different; 4 something is inconclusive, or a step found nothing to rewrite."""
        codes = [verdict.exit_code for verdict in self.verdicts]
        return 1 if 1 in codes else 4 if 4 in codes or (self.lacking is not None and not self.files) else 0

    def raise_unless_equivalent(self) -> None:
        """Raise NotEquivalent, an AssertionError with the evidence, for the first verdict that is another."""
        for verdict in self.verdicts:
            verdict.raise_unless_equivalent()

    def summary(self) -> str:
        """Return what was exported, what was mended, and what was found, in lines."""
        kinds = Counter(f"{site.activation} ({site.form})" for site in self.sites)
        lines = [f"{self.source}: opset {self.opset}, {self.mode}, {', '.join(self.inputs) or 'no inputs'}"]
        lines += [f"  {count} x {kind}" for kind, count in kinds.most_common()]
        lines += [f"  mended {mend.node}: {mend.reason}" for mend in self.mends]
        lines += [f"  {note}" for note in self.notes]
        if self.verdict is not None:
            lines += [f"  {line}" for line in self.verdict.summary()]
        for step in self.steps:
            lines += step.result.summary().splitlines()
            lines += [f"  {line}" for line in (step.verdict.summary() if step.verdict is not None else ())]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for json.dumps, after the schema of the documentation."""
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "verb": "export",
            "input": self.source,
            "output": str(self.files[0]) if self.files else None,
            "files": [str(path) for path in self.files],
            "opset": self.opset,
            "mode": self.mode,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "op_counts": dict(sorted(self.op_counts.items())),
            "sites": [site.describe() for site in self.sites],
            "skipped": [skip_json(skip) for skip in self.skipped],
            "mended": [mend.describe() for mend in self.mends],
            "notes": list(self.notes),
            "steps": [step.to_json() for step in self.steps],
        }
        if self.verdict is not None:
            found["check"] = self.verdict.to_json()
        return found


def export(
    module: nn.Module | ExportedProgram | str | Path,
    example_inputs: Any = None,
    output: str | Path | None = None,
    *,
    inputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
    dynamic_shapes: Any = None,
    opset: int | None = None,
    dtype: str | None = None,
    weights: str | Path | None = None,
    external_from: int = EXTERNAL_FROM,
    swap: Sequence[str] = (),
    decompose: str | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    check: Mapping[str, Any] | bool = True,
    allow_none: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Export a PyTorch module, in evaluation mode, to an ONNX file that is shown to compute the same.

    module: a module, which is left as it is; an ExportedProgram; or a text: "models/resnet.py:resnet18",
    "package.nets:build", "net.pt2". example_inputs: a tensor, a tuple of positional arguments, or a dict by name; None
    for the module's own (`example_inputs`, `example_arguments` or `example_input_array`). inputs: "x:1,3,224,224" or
    "ids:1,10:int64", made-up ones in place of those that they name. dynamic: "x:0=batch"; dynamic_shapes: the same as
    torch.export has it, with names in place of Dims. opset: PyTorch's default for None. dtype: "float16", "bfloat16",
    "float32" or "float64", of weights and floating inputs. weights: .safetensors or .pt, read without unpickling, for
    a module that is given as a text. external_from: bytes of weights from which they go into `<output>.data`.

    swap: "relu=leaky-relu:alpha=0.2"; decompose: the name of a form. Both work on the sites that `include` and
    `exclude` select by their names, which begin with the module's path ("layer1.0.relu/Relu").

    check: False for none, or options of onnxact.check as a mapping. What is found to be different is not written; what
    is inconclusive is.

    Raises MissingPackageError, UsageError, ExportError, ModelError, FileConflictError, ProviderError.
    """
    report = progress or _silent
    steps = _steps(swap, decompose, Selection(include, exclude))
    report("loading PyTorch", 0.0)
    from onnxact.export.quiet import require_torch

    require_torch()
    from onnxact.export.evidence import Judge
    from onnxact.export.making import Making, Wishes

    options = _options(check) if not dry_run else None
    judge = None if options is None else Judge.of(options)
    wishes = Wishes(example_inputs, tuple(inputs), tuple(dynamic), dynamic_shapes, opset, dtype, weights, external_from)
    making = Making.of(module, wishes, output, force=force, dry_run=dry_run, progress=report)
    with making.open(checked=judge is not None) as made:
        found = Exported(
            source=making.source,
            output=making.output,
            files=(),
            proto=made.proto,
            opset=made.opset,
            mode=made.mode,
            inputs=made.inputs,
            outputs=made.outputs,
            op_counts=op_counts(View(made.proto)),
            sites=made.sites,
            skipped=made.skipped,
            mends=made.mends,
            notes=made.notes,
        )
        if judge is not None:
            found = replace(found, verdict=made.judged(judge))
        for step in steps:
            if not _goes_on(found, allow_none=allow_none):
                break
            found = _carried_out(found, step, made, options)
        if _goes_on(found, allow_none=allow_none) and not dry_run:
            found = replace(found, files=made.staged.publish(force=force))
    return found


def _silent(_what: str, _done: float) -> None:
    return


def _options(check: Mapping[str, Any] | bool) -> Mapping[str, Any] | None:
    """Return the options of the check, None for no check."""
    if isinstance(check, Mapping):
        return dict(check)
    return {} if check else None


def _goes_on(found: Exported, *, allow_none: bool) -> bool:
    """Tell whether there is any use in going on: nothing is different, and every step had something to do."""
    different = any(verdict.outcome == "different" for verdict in found.verdicts)
    return not different and (allow_none or found.lacking is None)


def _steps(swaps: Sequence[str], form: str | None, selection: Selection) -> list[tuple[str, Rewrite]]:
    """Return what is to be done with the exported model, parsed before anything is run."""
    found = [(f"swap {text}", _swap(text, selection)) for text in swaps]
    if form is not None:
        found.append((f"decompose {form}", decomposing(form=form, selection=selection)))
    nothing = View(helper.make_model(helper.make_graph([], "nothing", [], [])))
    for _, rewrite in found:
        rewrite.plan(nothing)  # raises UsageError for what fits no model
    return found


def _swap(text: str, selection: Selection) -> Rewrite:
    """Return the swap that "relu=leaky-relu:alpha=0.2" asks for. Raises UsageError."""
    source, equals, rest = text.partition("=")
    to, *settings = rest.replace(",", ":").split(":")
    if not (equals and source.strip() and to.strip()):
        raise UsageError(
            f"--swap {text!r}: write it as FROM=TO or FROM=TO:NAME=VALUE, such as relu=leaky-relu:alpha=0.2"
        )
    parameters: dict[str, float] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if setting.strip() == _PER_CHANNEL:
            continue
        try:
            parameters[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--swap {text!r}: {setting!r} is no NAME=VALUE with a number") from error
    per_channel = any(setting.strip() == _PER_CHANNEL for setting in settings)
    return swapping("swap", source.strip(), to.strip(), parameters, per_channel=per_channel, selection=selection)


def _carried_out(found: Exported, step: tuple[str, Rewrite], made: Made, options: Mapping[str, Any] | None) -> Exported:
    """Rewrite the staged model, check that, and put it in place of the one before."""
    what, rewrite = step
    made.progress(what, 0.0)
    result = rewrite.run(FileSource(made.staged.path), None)
    if not result.changed:
        return replace(found, steps=(*found.steps, Step(what, result)))
    verdict, drift = None, None
    if options is not None:
        own = {
            "input_shapes": made.open_shapes,
            **{key: value for key, value in options.items() if key != "save_inputs"},
        }
        verdict = result.check(progress=made.progress, **own)
        if result.verb == "swap" and verdict.outcome != "different":
            drift = result.drift(**{key: own[key] for key in _INPUT_KEYS if key in own})
    made.staged.save(result.proto)
    return replace(found, proto=result.proto, steps=(*found.steps, Step(what, result, verdict, drift)))


_INPUT_KEYS = ("inputs", "input_shapes", "val_range", "seeds")
