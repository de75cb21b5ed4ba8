"""(two models that differ) -> what makes the difference go away, or shows it again: each tried by running once more.

Outputs exchanged, non-determinism, TF32, and optimisation: from which level on, through which ops, by which pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy.typing as npt
from onnx import ModelProto, load

from onnxact.check.diagnosis import Cause
from onnxact.check.fingerprint import op_of
from onnxact.check.graph import all_graphs
from onnxact.check.options import RuntimeOptions
from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.symptoms import Symptoms, arrays, differing, moves

Array = npt.NDArray[Any]

_RANDOM = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    *("Dropout", "com.microsoft.BitmaskDropout", "com.microsoft.Sampling"),
}
_LEVELS = ("off", "basic", "extended", "all")
# The passes of ONNX Runtime 1.31 that change how numbers are computed, by the names that it knows them by
# (onnxruntime/core/optimizer/graph_transformer_utils.cc). It ignores names that it does not know.
_PASSES = (
    *("ConstantFolding", "ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "GemmSumFusion", "GemmTransposeFusion"),
    *("DivMulFusion", "MatMulAddFusion", "MatMul_BatchNormalization_Fusion", "Pad_Fusion", "ReshapeFusion"),
    *("GeluFusionL1", "LayerNormFusionL1", "CommonSubexpressionElimination", "ConstantSharing", "TransposeOptimizer"),
    *("ConvActivationFusion", "ConvAddActivationFusion", "GemmActivationFusion", "MatMulActivationFusion"),
    *("GeluFusionL2", "BiasGeluFusion", "FastGeluFusion", "QuickGeluFusion", "LayerNormFusionL2"),
    *("SimplifiedLayerNormFusion", "SkipLayerNormFusion", "BiasSkipLayerNormFusion", "EmbedLayerNormFusion"),
    *(
        "AttentionFusion",
        "BiasSoftmaxFusion",
        "MatmulTransposeFusion",
        "MatMulScaleFusion",
        "DynamicQuantizeMatMulFusion",
    ),
    *(
        "MatMulIntegerToFloatFusion",
        "QDQSelectorActionTransformer",
        "QDQPropagationTransformer",
        "QDQFinalCleanupTransformer",
    ),
    *("ConcatSliceElimination", "SliceConcatToSpaceToDepthFusion", "NchwcTransformer", "NhwcTransformer"),
)


def exchanged(symptoms: Symptoms) -> Iterator[Cause]:
    """Outputs that are each other's, bit for bit."""
    case, names = symptoms.case, symptoms.names
    if len(names) < 2:
        return
    before, after = (model.values(names) for model in case.observed)
    for name, value in arrays(after):
        for other, original in arrays(before):
            if other != name and _same_bits(original, value):
                text = (
                    f"output {name!r} of the model after is what {other!r} was before, bit for bit: outputs exchanged"
                )
                yield Cause("outputs exchanged", text, {"after": name, "before": other})


def unstable(symptoms: Symptoms) -> Iterator[Cause]:
    """A model that does not repeat its own outputs."""
    case = symptoms.case
    for side, subject in (("before", case.before), ("after", case.after)):
        moved = _repeats(symptoms, subject, threads=0)
        if not moved:
            continue
        nodes = _random_nodes(subject.model)
        alone = None if nodes else _repeats(symptoms, subject, threads=1)
        why = f"it has {', '.join(nodes[:3])}" if nodes else "it has no random op that is known"
        threads = "; on one thread it repeats them" if alone == 0 else ""
        again = f"the model {side} gives other outputs (by {moved:.3g}) when it runs again on the same inputs"
        text = f"{again}: {why}{threads}"
        yield Cause("non-determinism", text, {"model": side, "moves": moved, "random": nodes, "one_thread": alone})


def tf32(symptoms: Symptoms) -> Iterator[Cause]:
    """The same runs on CUDA without TF32."""
    case = symptoms.case
    options = case.before.options
    if case.run.provider != "cuda" or not options.uses_tf32:
        return
    own = {key: value for key, value in options.of_provider("cuda").items() if key != "use_tf32"}
    plain = RuntimeOptions({**options.provider_options, "cuda": own}, options.session_options, False)
    results = [_run(symptoms, replace(subject, options=plain)) for subject in (case.before, case.after)]
    left = differing(results[0], results[1], symptoms.tolerance)
    if left is not None and not left:
        text = "without TF32 the outputs agree: it keeps 10 of the 23 bits of float32 products"
        yield Cause("tf32", text, {"use_tf32": False, "differing": []})


def optimisation(symptoms: Symptoms) -> Iterator[Cause]:
    """From which level on the models differ, which of them moves there, through which ops and by which pass."""
    if not symptoms.only_optimised:
        return
    case = symptoms.case
    plain = [_run(symptoms, subject) for subject in (case.before, case.after)]
    for below, level in pairwise(_LEVELS):
        results = [_run(symptoms, subject, level) for subject in (case.before, case.after)]
        found = differing(results[0], results[1], symptoms.tolerance)
        if found is None or not found:
            continue
        moved = [moves(one, other) or 0.0 for one, other in zip(plain, results, strict=True)]
        side = "after" if moved[1] >= moved[0] else "before"
        subject = case.after if side == "after" else case.before
        made = _new_ops(symptoms, subject, below, level)
        blamed = _pass_to_blame(symptoms, level)
        what = f", where ONNX Runtime makes {', '.join(f'{op} {count}' for op, count in made.items())}" if made else ""
        who = f"; without its pass {blamed} they agree" if blamed else ""
        text = (
            f"the models agree up to optimisation level {below} and differ at {level}: there the model before moves "
            f"by {moved[0]:.3g}, the model after by {moved[1]:.3g}{what}{who}"
        )
        data = {"level": level, "before_moves": moved[0], "after_moves": moved[1], "new_ops": made, "pass": blamed}
        yield Cause("optimisation", text, data)
        return


def _same_bits(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _run(
    symptoms: Symptoms, subject: Subject, level: str | bool | None = None, disabled: Sequence[str] = ()
) -> Outputs | RunFailure:
    """Once, with optimisation as in the case unless a level is given."""
    run = symptoms.case.run
    optimise = (run.optimise and not symptoms.only_optimised) if level is None else level
    session = open_session(subject, run.provider, optimise=optimise, disabled=disabled)
    return session if isinstance(session, RunFailure) else _outputs(symptoms, session)


def _outputs(symptoms: Symptoms, session: Session) -> Outputs | RunFailure:
    return run_session(session, symptoms.case.feed.values, symptoms.names)


def _repeats(symptoms: Symptoms, subject: Subject, *, threads: int) -> float | None:
    """How far two runs in one session are apart."""
    run = symptoms.case.run
    session = open_session(subject, run.provider, optimise=run.optimise, threads=threads)
    if isinstance(session, RunFailure):
        return None
    return moves(_outputs(symptoms, session), _outputs(symptoms, session))


def _random_nodes(model: ModelProto) -> list[str]:
    lists = [graph.node for graph in all_graphs(model.graph)] + [function.node for function in model.functions]
    return [f"{op_of(node)} {node.name!r}" for nodes in lists for node in nodes if op_of(node) in _RANDOM]


def _new_ops(symptoms: Symptoms, subject: Subject, below: str, level: str) -> dict[str, int]:
    """Op -> how many more nodes of it the optimised model has at this level than at the one below."""
    case = symptoms.case
    if subject.weight_bytes > case.memory_budget:
        return {}
    counts = []
    with TemporaryDirectory(prefix="onnxact-") as folder:
        for name in (below, level):
            path = Path(folder) / f"{name}.onnx"
            opened = open_session(subject, case.run.provider, optimise=name, optimised_path=path)
            if isinstance(opened, RunFailure) or not path.exists():
                return {}
            del opened
            model = load(path, load_external_data=False)
            counts.append(Counter(op_of(node) for graph in all_graphs(model.graph) for node in graph.node))
    return dict(sorted((counts[1] - counts[0]).items()))


def _pass_to_blame(symptoms: Symptoms, level: str) -> str:
    """The one pass without which both models agree at this level; "" where there is none."""

    def agree(disabled: Sequence[str]) -> bool:
        case = symptoms.case
        results = [_run(symptoms, subject, level, disabled) for subject in (case.before, case.after)]
        left = differing(results[0], results[1], symptoms.tolerance)
        return left is not None and not left

    return _halved(_PASSES, agree)


def _halved(names: Sequence[str], agree: Callable[[Sequence[str]], bool]) -> str:
    if not agree(names):
        return ""
    while len(names) > 1:
        half = names[: len(names) // 2]
        if agree(half):
            names = half
        elif agree(names[len(half) :]):
            names = names[len(half) :]
        else:
            return ""
    return names[0]
