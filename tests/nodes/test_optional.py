"""A library that is missing costs the nodes that need it, and the node list and the doctor say so.

All nodes are run in a process that cannot see the library. What ComfyUI itself requires and imports (torch, av,
numpy, ...) cannot be missing there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ..fakes import comfy_host, without

COSTS = {
    "cv2": (
        "opencv-python",
        {"ExtractPose", "AlignPose", "DrawPose", "FaceMaps", "XDynaConditioning", "ApplyPoseControl", "GridCompare",
         "EvaluateResult", "Estimate"},
        {"ApplyPoseControl", "ApplyFaceControl", "XDynaStrengths", "XDynaSampler"},
    ),
    "diffusers": (
        "diffusers",
        {"LoadVae", "LoadXDynaControlNet", "Estimate"},
        {"ApplyPoseControl", "ApplyFaceControl", "XDynaSampler"},
    ),
    "transformers": (
        "transformers",
        {"LoadClip", "LoadClipVision"},
        {"UniAnimateConditioning", "UnifiedNoise", "UniAnimateSampler", "XDynaConditioning", "ApplyPoseControl",
         "ApplyFaceControl", "XDynaStrengths", "XDynaSampler"},
    ),
    "onnxruntime": ("onnxruntime-gpu", set(), set()),
    "mediapipe": ("mediapipe", set(), set()),
}  # fmt: skip
"""Library -> what pip calls it, the nodes that say they cannot run, and those that had no input then."""


SELDOM = ("transformers", "mediapipe")
"""The first is ComfyUI's own requirement; the second is one of two that cost no node."""
LIBRARIES = [pytest.param(name, marks=pytest.mark.slow) if name in SELDOM else name for name in COSTS]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Callable[[str], dict]:
    """What there is and runs without a library; libraries that are tried alike share a process."""
    if comfy_host.real_path() is not None:
        pytest.skip("the real program is loaded once per process")
    environment = {**os.environ, "XDUA_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}

    @cache
    def found(seldom: bool) -> dict[str, dict]:
        libraries = [name for name in COSTS if (name in SELDOM) == seldom]
        done = subprocess.run(
            [sys.executable, "-m", without.__name__, *libraries],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return lambda library: found(library in SELDOM)[library]


def test_every_node_is_tried(comfy):
    tried = {node["class_type"] for node in without.everything().values()}
    assert tried >= set(comfy.pack), "add it to tests/fakes/without.py"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_costs_what_needs_it(report, library):
    (package, costs, behind), report = COSTS[library], report(library)
    assert report["left_out"] == {}, "every module is there, with all nodes that do without"
    assert {name.removeprefix("XDUA_") for name in report["marked"]} == costs
    for title, description in report["marked"].values():
        assert title.endswith(f"({package} missing)")
        assert description.startswith(f"Cannot run yet: pip install {package}. ")
    assert {name.removeprefix("XDUA_") for name in report["unreached"]} == behind
    failed = {name.removeprefix("XDUA_"): why for name, why in report["failed"].items()}
    assert set(failed) == costs - behind, "these fail, and no others"
    assert all(
        library in why and why.split(":")[0].endswith(("ImportError", "NotFoundError"))
        for why in failed.values()
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_doctor_says_what_is_missing_and_what_it_costs(report, library):
    (package, costs, _), said = COSTS[library], report(library)["doctor"]
    lines = [line.split() for line in said.splitlines()]
    assert any(line[:2] == [package, "missing,"] for line in lines)
    told = [" ".join(line) for line in lines if line[:2] == ["Cannot", "run:"]]
    assert len(told) == len(costs) and all(line.endswith(f"({package} missing)") for line in told)
    assert f"-m pip install {package}" in said or library == "mediapipe", "the command that mends it"
