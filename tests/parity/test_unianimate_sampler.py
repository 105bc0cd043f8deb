"""UniAnimate's long and short samplers on the tiny network, step by step (spec 2.4, 2.5, 6)."""

from __future__ import annotations

import re
from functools import cache

import pytest
from torch import Tensor
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.reuse import EVERYTHING, NOTHING, Pictures, Reuse
from xdyna_unianimate.unianimate_core.sample import SampleSettings, branch_denoiser, sample_clip
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.schedule import strided_timesteps

from .golden import Golden, cases, count, files

SYSTEM, FILES = "unianimate", "long_sampler"
CONDITIONS = {
    "ref": ("image", "randomref", "dwpose"),
    "local": ("image", "local_image", "dwpose"),
}
"""What each case of the file is told, as the golden folder's README says."""


@cache
def network(golden: Golden) -> tuple[UniAnimateUNet, Tensor]:
    """The network whose weights the file names, and the features of the empty text."""
    stored = Golden(SYSTEM, golden.meta["weights"].partition(".safetensors")[0])
    config = UniAnimateConfig.from_release(stored.meta["config"] | {"concat_dim": stored.meta["concat_dim"]})
    unet = UniAnimateUNet(config).eval().requires_grad_(False)
    unet.load_state_dict(stored.under("weights."))
    return unet, stored["zero_y"]


def settings(golden: Golden, **changes) -> SampleSettings:
    options = golden.meta["sampler"]
    assert options["stride"] == 1 and golden.meta["eta"] == 0
    published = {
        "steps": options["steps"],
        "guidance": golden.meta["guide_scale"],
        "mode": "windows",
        "window": options["size"],
        "overlap": options["overlap"],
    }
    return SampleSettings(**published | changes)


def run(golden: Golden, case: str, options: SampleSettings, frames: int | None = None, **callbacks) -> Tensor:
    """Sample a case, or its first frames, from the file's noise."""
    unet, zero_y = network(golden)
    told = {name: golden[name] for name in CONDITIONS[case]}
    noise = golden["noise"][:, :, :frames]
    told["dwpose"] = told["dwpose"][:, :, : noise.shape[2] + 1]
    branches = [Pictures(zero_y), Pictures(zero_y, **told)]
    predict = branch_denoiser(unet, branches, options.together, options.reuse)
    return sample_clip(predict, noise, options, **callbacks)


def finals(golden: Golden) -> list[str]:
    return [name for name in golden.tensors if re.fullmatch(r"final\.\w+\.cbs\d+", name)]


@pytest.mark.parametrize("reuse", [EVERYTHING, NOTHING], ids=["reuse", "published order of work"])
@pytest.mark.parametrize(("file", "name"), cases(SYSTEM, FILES, finals))
def test_windows(file: str, name: str, reuse: Reuse) -> None:
    golden = Golden(SYSTEM, file)
    _, case, batch = name.split(".")
    options = settings(golden, batch=int(batch.removeprefix("cbs")), reuse=reuse)
    golden.check(name, run(golden, case, options))


@pytest.mark.parametrize(("file", "name"), cases(SYSTEM, FILES, lambda golden: finals(golden)[-1:]))
def test_both_branches_in_one_call(file: str, name: str) -> None:
    golden = Golden(SYSTEM, file)
    golden.check(name, run(golden, name.split(".")[1], settings(golden, together=True)))


@pytest.mark.parametrize("file", files(SYSTEM, FILES))
def test_every_step(file: str) -> None:
    golden = Golden(SYSTEM, file)
    timesteps = strided_timesteps(golden.meta["sampler"]["steps"])
    assert timesteps == golden.meta["timesteps"]
    seen: dict[str, Tensor] = {}

    def on_step(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        assert total == len(timesteps)
        step = f"step{done - 1}.t{timesteps[done - 1]}"
        seen[f"{step}.xt_next"], seen[f"{step}.x0"] = latents, x0

    run(golden, "ref", settings(golden), on_step=on_step)
    stored = [name for name in golden.tensors if name.startswith("step")]
    assert sorted(seen) == sorted(stored)
    for name in stored:
        golden.check(name, seen[name])


@pytest.mark.parametrize("file", files(SYSTEM, FILES))
def test_windows_used(file: str) -> None:
    golden = Golden(SYSTEM, file)
    assert settings(golden).windows(golden["noise"].shape[2]) == golden.meta["windows_used"]
    count(golden)


@pytest.mark.parametrize("mode", ["short", "windows"])
@pytest.mark.parametrize("file", files(SYSTEM, FILES))
def test_short(file: str, mode: str) -> None:
    """A clip that fits a window is the same in one piece and as the only window."""
    golden = Golden(SYSTEM, file)
    frames = golden["short.final"].shape[2]
    golden.check("short.final", run(golden, "ref", settings(golden, mode=mode), frames))
