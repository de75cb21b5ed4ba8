"""onnx2torch: the model as a torch.fx module, run on the CPU in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from onnxact.check.runners.backend import Array, Interface, Load, Run


def start() -> Load:
    """Models are converted; onnx2torch imports torchvision, whose compiled ops may not fit the torch that is there."""
    import torch

    vision_ops()
    import onnx2torch

    def load(path: Path, interface: Interface) -> Run:
        module = onnx2torch.convert(str(path)).eval()

        def run(feeds: Mapping[str, Array]) -> list[Array]:
            with torch.no_grad():
                found = module(*(torch.from_numpy(feeds[name].copy()) for name in interface.inputs))
            return [item.numpy() for item in (found if isinstance(found, list | tuple) else [found])]

        return run

    return load


@cache
def vision_ops() -> Any:
    """Declare torchvision's compiled ops where they are missing, so that it can be imported; None where they are there.

    torchvision 0.28 from PyPI beside torch 2.13.0+cpu ends with "operator torchvision::nms does not exist". What
    onnx2torch converts calls none of them. They stay declared as long as this is held.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor"
        )
        return library
    return None
