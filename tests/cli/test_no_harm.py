"""Law 10 on the command line: the input stays, links are followed, modes are kept, a write is whole or is not."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.cli.runner import contents, invoke, model, spawn, weights, write

VERBS = (
    ("swap-relu", "--alpha", "0.1"), ("swap", "--from", "relu", "--to", "elu"), ("decompose",),
    ("decompose", "--form", "where"),
)  # fmt: skip


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write(tmp_path / "net.onnx")


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_input_is_as_it_was(net: Path, verb: tuple[str, ...]) -> None:
    before = net.read_bytes(), net.stat().st_mtime_ns, net.stat().st_ino
    assert invoke(*verb, net).code == 0
    assert (net.read_bytes(), net.stat().st_mtime_ns, net.stat().st_ino) == before
    assert len(list(net.parent.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_in_place_keeps_the_mode(net: Path, mode: int) -> None:
    before = net.read_bytes()
    net.chmod(mode)
    assert invoke("swap-relu", net, "--no-check", "--in-place").code == 0
    assert net.stat().st_mode & 0o777 == mode
    assert net.read_bytes() != before
    assert list(contents(net.parent)) == ["net.onnx"]


def test_a_new_file_has_the_mode_that_the_umask_gives(net: Path) -> None:
    old = os.umask(0o027)
    try:
        invoke("swap-relu", net, "--no-check")
    finally:
        os.umask(old)
    assert (net.parent / "net.leaky_relu.onnx").stat().st_mode & 0o777 == 0o640


def test_in_place_edits_what_a_link_points_to(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    link = folder / "link.onnx"
    link.symlink_to("../net.onnx")
    before = net.read_bytes()
    assert invoke("swap-relu", link, "--in-place").code == 0
    assert link.readlink() == Path("../net.onnx")
    assert net.read_bytes() != before
    assert list(folder.iterdir()) == [link]


def test_in_place_through_a_link_leaves_external_data_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    target = write(tmp_path / "net.onnx", model(weights("w.bin")))
    (tmp_path / "links" / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    link = tmp_path / "links" / "net.onnx"
    link.symlink_to(target)
    assert invoke("swap-relu", link, "--in-place", "--no-check").code == 0
    assert sorted(contents(tmp_path)) == ["links/net.onnx", "links/w.bin", "net.onnx"]


def test_nothing_to_rewrite_writes_nothing(net: Path) -> None:
    before = contents(net.parent)
    for arguments in (("fuse", net), ("fuse", net, "--in-place", "--allow-none"), ("swap-relu", net, "--include", "z")):
        outcome = invoke(*arguments)
        assert outcome.code == (0 if "--allow-none" in arguments else 4)
        assert "nothing to rewrite, nothing written" in outcome.out
    assert contents(net.parent) == before
    assert invoke("fuse", net, "--allow-none").code == 0
    assert (net.parent / "net.fused.onnx").read_bytes() == net.read_bytes()


def test_a_dry_run_writes_nothing(net: Path) -> None:
    before = contents(net.parent)
    for option in ((), ("--in-place",), ("-o", str(net))):
        outcome = invoke("swap-relu", net, "--dry-run", *option)
        assert (outcome.code, "would rewrite 1 site" in outcome.out) == (0, True)
    assert contents(net.parent) == before


def test_external_data_follows_to_another_folder(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    net = write(source / "net.onnx", model(weights("sub/w.bin")))
    (source / "sub" / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    before = contents(source)
    assert invoke("swap-relu", net, "-o", target / "net.onnx").code == 0
    assert contents(source) == before
    assert sorted(contents(target)) == ["net.onnx", "sub/w.bin"]
    assert contents(target)["sub/w.bin"] == before["sub/w.bin"]


def test_another_models_data_is_not_overwritten(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(name.encode() * 16)
    net = write(tmp_path / "a" / "net.onnx", model(weights("w.bin")))
    before = contents(tmp_path)
    outcome = invoke("swap-relu", net, "--no-check", "-o", tmp_path / "b" / "net.onnx")
    assert (outcome.code, "b/w.bin: exists" in outcome.err) == (5, True)
    assert contents(tmp_path) == before


def test_the_weights_are_not_overwritten_by_the_model(tmp_path: Path) -> None:
    data = tmp_path / "w.bin"
    data.write_bytes(np.ones(4, np.float32).tobytes())
    net = write(tmp_path / "net.onnx", model(weights("w.bin")))
    before = contents(tmp_path)
    outcome = invoke("swap-relu", net, "--no-check", "-o", data, "--force")
    assert (outcome.code, "holds weights" in outcome.err) == (5, True)
    assert contents(tmp_path) == before


def test_two_models_share_their_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    one, two = (write(tmp_path / f"{name}.onnx", model(weights("w.bin"))) for name in ("one", "two"))
    before = contents(tmp_path)
    assert invoke("swap-relu", one, "--in-place").code == 0
    assert {**contents(tmp_path), "one.onnx": before["one.onnx"]} == before
    assert two.read_bytes() == before["two.onnx"]


def test_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE ends a write as a full disk does, by an OSError in its middle."""
    net = write(tmp_path / "net.onnx", model(weights(dims=(40_000, 4))))
    before = contents(tmp_path)
    process = spawn("swap-relu", net, "--no-check", preexec_fn=_small_files)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"\n")) == (5, 1)
    assert b"nothing was changed" in err
    assert contents(tmp_path) == before


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_in_the_middle_of_a_write(tmp_path: Path, ending: signal.Signals) -> None:
    net = write(tmp_path / "net.onnx")
    before = net.read_bytes()
    process = _spawn_stopping(net)
    assert process.stdout is not None
    assert process.stdout.readline() == b"syncing\n"
    process.send_signal(ending)
    out, err = process.communicate(timeout=60)
    assert net.read_bytes() == before
    if ending != signal.SIGKILL:
        assert process.returncode == 128 + ending
        assert list(tmp_path.iterdir()) == [net], (out, err)
        assert b"Traceback" not in err


_STOPPING = """
import os, sys, time
from onnxact.cli import main
def fsync(descriptor):
    print("syncing", flush=True)
    time.sleep(60)
os.fsync = fsync
sys.argv = ["onnxact", "swap-relu", "--no-check", "--in-place", {net!r}]
main()
"""


def _spawn_stopping(net: Path) -> subprocess.Popen[bytes]:
    """Start a rewrite that says "syncing" and waits, with the temporary file written and not yet renamed."""
    code = _STOPPING.format(net=str(net))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_swap_that_does_not_load_any_more_is_not_written(tmp_path: Path) -> None:
    """ONNX Runtime 1.31 has Relu for float64 on the CPU, and no Gelu."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2, 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "g", [x], [y])
    opset = helper.make_opsetid("", 22)
    path = write(tmp_path / "net.onnx", helper.make_model(graph, opset_imports=[opset], ir_version=10))
    done = invoke("swap-relu", path, "--to", "gelu", "--providers", "cpu")
    assert done.code == 1
    assert "ran before, does not load: " in done.out
    assert "nothing written, because the result is different" in done.out
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_form_is_looked_at_before_a_place_to_write(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx")
    write(tmp_path / "net.nonsense.onnx")
    for form in ("nonsense", "leaky-relu/mul-max"):
        done = invoke("decompose", path, "--form", form)
        assert (done.code, f"no activation has a form '{form}'" in done.err) == (2, True)


def test_what_the_ops_cannot_express_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", model(op="Elu"))
    done = invoke("decompose", path, "--ops", "Conv,Mul,Max")
    assert done.code == 4
    assert "nothing to rewrite, nothing written; 1 site is left that these ops cannot express" in done.out
    assert "1 site is left" in invoke("decompose", path, "--ops", "Conv,Mul,Max", "-q").err


def test_a_report_says_that_nothing_was_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx")
    done = invoke("swap-relu", path, "--no-check", "--json")
    assert done.code == 0 and json.loads(done.out)["check"] is None
