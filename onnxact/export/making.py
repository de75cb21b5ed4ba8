"""(a module or the text that names one, wishes) -> the module's ONNX model, staged beside its output."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from onnx import ModelProto
from torch import nn
from torch.export import ExportedProgram

from onnxact.check.verdict import Verdict
from onnxact.errors import ExportError, UsageError
from onnxact.export import target as targets
from onnxact.export.admitted import BFLOAT16_OPSET, demand_types
from onnxact.export.archive import as_exported, load_program
from onnxact.export.dynamic import parse_dynamic
from onnxact.export.eager import Eager, as_module, demand_runs, demand_values, device_of, evaluating
from onnxact.export.evidence import Judge, Progress, open_shapes
from onnxact.export.example import DTYPES, Example, describe, make_example, parse_input
from onnxact.export.mending import Mend, mends
from onnxact.export.staging import Staged, demand_writable, staging
from onnxact.export.translation import Translation, demand_opset, translate
from onnxact.export.weights import load_weights
from onnxact.model.edit import Skip
from onnxact.model.view import View
from onnxact.rewrite.find import find
from onnxact.rewrite.site import Site

EVALUATION = "evaluation mode"
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Wishes:
    """What a caller asks for; as onnxact.export's arguments of these names."""

    example_inputs: Any
    inputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    dynamic_shapes: Any
    opset: int | None
    dtype: str | None
    weights: str | Path | None
    external_from: int

    def demand_sense(self) -> None:
        """Raise UsageError for wishes that make no sense, whatever the module is."""
        demand_opset(self.opset)
        if self.dtype is not None and self.dtype not in _FLOATS:
            raise UsageError(f"--dtype {self.dtype!r}: expected {', '.join(_FLOATS)}")
        if self.dynamic and self.dynamic_shapes is not None:
            raise UsageError("give dynamic or dynamic_shapes, not both")
        if self.external_from < 0:
            raise UsageError(f"external data from {self.external_from} bytes: expected 0 or more")
        for text in self.inputs:
            parse_input(text)
        for text in self.dynamic:
            parse_dynamic(text)


@dataclass(frozen=True)
class Made:
    """A staged model, and what it was made from."""

    proto: ModelProto
    staged: Staged
    opset: int
    mode: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sites: tuple[Site, ...]
    skipped: tuple[Skip, ...]
    mends: tuple[Mend, ...]
    notes: tuple[str, ...]
    progress: Progress
    eager: Eager
    program: ExportedProgram

    @property
    def open_shapes(self) -> dict[str, tuple[int, ...]]:
        """The example's shapes of inputs that have a dynamic axis."""
        return open_shapes(self.proto, self.eager)

    def judged(self, judge: Judge) -> Verdict:
        """Return whether the staged model computes what the module does."""
        return judge.run(self.eager, self.program, self.staged, self.progress)


@dataclass(frozen=True)
class Making:
    """A module that is open, with its example; `open` makes the model."""

    source: str
    module: nn.Module
    program: ExportedProgram | None
    example: Example
    wishes: Wishes
    output: Path
    force: bool
    dry_run: bool
    progress: Progress

    @classmethod
    def of(
        cls,
        module: nn.Module | ExportedProgram | str | Path,
        wishes: Wishes,
        output: str | Path | None,
        *,
        force: bool,
        dry_run: bool,
        progress: Progress,
    ) -> Making:
        """Open the module and look at every wish, before anything that takes long."""
        wishes.demand_sense()
        opened = _Opened.of(module, wishes)
        demand_values(opened.module)
        path = Path(output) if output is not None else opened.default_output
        if path is None:
            raise UsageError("a module that is no file needs an output: name the .onnx file to write")
        if not dry_run:
            demand_writable(path, external=opened.weight_bytes >= wishes.external_from, force=force)
        example = opened.example(wishes)
        return cls(opened.source, opened.module, opened.program, example, wishes, path, force, dry_run, progress)

    @contextmanager
    def open(self, *, checked: bool) -> Iterator[Made]:
        """Yield the model, in a folder that is gone afterwards; the module is in evaluation mode until then.

        checked: whether it is going to be compared with the module, which is then run first.
        """
        with ExitStack() as stack:
            mode = as_exported(self.program) if self.program is not None else ""
            if self.program is None:
                was_training = stack.enter_context(evaluating(self.module))
                mode = "evaluation mode, although the module came in training mode" if was_training else EVALUATION
            staged = stack.enter_context(self._staging())
            if checked:
                self.progress("running in PyTorch", 0.0)
                demand_runs(self.module, self.example)
            self.progress("exporting", 0.0)
            translation = self._translation()
            self.progress("writing", 0.0)
            demand_types(translation.model, asked=self.wishes.opset)
            proto = staged.write(translation.model, self.wishes.external_from)
            yield self._made(proto, staged, translation, mode)

    def _translation(self) -> Translation:
        """Return the module in ONNX. Where there is none, a run in PyTorch tells whether the module is to blame."""
        subject = self.program if self.program is not None else self.module
        try:
            translation = translate(subject, self.example, opset=self._opset)
        except ExportError:
            demand_runs(self.module, self.example)
            raise
        if not translation.model.graph.outputs:
            demand_runs(self.module, self.example)
        return translation

    @property
    def _opset(self) -> int | None:
        """The opset asked for; without one, the first that admits bfloat16 where there is any, else PyTorch's own."""
        kinds = {item.dtype for item in (*self.module.parameters(), *self.example.tensors)}
        return BFLOAT16_OPSET if self.wishes.opset is None and torch.bfloat16 in kinds else self.wishes.opset

    @contextmanager
    def _staging(self) -> Iterator[Staged]:
        if not self.dry_run:
            with staging(self.output) as staged:
                yield staged
            return
        with TemporaryDirectory(prefix="onnxact-") as folder, staging(Path(folder) / self.output.name) as staged:
            yield staged

    def _made(self, proto: ModelProto, staged: Staged, translation: Translation, mode: str) -> Made:
        inputs = tuple(value.name for value in proto.graph.input)
        tensors = self.example.tensors
        if len(inputs) != len(tensors):
            raise ExportError(
                f"PyTorch's exporter made {len(inputs)} inputs ({', '.join(inputs)}) of {len(tensors)} tensors; "
                "give the module tensors and plain Python values only"
            )
        outputs = tuple(value.name for value in proto.graph.output)
        found = find(View(proto, staged.folder))
        return Made(
            proto=proto,
            staged=staged,
            opset=translation.opset,
            mode=mode,
            inputs=tuple(f"{name} {_type(tensor)}" for name, tensor in zip(inputs, tensors, strict=True)),
            outputs=outputs,
            sites=tuple(found.sites),
            skipped=tuple(found.skips),
            mends=mends(proto),
            notes=tuple(self._notes(translation)),
            progress=self.progress,
            eager=Eager(self.module, self.example, inputs, outputs, self.program is not None),
            program=translation.program,
        )

    def _notes(self, translation: Translation) -> Iterator[str]:
        if self.wishes.opset is None and self._opset is not None:
            yield f"opset {translation.opset}, since the ones before have ops that take no bfloat16"


def _type(tensor: torch.Tensor) -> str:
    return describe([tensor], [""]).strip()


@dataclass(frozen=True)
class _Opened:
    """A module or a program, where it is from, and where its model goes unless that is said."""

    source: str
    module: nn.Module
    program: ExportedProgram | None
    default_output: Path | None

    @classmethod
    def of(cls, module: nn.Module | ExportedProgram | str | Path, wishes: Wishes) -> _Opened:
        if isinstance(module, ExportedProgram):
            return cls._of_program(module, "an ExportedProgram", None, wishes)
        if isinstance(module, nn.Module):
            if wishes.weights is not None:
                raise UsageError("weights are for a module that is given as a text; load them into yours yourself")
            own = module if wishes.dtype is None else copy.deepcopy(module).to(DTYPES[wishes.dtype])
            return cls(type(module).__name__, own, None, None)
        text = str(module)
        if text.endswith(".pt2"):
            path = Path(text)
            return cls._of_program(load_program(path), text, path.with_suffix(".onnx"), wishes)
        named = targets.parse(text)
        built = targets.open_target(named)
        if wishes.weights is not None:
            load_weights(built, Path(wishes.weights))
        own = built if wishes.dtype is None else built.to(DTYPES[wishes.dtype])
        return cls(text, own, None, named.folder / f"{named.stem}.onnx")

    @classmethod
    def _of_program(cls, program: ExportedProgram, source: str, output: Path | None, wishes: Wishes) -> _Opened:
        for option, wish in (
            ("--input", wishes.inputs),
            ("--dynamic", wishes.dynamic or wishes.dynamic_shapes),
            ("--dtype", wishes.dtype),
            ("--weights", wishes.weights),
        ):
            if wish:
                raise UsageError(f"{option}: {source} is an exported program, in which that is settled; leave it out")
        return cls(source, as_module(program), program, output)

    @property
    def weight_bytes(self) -> int:
        """The size of parameters and buffers."""
        return sum(item.nbytes for item in (*self.module.parameters(), *self.module.buffers()))

    def example(self, wishes: Wishes) -> Example:
        """What the module is called with, where its weights are."""
        if self.program is None:
            found = make_example(
                self.module,
                wishes.example_inputs,
                [parse_input(text) for text in wishes.inputs],
                [parse_dynamic(text) for text in wishes.dynamic],
                wishes.dtype,
            )
            found = replace(found, dynamic_shapes=wishes.dynamic_shapes or found.dynamic_shapes)
        else:
            found = _stored_example(self.program, wishes.example_inputs, self.source)
        device = device_of(self.module)
        return found.with_tensors([tensor.to(device) for tensor in found.tensors])


def _stored_example(program: ExportedProgram, given: Any, source: str) -> Example:
    if given is not None:
        args = given if isinstance(given, tuple) else (given,)
        return Example(args, {}, tuple(program.graph_signature.user_inputs))
    stored = program.example_inputs
    if stored is None:
        raise UsageError(f"{source} holds no example inputs; give example_inputs")
    return Example(tuple(stored[0]), dict(stored[1]), tuple(map(str, program.graph_signature.user_inputs)))
