"""The options of a check, which every verb that rewrites has too -> the keyword arguments of `onnxact.check`.

Imports nothing heavy until an option is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from onnxact.cli.options import OUT, PROOF, flag, parse_names, parse_number, parse_path, parse_whole
from onnxact.errors import UsageError

INPUTS = "Inputs"
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _option(metavar: str, help: str, panel: str) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel, show_default=False)


Texts = list[str] | None

InputShapes = Annotated[Texts, _option("NAME:1,3,224,224", "Shape of an input; repeatable.", INPUTS)]
LoadInputs = Annotated[
    str | None, _option("PATH", "Run on these: .npz, a folder of .npy files, or Polygraphy's .json.", INPUTS)
]
SaveInputs = Annotated[
    str | None, _option("PATH", "Write what was run on, in any of these formats; --load-inputs replays it.", INPUTS)
]
ValRange = Annotated[
    Texts, _option("[NAME:]LOW,HIGH", "Limits of made-up values, of all inputs or of one; repeatable.", INPUTS)
]
Seed = Annotated[str, _option("N", "Seed of the first made-up set of inputs; default 0.", INPUTS)]
Seeds = Annotated[str, _option("COUNT", "How many sets are made up; default 2.", INPUTS)]

Providers = Annotated[str | None, _option("A,B", "Execution providers; default: cpu, and cuda if it runs.", PROOF)]
BackendName = Annotated[
    str | None,
    _option("NAME", "Run the result on another runtime, such as tract, or on a program, ./runner.", PROOF),
]
ProviderOptions = Annotated[
    Texts, _option("PROVIDER:NAME=VALUE", "An option of a provider, such as cuda:device_id=1; repeatable.", PROOF)
]
SessionOptions = Annotated[
    Texts, _option("NAME=VALUE", "An option of the session, such as intra_op_num_threads=2; repeatable.", PROOF)
]
Tf32 = Annotated[bool, flag("--tf32", help="Let CUDA round products to TF32; off by default.", panel=PROOF)]
Rtol = Annotated[
    Texts, _option("[NAME:]NUMBER", "Relative tolerance, of all outputs or of one, NumPy's rule; repeatable.", PROOF)
]
Atol = Annotated[Texts, _option("[NAME:]NUMBER", "Absolute tolerance, likewise; repeatable.", PROOF)]
MemoryBudget = Annotated[str | None, _option("SIZE", "Memory for observed values; default 256MiB.", PROOF)]

JUnit = Annotated[str | None, _option("FILE", "Write a JUnit report; replaces an earlier one, nothing else.", OUT)]
Markdown = Annotated[str | None, _option("FILE", "Write a report in Markdown, likewise.", OUT)]


@dataclass(frozen=True)
class Evidence:
    """What a check runs on, how it judges, and the files that tell of it."""

    input_shapes: InputShapes = None
    load_inputs: LoadInputs = None
    save_inputs: SaveInputs = None
    val_range: ValRange = None
    seed: Seed = "0"
    seeds: Seeds = "2"
    providers: Providers = None
    backend: BackendName = None
    provider_option: ProviderOptions = None
    session_option: SessionOptions = None
    tf32: Tf32 = False
    rtol: Rtol = None
    atol: Atol = None
    memory_budget: MemoryBudget = None
    junit: JUnit = None
    markdown: Markdown = None


def check_options(evidence: Evidence) -> dict[str, Any]:
    """Return the keyword arguments of `onnxact.check`, parsed; options that were not given are left out."""
    from onnxact.check import load_inputs, parse_shapes
    from onnxact.check.drawing import parse_val_range
    from onnxact.check.options import parse_provider_options, parse_session_options

    if evidence.load_inputs is not None and (evidence.val_range or evidence.input_shapes):
        raise UsageError("--load-inputs brings all values; give it, or --val-range and --input-shapes")
    found = {
        "providers": parse_names("--providers", evidence.providers),
        "backend": evidence.backend,
        "input_shapes": _parsed(parse_shapes, evidence.input_shapes),
        "inputs": _parsed(load_inputs, _path("--load-inputs", evidence.load_inputs)),
        "save_inputs": _path("--save-inputs", evidence.save_inputs),
        "val_range": _parsed(parse_val_range, evidence.val_range),
        "seeds": _seeds(evidence),
        "provider_options": _parsed(parse_provider_options, evidence.provider_option),
        "session_options": _parsed(parse_session_options, evidence.session_option),
        "tf32": evidence.tf32 or None,
        "rtol": _tolerances("--rtol", evidence.rtol),
        "atol": _tolerances("--atol", evidence.atol),
        "memory_budget": _parsed(parse_size, evidence.memory_budget),
    }
    return {name: value for name, value in found.items() if value is not None}


INPUT_KEYS = ("inputs", "input_shapes", "val_range", "seeds")
"""What of these says on which inputs to run."""


def demand_used(evidence: Evidence) -> None:
    """Raise UsageError for options that ask for what a run without a check does not give."""
    for name in ("junit", "markdown", "save_inputs"):
        if getattr(evidence, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} tells of a check, and none is made with --no-check or --dry-run")


def parse_size(text: str) -> int:
    """Return a number of bytes: "512MB" is 512e6, "1GiB" 2^30; anything else is a UsageError."""
    number = text.strip().lower().rstrip("bgikm")
    unit = text.strip().lower()[len(number) :]
    try:
        size = float(number) * _UNITS[unit]
    except (ValueError, KeyError) as error:
        raise UsageError(f"--memory-budget {text!r}: expected a size such as 512MB or 2GiB") from error
    if not 1 <= size < float("inf"):
        raise UsageError(f"--memory-budget {text!r}: expected at least one byte")
    return int(size)


def _seeds(evidence: Evidence) -> tuple[int, ...]:
    first, count = parse_whole("--seed", evidence.seed), parse_whole("--seeds", evidence.seeds)
    if first < 0:
        raise UsageError(f"--seed {first}: expected 0 or more")
    if not 1 <= count <= 1000:
        raise UsageError(f"--seeds {count}: expected a count of 1 to 1000; --seed is the first seed")
    return tuple(range(first, first + count))


def _tolerances(option: str, texts: list[str] | None) -> float | Mapping[str, float] | None:
    """Return one number for all outputs, or numbers by output with "" for the others."""
    found: dict[str, float] = {}
    for text in texts or ():
        name, colon, number = text.rpartition(":")
        if colon and not name:
            raise UsageError(f"{option} {text!r}: a name before the colon is missing")
        if name in found:
            raise UsageError(f"{option} {text!r}: {name or 'what holds for all outputs'} is given twice")
        value = parse_number(f"{option} {text!r}" if name else option, number)
        found[name] = 0.0 if value is None else value
    return found.get("") if set(found) <= {""} else found


def _path(option: str, text: str | None) -> Any:
    return None if text is None else parse_path(option, text)


def _parsed(parse: Any, given: Any) -> Any:
    return None if given is None or given == [] else parse(given)
