"""The whole denoising loop against the original: noise, windows, every step, the end (X-Dyna spec 8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.samplers import sample
from xdyna_unianimate.video_core.schedule import Schedule, linear_schedule
from xdyna_unianimate.xdyna_core import noise
from xdyna_unianimate.xdyna_core.config import ControlNetConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.frames import control_images, face_control
from xdyna_unianimate.xdyna_core.reuse import EVERYTHING, NOTHING, Reuse
from xdyna_unianimate.xdyna_core.sample import (
    Conditions,
    Control,
    SampleSettings,
    branch_denoiser,
    clip_denoiser,
)
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

from . import golden
from .golden import Golden

LIMIT = {"rel": 2e-5}
"""The tighter limit that golden/xdyna/README.md recommends."""

WHOLE = "whole file"
RUNS = [
    *golden.cases("xdyna", "pipeline_*", lambda g: [WHOLE]),
    *golden.cases("xdyna", "extras_loop*", lambda g: g.meta["runs"]),
]


@cache
def network(file: str) -> XDynaUNet | ControlNet:
    data = Golden("xdyna", file)
    if "conditioning_channels" in data.meta["config"]:
        net = ControlNet(ControlNetConfig.from_release(data.meta["config"]))
        net.net.load_state_dict(data.under("weights."))
    else:
        net = XDynaUNet(XDynaConfig.from_release(data.meta["config"]))
        net.load_state_dict(data.under("weights."))
    return net.eval()


@dataclass(frozen=True)
class Run:
    """One recorded loop: a ``pipeline_*`` file, or one entry of ``extras_loop``."""

    file: str
    name: str

    @cached_property
    def data(self) -> Golden:
        return Golden("xdyna", self.file)

    @property
    def row(self) -> dict:
        return self.data.meta if self.name == WHOLE else self.data.meta["runs"][self.name]

    @property
    def case(self) -> dict:
        return self.row["case"]

    def tensor(self, name: str) -> str:
        return name if self.name == WHOLE else f"{self.name}.{name}"

    @property
    def timesteps(self) -> list[int]:
        return self.row["timesteps" if self.name == WHOLE else "timesteps_used"]

    @property
    def schedule(self) -> Schedule:
        told = self.data.meta["scheduler"]
        assert told["beta_schedule"] == "linear"
        return linear_schedule(told["beta_start"], told["beta_end"], told["num_train_timesteps"])

    @property
    def settings(self) -> SampleSettings:
        context = self.data.meta.get("context", {})
        return SampleSettings(
            steps=self.case["steps"],
            strength=self.case.get("strength", 1.0),
            guidance=self.case["guidance"],
            window=context.get("context_frames", 16),
            overlap=context.get("context_overlap", 4),
            loop=context.get("closed_loop", True),
        )

    @property
    def networks(self) -> list[XDynaUNet | ControlNet]:
        return [network(file) for file in self.data.meta["weights_files"]]

    @property
    def unet(self) -> XDynaUNet:
        return next(net for net in self.networks if isinstance(net, XDynaUNet))

    def controlnet(self, channels: int) -> ControlNet:
        nets = (net for net in self.networks if isinstance(net, ControlNet))
        return next(net for net in nets if net.config.conditioning_channels == channels)

    @property
    def conditions(self) -> Conditions:
        def half(name: str) -> Tensor:
            return torch.cat([self.data[f"text_{name}"], self.data[f"ip_{name}"]], dim=1)

        controls = []
        if self.case.get("use_controlnet", True):
            controls.append(Control(self.controlnet(3), self.images("pose_images")))
        if self.case.get("face"):
            maps = face_control(self.images("face_local_images"), self.images("face_global_images"))
            controls.append(Control(self.controlnet(6), maps))
        context = torch.cat([half("uncond"), half("cond")])
        return Conditions(self.data["ref_latents"], context, tuple(controls))

    def images(self, name: str):
        return control_images(self.data[name].numpy(), (self.case["width"], self.case["height"]))

    @property
    def start(self) -> Tensor:
        """The recorded start, without the reference in front of it."""
        return self.data[self.tensor("initial_noisy_latents")][:, :, 1:]


@pytest.fixture(params=RUNS, ids=lambda run: "-".join(run))
def run(request) -> Run:
    return Run(*request.param)


def drawn(run: Run) -> noise.ClipDraws:
    _, channels, frames, height, width = run.start.shape
    shape, case = (channels, frames, height, width), run.case
    seeds = case["generator_seed"], case["global_seed"], case["python_seed"]
    window = run.settings.window
    return noise.draw_original(shape, len(run.timesteps), *seeds, window=window, encodes=False)


def check_frames(run: Run, name: str, ours: Tensor) -> None:
    """Golden clips have the reference in front, whose random numbers we drop."""
    stored = run.tensor(name)
    if stored in run.data:
        run.data.check(stored, ours, run.data[stored][:, :, 1:])


def test_start_from_the_seeds(run: Run) -> None:
    ours, reference = drawn(run), run.data["ref_latents"]
    check_frames(run, "rng.rand", ours.mask)
    check_frames(run, "rng.noise", ours.base)
    check_frames(run, "repeated_after_downgrade", noise.downgraded(reference, ours.mask))
    start = noise.initial_latents(reference, ours, run.schedule, run.timesteps[0])
    check_frames(run, "initial_noisy_latents", start)
    assert torch.equal(run.data[run.tensor("initial_noisy_latents")][:, :, :1], reference)


def test_offsets_and_windows(run: Run) -> None:
    assert list(drawn(run).offsets) == run.row["offsets"]
    frames = run.start.shape[2]
    assert [run.settings.windows(frames, offset) for offset in run.row["offsets"]] == run.row["windows"]
    golden.count(run.data)


def test_timesteps(run: Run) -> None:
    assert run.settings.timesteps(run.schedule) == run.timesteps
    golden.count(run.data)


@pytest.mark.parametrize("reuse", [EVERYTHING, NOTHING], ids=["reuse", "published order of work"])
def test_every_step(run: Run, reuse: Reuse) -> None:
    """From the recorded start and windows: guided noise and latents of each step, the end, the video."""
    conditions, timesteps = run.conditions, run.timesteps
    conditions.check(*run.start.shape[2:])
    outputs, steps = [], len(timesteps)
    hook = run.unet.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    windows_at = dict(zip(timesteps, run.row["windows"], strict=True)).get
    denoise = branch_denoiser(run.unet, conditions, timesteps, reuse=reuse, windows_at=windows_at)
    predict = clip_denoiser(denoise, run.settings, windows_at)

    def recorded(latents: Tensor, t: int) -> Tensor:
        guided = predict(latents, t)
        run.data.check(run.tensor(f"guided_eps.step{timesteps.index(t)}"), guided, rule=LIMIT)
        return guided

    def on_step(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        assert total == steps
        run.data.check(run.tensor(f"latents_after.step{done - 1}"), latents, rule=LIMIT)

    try:
        final = sample(recorded, run.start, run.schedule, timesteps, on_step=on_step)
    finally:
        hook.remove()
    run.data.check(run.tensor("final_latents"), final, rule=LIMIT)
    check_outputs(run, outputs)
    if run.tensor("video") in run.data:
        # The stand-in decoder returns its first three channels.
        run.data.check(run.tensor("video"), ((final / 0.18215)[:, :3] / 2 + 0.5).clamp(0, 1))


def check_outputs(run: Run, outputs: list[Tensor]) -> None:
    """Branches per call, and the network's own output where the file has it (one call per step)."""
    if "unet_batch" in run.row:
        assert [len(output) for output in outputs] == run.row["unet_batch"]
        golden.count(run.data)
    for step, output in enumerate(outputs):
        stored = run.tensor(f"raw_unet_output.step{step}")
        if stored in run.data:
            run.data.check(stored, output, rule=LIMIT)
