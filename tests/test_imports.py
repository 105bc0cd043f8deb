"""Imports go one way, kept by contracts that catch a wrong one, and importing changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
NAME = "xdyna_unianimate"
NO_PART_OF_IT = ("tests", "build", "dist", "outputs")
FORBIDDEN = {
    "video_core/guidance.py": "from ..app import grids",
    "pose_align/skeleton.py": "import torch",
    "xdyna_core/config.py": "from ..pose_align.pose import PoseSequence",
    "app/grids.py": "import folder_paths",
}
"""One import for each contract of pyproject, in the order in which they stand there."""

EFFECTS = """
import logging, os, random, signal, sys, threading, warnings
sys.path[:0] = {paths!r}

def state():
    return (list(sys.path), dict(os.environ), os.getcwd(), random.getstate(), signal.getsignal(signal.SIGINT),
            threading.active_count(), list(warnings.filters), list(logging.root.handlers), logging.root.level)

before = state()
import xdyna_unianimate
assert state() == before, "importing the package changed the process"
loaded = set(sys.modules) & {{"numpy", "torch", "cv2", "av", "diffusers", "transformers", "onnxruntime"}}
assert not loaded, f"importing the package loaded {{loaded}}"
assert not [name for name in sys.modules if name.startswith("xdyna_unianimate.")]
print(sorted(xdyna_unianimate.__all__))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package's source under its import name, with the contracts."""
    root = tmp_path_factory.mktemp("copy")
    for source in PACKAGE.rglob("*.py"):
        inside = source.relative_to(PACKAGE)
        if inside.parts[0] in NO_PART_OF_IT or inside.parts[0].startswith("."):
            continue
        target = root / NAME / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    shutil.copyfile(PACKAGE / "pyproject.toml", root / "pyproject.toml")
    return root


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    run = "from importlinter.cli import lint_imports_command as command; command()"
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    command = [sys.executable, "-c", run, "--no-cache"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


def test_the_contracts_hold(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


def test_every_contract_catches_a_forbidden_import(copy: Path) -> None:
    """All of them at once: an analysis of the whole package takes seconds."""
    originals = {path: (copy / NAME / path).read_text(encoding="utf-8") for path in FORBIDDEN}
    try:
        for path, line in FORBIDDEN.items():
            (copy / NAME / path).write_text(f"{originals[path]}\n{line}\n", encoding="utf-8")
        result = lint(copy)
    finally:
        for path, text in originals.items():
            (copy / NAME / path).write_text(text, encoding="utf-8")
    verdicts = [line for line in result.stdout.splitlines() if line.endswith(("KEPT", "BROKEN"))]
    assert result.returncode != 0
    assert len(verdicts) == len(FORBIDDEN), result.stdout
    assert all(verdict.endswith("BROKEN") for verdict in verdicts), "\n".join(verdicts)


def test_importing_outside_comfyui_has_no_effect(copy: Path) -> None:
    """No environment, path, handler, thread or random state changes, and nothing heavy is loaded."""
    script = EFFECTS.format(paths=[str(copy)])
    result = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script], cwd=copy, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['WEB_DIRECTORY']"
    assert not list((copy / NAME).rglob("*.pyc"))
