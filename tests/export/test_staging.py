"""Files appear whole, both or none, and nothing of others is lost; weights go outside by size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import onnxact
from onnxact.check.session import RunFailure, run
from onnxact.export import translation
from onnxact.export.staging import staging
from tests.cli.runner import contents, invoke
from tests.export.conftest import Shared
from tests.export.nets import Linear, Wide, net

WIDE = 64


def export(output: Path, **options: object) -> onnxact.Exported:
    torch.manual_seed(0)
    return onnxact.export(Wide(), torch.zeros(2, WIDE), output, check=False, **options)  # type: ignore[arg-type]


def test_weights_are_inside_below_a_size_and_outside_above(tmp_path: Path) -> None:
    size = WIDE * WIDE * 4
    inside, outside = tmp_path / "in.onnx", tmp_path / "out.onnx"
    assert export(inside, external_from=size + 1).files == (inside,)
    found = export(outside, external_from=size)
    assert found.files == (outside, tmp_path / "out.onnx.data")
    assert found.files[1].stat().st_size == size
    model = onnx.load(outside, load_external_data=False)
    locations = {item.name: bool(item.external_data) for item in model.graph.initializer}
    assert locations == {"l.weight": True, "l.bias": False}, "small tensors stay with the graph"
    assert onnx.load(outside) == onnx.load(inside) or _same_tensors(outside, inside)
    x = {"x": np.random.default_rng(0).standard_normal((2, WIDE), np.float32)}
    results = [run(path, x) for path in (inside, outside)]
    assert not any(isinstance(item, RunFailure) for item in results)
    first, second = (next(iter(item.values())) for item in results)  # type: ignore[union-attr]
    assert np.array_equal(first, second)


def _same_tensors(first: Path, second: Path) -> bool:
    pairs = zip(onnx.load(first).graph.initializer, onnx.load(second).graph.initializer, strict=True)
    return all(np.array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b)) for a, b in pairs)


def test_an_external_model_is_checked_swapped_and_decomposed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    output = tmp_path / "out.onnx"
    found = onnxact.export(
        Wide(),
        torch.zeros(2, WIDE),
        output,
        external_from=1,
        swap=["relu=leaky-relu:alpha=0.2"],
        decompose="mul-max",
        check={"providers": ["cpu"]},
    )
    assert [verdict.outcome for verdict in found.verdicts] == ["equivalent"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"out.onnx", "out.onnx.data"}
    assert "Max" in {node.op_type for node in onnx.load(output).graph.node}
    swapped = onnxact.fuse(output, output=tmp_path / "later.onnx")
    assert len(swapped.sites) == 1


def test_what_is_there_already_is_kept_unless_forced(here: Path) -> None:
    wide = ("export", "nets.py:Wide", "--input", "x:2,64", "-o", "out.onnx")
    arguments = (*wide, "--no-check", "-q", "--external-from", "1B")
    Path("out.onnx.data").write_bytes(b"mine")
    refused = invoke(*arguments)
    assert (refused.code, "out.onnx.data: exists; give --force" in refused.err) == (5, True)
    assert Path("out.onnx.data").read_bytes() == b"mine"
    assert invoke(*arguments, "--force").code == 0
    assert Path("out.onnx.data").stat().st_size == WIDE * WIDE * 4
    assert invoke(*arguments).code == 5


def test_a_symbolic_link_is_followed(here: Path) -> None:
    (here / "real.onnx").write_bytes(b"old")
    Path("out.onnx").symlink_to("real.onnx")
    assert invoke("export", "nets.py:net", "-o", "out.onnx", "--no-check", "--force", "-q").code == 0
    assert Path("out.onnx").is_symlink()
    onnx.checker.check_model(onnx.load("real.onnx"))


def test_nothing_appears_where_the_export_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(tmp_path)

    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(translation, "_exported", interrupted)
    with pytest.raises(KeyboardInterrupt):
        onnxact.export(Linear(), torch.zeros(2, 4), tmp_path / "out.onnx")
    assert contents(tmp_path) == before
    assert not list(tmp_path.iterdir())


def test_the_place_is_gone_afterwards(tmp_path: Path) -> None:
    with staging(tmp_path / "out.onnx") as staged:
        staged.path.write_bytes(b"model")
        assert staged.folder.parent == tmp_path
        assert not (tmp_path / "out.onnx").exists()
        assert staged.publish(force=False) == (tmp_path / "out.onnx",)
    assert {path.name for path in tmp_path.iterdir()} == {"out.onnx"}


def test_the_same_export_gives_the_same_bytes(shared: Shared, tmp_path: Path) -> None:
    again = onnxact.export(net(), None, tmp_path / "net.onnx", dynamic=["image:0=batch"], check=False)
    assert again.files[0].read_bytes() == shared.path.read_bytes()


def test_a_text_format(tmp_path: Path) -> None:
    found = onnxact.export(Linear(), torch.zeros(2, 4), tmp_path / "out.textproto", check={"providers": ["cpu"]})
    assert found.exit_code == 0
    assert found.files[0].read_text().startswith("ir_version")
