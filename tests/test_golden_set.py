"""The golden set that travels with the project: small, all of it used, and no part of it idle.

The parity tests run on copies of it in a process of their own; where its numbers are moved they must fail.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from .parity import golden

LIMIT = 3_000_000
PARITY = golden.ROOT / "tests" / "parity"
FILES = sorted(
    path.relative_to(golden.TRAVELLING).with_suffix("").as_posix()
    for system in ("unianimate", "xdyna")
    for path in (golden.TRAVELLING / system).glob("*.json")
)
"""<system>/<file> of every golden file of the set."""

TABLES = ("context_windows", "preprocess")
"""Files whose results stand in the json."""


def run_parity(folder: Path) -> subprocess.CompletedProcess[str]:
    """The parity tests on a golden folder."""
    command = [sys.executable, "-m", "pytest", str(PARITY), "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    environment = {**os.environ, "GOLDEN_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=golden.ROOT)


def test_the_set_is_small() -> None:
    assert sum(path.stat().st_size for path in golden.TRAVELLING.rglob("*") if path.is_file()) < LIMIT


def test_every_file_of_the_set_is_compared() -> None:
    done = run_parity(golden.TRAVELLING)
    assert done.returncode == 0, done.stdout
    assert f"folder: {golden.TRAVELLING}" in done.stdout
    assert re.findall(r"^  (\w+/\w+): \d+ cases", done.stdout, re.MULTILINE) == FILES


@pytest.mark.parametrize("file", [None, "xdyna/of_another_kind.json"])
def test_a_named_folder_without_goldens_is_an_error(tmp_path: Path, file: str | None) -> None:
    if file is not None:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("{}")
    done = run_parity(tmp_path)
    assert done.returncode != 0
    assert f"GOLDEN_DIR names {tmp_path}" in done.stdout + done.stderr


def moved(tensor: Tensor) -> Tensor:
    """One number of it changed: by 2 % of the largest, or by 1 where it counts something."""
    flat = tensor.clone().flatten()
    if flat.is_floating_point():
        flat[0] += 0.02 * (flat.nan_to_num(0, 0, 0).abs().max() or 1)
    elif len(flat):
        flat[0] = flat[0] ^ 1
    return flat.view(tensor.shape)


def moved_table(value: Any) -> Any:
    """The last number of every list of whole numbers changed by 1, at any depth of a json value."""
    if isinstance(value, dict):
        return {name: moved_table(entry) for name, entry in value.items()}
    if isinstance(value, list) and value and type(value[-1]) is int:
        return [*value[:-1], value[-1] + 1]
    return [moved_table(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(system, parameters) of the tests that fail on a copy of the set in which everything but weights was moved."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(golden.TRAVELLING, folder, dirs_exist_ok=True)
    for path in folder.rglob("*.safetensors"):
        tensors = {k: t if "weights." in k else moved(t) for k, t in load_file(path).items()}
        save_file(tensors, path)
    for path in (path for name in TABLES for path in folder.glob(f"*/{name}.json")):
        path.write_text(json.dumps(moved_table(json.loads(path.read_text()))))
    done = run_parity(folder)
    return re.findall(r"^FAILED \S*test_(\w+?)_\w+\.py\S*\[(\S+)\]", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_moved_goldens_fail(failures: list[tuple[str, str]], file: str) -> None:
    system, name = file.split("/")
    assert any((s, case.partition("-")[0]) == (system, name) for s, case in failures), "no test noticed"
