"""Sampling a clip of any length: in one piece, by overlapping windows, or in a chain of segments.

UniAnimate spec 2.5, 6 and 2.6, in this order.
The networks stand behind callables, so that everything here works on any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..video_core.deep import Deep, DeepFeatures
from ..video_core.fast import EXACT, Fast, guided_during
from ..video_core.guidance import Denoiser, Together
from ..video_core.placement import fits
from ..video_core.progress import NOWHERE, Progress
from ..video_core.samplers import OnStep, sample
from ..video_core.savings import FEED_FORWARD_VALUES, set_savings
from ..video_core.schedule import Schedule, strided_timesteps, zero_terminal_snr_schedule
from ..video_core.solvers import solver_named
from ..video_core.storage import IN_MEMORY, Storage
from ..video_core.thrift import Way, thrifty
from ..video_core.windows import Fuse, WindowDenoiser, Windows, anchored_windows, windowed
from .reuse import EVERYTHING, Pictures, Reuse, encoded, prepared
from .unet import Conditions, UniAnimateUNet

Mode = Literal["short", "windows", "continuation"]

WINDOW_TENSORS, FEED_FORWARD_TENSORS, INNER_TENSORS = 9.2, 8.2, 18.1
"""Tensors of a whole window at the finest level (pictures x h x w x channels) that are alive at once at most; and
in its feed-forwards, beside the inner activations of the values that go through at a time (``LayerSavings``).
Counted at full size with an attention that keeps no scores.
"""


@dataclass(frozen=True)
class SampleSettings:
    """How a clip is denoised; the defaults are the published ones.

    steps: 30 gives 31 evaluations (spec 5). guidance: 2.5; 1 or None runs the conditional branch alone.
    mode: "short", all frames in one piece; "windows", overlapping windows averaged in every step;
    "continuation", segments of at most ``window`` frames, each continuing the last frame of the one before.
    window, overlap: frames of a window or segment, and frames that neighbouring windows share.
    batch: windows per call of the network. fuse: "uniform" as published, or "pyramid".
    together: both branches of guidance in one call, which is faster and takes more memory; "auto" where it fits.
    reuse: what is computed once where the original computes it again; changes no result beyond rounding.
    fast: what makes the result sooner and a little different.
    """

    steps: int = 30
    guidance: float | None = 2.5
    mode: Mode = "short"
    window: int = 32
    overlap: int = 8
    batch: int = 1
    fuse: Fuse = "uniform"
    together: Together = False
    reuse: Reuse = Reuse()
    fast: Fast = EXACT

    def __post_init__(self) -> None:
        if self.mode not in ("short", "windows", "continuation"):
            raise ValueError(f"The mode is 'short', 'windows' or 'continuation'; {self.mode!r} was given.")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise ValueError(f"Guidance is a number from 0 up, or None; {self.guidance} was given.")

    def timesteps(self, begin: int | None = None, train_steps: int = 1000) -> list[int]:
        """The timesteps of a run, descending; begin: only those from there on."""
        every = strided_timesteps(self.steps, train_steps)
        return [t for t in every if begin is None or t <= begin]

    def timestep_of(self, strength: float) -> int:
        """The timestep at which this last share of the steps begins; it holds one step at least."""
        if not 0 < strength <= 1:
            raise ValueError(f"The strength of a run lies above 0 and at most at 1; {strength} was given.")
        timesteps = self.timesteps()
        return timesteps[-max(1, round(len(timesteps) * strength))]

    def parts(self, frames: int) -> list[range]:
        """What is sampled in one run each, one after the other: the segments, or the whole clip."""
        return segments(frames, self.window) if self.mode == "continuation" else [range(frames)]

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch is needed. F: the original cannot run long clips without it."""
        return self.guidance is not None and self.guidance != 1

    def windows(self, frames: int) -> Windows:
        """The windows of every step of a clip, or of a segment, that is sampled in one run."""
        if self.mode == "windows":
            return anchored_windows(frames, self.window, self.overlap)
        return [list(range(frames))]


def branch_denoiser(
    network: UniAnimateUNet,
    branches: Sequence[Conditions | Pictures],
    together: bool,
    reuse: Reuse = EVERYTHING,
    deep: DeepFeatures | None = None,
) -> WindowDenoiser:
    """The network told of one clip by the branches (uncond, cond), or (cond,), as a denoiser of windows.

    Features of frames may wait anywhere: those of the windows of a call are brought to where the network is.
    deep: what the coarse levels made, for the steps between whole ones. Where memory runs out: see ``thrifty``.
    """
    set_savings(network, reuse.layers)
    branches = [prepared(network, branch, reuse) for branch in branches]
    device = network.out[-1].weight.device

    def deep_of(branches: Sequence[int], t: int, windows: Windows) -> Deep | None:
        return None if deep is None else deep.at(t, branches, windows)

    def working(way: Way) -> WindowDenoiser:
        set_savings(network, way.layers)

        def denoise(latents: Tensor, t: int, windows: Windows) -> Tensor:
            latents = latents.to(device)
            told = [encoded(network, branch.windows(windows)).to(device) for branch in branches]
            if way.together:
                return network.denoise_branches(latents, t, told, deep_of(range(len(told)), t, windows))
            return torch.stack(
                [network.denoise(latents, t, own, deep_of([i], t, windows)) for i, own in enumerate(told)]
            )

        return denoise

    return thrifty(working, Way(together, reuse.layers))


def sample_clip(
    denoise: WindowDenoiser,
    noise: Tensor,
    settings: SampleSettings,
    *,
    begin: int | None = None,
    schedule: Schedule | None = None,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
    progress: Progress = NOWHERE,
    alone: WindowDenoiser | None = None,
    storage: Storage = IN_MEMORY,
) -> Tensor:
    """Latents [1, c, F, h, w] of noise [1, c, F, h, w], F >= 1, float32 on the noise's device.

    denoise: gives (uncond, cond) where the settings are guided, else (cond,). A clip that is no longer than a
    window is one window in natural order. begin: the timestep that the noise is at, where the clip is refined
    and not made anew (``UnifiedNoise.over``). Callbacks and progress: see ``samplers.sample`` and
    ``windows.windowed``. alone: gives (cond,), for the steps without guidance of ``settings.fast``. storage:
    where what has the size of the clip lies.
    """
    windows, fast = settings.windows(noise.shape[2]), settings.fast
    schedule = schedule or zero_terminal_snr_schedule()
    timesteps = settings.timesteps(begin, schedule.train_steps)

    def of_clip(denoise: WindowDenoiser) -> Denoiser:
        how = {"batch": settings.batch, "fuse": settings.fuse, "on_window": on_window, "storage": storage}
        return windowed(denoise, lambda t: windows, **how)

    predict = of_clip(denoise)
    if settings.guided:
        predict = guided_during(
            predict, alone and of_clip(alone), settings.guidance, timesteps, fast, storage
        )
    return sample(
        predict,
        noise,
        schedule,
        timesteps,
        solver=solver_named(fast.solver),
        on_step=on_step,
        progress=progress,
        keep_every=fast.reuse_every,
        storage=storage,
    )


def working_bytes(
    unet: UniAnimateUNet, height: int, width: int, frames: int, settings: SampleSettings
) -> int:
    """Memory that one call of the network needs beside its weights, for latents of that size."""
    at_once = frames if settings.mode == "short" else min(frames, settings.window)
    branches = 2 if settings.guided and settings.together is True else 1
    tokens = branches * settings.batch * (1 + at_once) * height * width
    values = tokens * unet.config.dim
    # The widest feed-forward at the finest level is the first temporal transformer's.
    inner = INNER_TENSORS * min(tokens * unet.config.num_heads * unet.config.head_dim, FEED_FORWARD_VALUES)
    held = max(WINDOW_TENSORS * values, FEED_FORWARD_TENSORS * values + inner)
    return int(held * unet.dtype.itemsize)


def settled(
    settings: SampleSettings, unet: UniAnimateUNet, height: int, width: int, frames: int, free: int | None
) -> SampleSettings:
    """The settings with ``together`` decided by the memory that is free where the network lies (None: not known)."""
    if settings.together != "auto":
        return settings
    both = replace(settings, together=True)
    needed = working_bytes(unet, height, width, frames, both)
    return replace(settings, together=free is not None and fits(needed, free))


def segments(frames: int, size: int) -> list[range]:
    """Frames of each segment of a chained clip: the first is the last of the segment before (spec 2.6).

    As few segments of at most ``size`` frames as there can be, of lengths that differ by one at most: the
    network was trained on 16 and 32 frames, not on the few that a last segment would otherwise get.
    """
    if frames < 1:
        raise ValueError(f"A clip has at least one frame; {frames} was given.")
    if size < 2:
        raise ValueError(
            f"A segment continues the frame before it, so it has at least 2 frames; {size} was given."
        )
    count = max(1, -(-(frames - 1) // (size - 1)))
    seams = [(frames - 1) * k // count for k in range(count + 1)]
    return [range(first, last + 1) for first, last in zip(seams, seams[1:], strict=False)]


def continued(
    sample_segment: Callable[[range, Tensor | None], Tensor],
    picture_of: Callable[[Tensor], Tensor],
    parts: Sequence[range],
    first_frame: Tensor | None = None,
) -> Iterator[Tensor]:
    """A clip of any length, segment after segment, each from the last frame of the one before (spec 2.6).

    sample_segment(frames, picture that frame 0 continues or None) -> the segment's latents [1, c, f, h, w].
    picture_of(latents [1, c, 1, h, w]) -> that picture, in whatever form sample_segment takes it.
    parts: frames of each segment (see ``segments``). first_frame: what the first one continues, if anything.
    Yields new latents as soon as they are sampled: the first segment's, then the others' without the frame
    that they share with the one before. What was yielded before an error stays valid.
    """
    picture = first_frame
    for number, segment in enumerate(parts):
        latents = sample_segment(segment, picture)
        yield latents[:, :, 1:] if number else latents
        if number + 1 < len(parts):
            picture = picture_of(latents[:, :, -1:])
