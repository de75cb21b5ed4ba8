"""A swap -> Verdict: the result against a reference, the original with each site in another form of the activation.

Relu -> Celu(x)    against    Relu -> alpha Elu(x / alpha), or where ONNX Runtime has no such Elu, by the next form

What ran before has to run afterwards, whether or not there is a reference that runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, TypeProto, helper

from onnxact.activation.expr import Expr
from onnxact.check.alone import ELEM_TYPES
from onnxact.check.equivalence import check
from onnxact.check.loading import UnloadableError
from onnxact.check.pairs import RAN_BEFORE
from onnxact.check.providers import resolve_providers, runtime_version
from onnxact.check.rewritten import probes
from onnxact.check.session import RunFailure, open_session
from onnxact.check.subject import open_subject
from onnxact.check.verdict import Verdict
from onnxact.errors import ProviderError
from onnxact.model.edit import apply
from onnxact.model.schema import plain
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.draft import Change, Drafter
from onnxact.rewrite.reference import Other, other_forms, plan
from onnxact.rewrite.site import Kind, Site


def check_swap(
    original: ModelProto,
    swapped: ModelProto,
    changes: Sequence[Change],
    *,
    folder: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Verdict:
    """Judge a swap; options as for check. "different" also where the original runs and the result does not.

    Raises as check does, except that a model that cannot be loaded makes the verdict "inconclusive".
    """
    options["folder"] = folder
    asked = options.get("providers")
    forms = _RunnableForms("cpu" if asked is None else resolve_providers(asked).names[0])
    reference = ModelProto()
    reference.CopyFrom(original)
    view = View(reference, None if folder is None else Path(folder))
    edits = plan(view, changes, forms.choose)
    if edits.roots < len(changes):
        return _without_reference(original, swapped, forms.lacking or edits.skips[0].reason, options)
    apply(view, edits)
    seen = probes((change for change in changes if change.is_elementwise), forms.choose)
    try:
        found = check(reference, swapped, sites=seen, **options)
    except UnloadableError as error:
        why = f"{runtime_version()} cannot load the reference, the original in another form: {error.reason}"
        return _without_reference(original, swapped, why, options)
    if not _that_it_fails(found):
        return found
    return _without_reference(original, swapped, "the reference runs, and the result does not", options)


def _without_reference(original: ModelProto, swapped: ModelProto, why: str, options: dict[str, Any]) -> Verdict:
    """Return "different" where the original runs and the result does not, else "inconclusive" with the reason."""
    try:
        found = check(original, swapped, **{**options, "diagnose": False})
    except UnloadableError as error:
        return Verdict("inconclusive", (str(error),))
    if worse := _that_it_fails(found):
        return Verdict("different", worse, found.runs, providers=found.providers, runtime=found.runtime)
    return Verdict("inconclusive", (f"nothing to compare the result with: {why}",), runtime=found.runtime)


def _that_it_fails(found: Verdict) -> tuple[str, ...]:
    """Return the reasons that say that the result does not run where what it is compared with does."""
    return tuple(reason for reason in found.reasons if reason.startswith(RAN_BEFORE) and found.outcome == "different")


class _RunnableForms:
    """Chooses the best other form that ONNX Runtime loads on its own. `lacking`: why there was none for a site."""

    def __init__(self, provider: str) -> None:
        self.lacking = ""
        self._provider = provider
        self._refusals: dict[tuple[Expr, str | None, int, bool], str] = {}
        self._chosen: dict[After, Other | None] = {}

    def choose(self, change: Change) -> Other | None:
        """Return the best other form that loads, None where there is none."""
        if change.after not in self._chosen:
            self._chosen[change.after] = self._best(change)
        return self._chosen[change.after]

    def _best(self, change: Change) -> Other | None:
        refused = []
        for other in other_forms(change):
            if not (reason := self._refusal(change, other)):
                return other
            refused.append(f"{other.name}: {reason}")
        if refused:
            self.lacking = f"{runtime_version()} loads no other form of {change.activation} ({'; '.join(refused)})"
        return None

    def _refusal(self, change: Change, other: Other) -> str:
        scope = change.site.scope
        key = (other.form.expr, change.site.dtype, scope.opset, scope.root.is_function)
        if key not in self._refusals:
            self._refusals[key] = self._load(_alone(change, other))
        return self._refusals[key]

    def _load(self, model: ModelProto) -> str:
        """Return what ONNX Runtime says against a model; a provider's own failure is for the check to report."""
        try:
            opened = open_session(open_subject(model), self._provider, optimise=False, threads=1)
        except ProviderError:
            return ""
        return opened.message if isinstance(opened, RunFailure) and opened.is_of_model else ""


def _alone(change: Change, other: Other) -> ModelProto:
    """Return the model y = form(x), at the opset and in the dtype of the site."""
    scope, of_any_rank = change.site.scope, TypeProto()
    of_any_rank.tensor_type.elem_type = ELEM_TYPES.get(change.site.dtype or "", TensorProto.FLOAT)
    values = [helper.make_value_info(name, of_any_rank) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "alone", values[:1], values[1:])
    imports = [helper.make_opsetid(plain(domain), version) for domain, version in scope.opsets.items()]
    model: ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=scope.view.model.ir_version)
    view = View(model)
    drafter = Drafter(view)
    site = Site(Kind(view.main, change.activation, "op", {}, change.site.dtype), 0)
    drafter.write(site, After(change.activation, "", change.parameters, other.form.expr))
    apply(view, drafter.finish().plan)
    return model
