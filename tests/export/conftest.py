"""What several tests share, so that it is exported once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import onnxact
from tests.export.nets import Net, net

NETS = Path(__file__).with_name("nets.py")
CPU = {"providers": ["cpu"]}


@dataclass(frozen=True)
class Shared:
    """The small network, and its export."""

    module: Net
    exported: onnxact.Exported

    @property
    def path(self) -> Path:
        return self.exported.files[0]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    module = net()
    output = tmp_path_factory.mktemp("shared") / "net.onnx"
    return Shared(module, onnxact.export(module, None, output, dynamic=["image:0=batch"], check=CPU))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with nets.py in it."""
    (tmp_path / "nets.py").write_text(NETS.read_text())
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".onnxact-")]
    assert not left, "nothing is left behind"
