"""The documentation shows what the program does: its commands are run, its Python is executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from onnxact.check.providers import unavailable

ROOT = Path(__file__).resolve().parents[2]
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_generated_pages_are_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/pytorch.md"])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = PYTHON_BLOCK.findall((ROOT / page).read_text())
    assert blocks
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for block in blocks:
        exec(compile(block, page, "exec"), {})


def test_the_test_of_the_readme_runs(tmp_path: Path) -> None:
    """Its blocks are one after the other in a file: those without a test are run when it is imported."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "test_readme.py").write_text("\n".join(PYTHON_BLOCK.findall((ROOT / "README.md").read_text())))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_readme.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert ("1 passed, 1 skipped" if unavailable("cuda") else "2 passed") in done.stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with models, and the tests that docs/ci.md shows."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "tests").mkdir()
    (block,) = PYTHON_BLOCK.findall((ROOT / "docs" / "ci.md").read_text())
    (tmp_path / "tests" / "test_deployed.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def workflow() -> dict[str, Any]:
    (block,) = YAML_BLOCK.findall((ROOT / "docs" / "ci.md").read_text())
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def steps(job: str) -> Iterator[str]:
    """The commands of a job, without those that install; a tool of its environment is run from ours."""
    for step in workflow()["jobs"][job]["steps"]:
        for line in str(step.get("run", "")).splitlines():
            if "pip install" not in line:
                command = re.sub(r"^(venv/bin/)?(onnxact|pytest)\b", rf"{sys.executable} -m \2", line)
                yield command


def test_the_jobs_of_the_workflow_run(checkout: Path) -> None:
    """The CPU job as it is; the CUDA job too, where there is CUDA, and else it ends as it should, not in a pass."""
    assert set(workflow()) == {"name", True, "permissions", "jobs"}, "YAML 1.1 takes on for true"
    environment = {**os.environ, "GITHUB_STEP_SUMMARY": "summary.md", "PYTHONPATH": str(ROOT)}
    codes = {
        job: [subprocess.run(line, shell=True, env=environment, check=False).returncode for line in steps(job)]
        for job in ("cpu", "cuda")
    }
    has_cuda = unavailable("cuda") is None
    assert codes == {"cpu": [0, 0, 0, 0], "cuda": [0, 0, 0] if has_cuda else [3, 1, 0]}
    assert "✅ equivalent" in (checkout / "summary.md").read_text()
    reports = {path.name for path in (checkout / "reports").iterdir()}
    assert {"decompose.xml", "decompose.md", "inputs.npz", "pytest.xml", "cuda.xml", "cuda.md"} <= reports


def test_the_documentation_names_no_place_of_its_writing() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")]
    home = str(ROOT.parent)
    assert not [page for page in pages if "Traceback" in page.read_text() or home in page.read_text()]
