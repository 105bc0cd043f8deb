"""The parity tests can fail: an empty folder is refused, moved golden tensors are noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from . import golden

HERE = Path(__file__).parent
FILES = sorted(p.relative_to(golden.TRAVELLING) for p in golden.TRAVELLING.glob("*/*.safetensors"))
INPUTS = re.compile(r"^(weights\.|.*\.weights\.)|(^|\.)(x|z|t|q|image|image_u8|tokens|context|eps|noise)$")
"""Tensors that go into a computation; moving them moves ours along, which shows nothing."""


def run_parity(folder: Path) -> subprocess.CompletedProcess[str]:
    """The parity tests, this file left out, on another golden folder."""
    command = [sys.executable, "-m", "pytest", str(HERE), "-q", "-rf", "-p", "no:cacheprovider"]
    command += [f"--ignore={HERE / 'test_perturbed.py'}"]
    environment = {**os.environ, "GOLDEN_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=golden.ROOT)


def test_a_named_folder_without_goldens_is_an_error(tmp_path: Path) -> None:
    done = run_parity(tmp_path)
    assert done.returncode != 0
    assert "holds no golden files" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def perturbed_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Output of the parity tests on the travelling set, every result moved by 2 % of its maximum."""
    folder = tmp_path_factory.mktemp("perturbed")
    shutil.copytree(golden.TRAVELLING, folder, dirs_exist_ok=True)
    for file in FILES:
        tensors = load_file(folder / file)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not INPUTS.search(name):
                tensors[name] = tensor + 0.02 * tensor.abs().max()
        save_file(tensors, folder / file)
    return run_parity(folder).stdout


@pytest.mark.parametrize("file", FILES, ids=str)
def test_moved_goldens_fail(perturbed_run: str, file: Path) -> None:
    failures = [line for line in perturbed_run.splitlines() if line.startswith("FAILED")]
    assert any(file.stem in line for line in failures), f"{file} was moved and no test noticed"
