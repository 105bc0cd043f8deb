"""Sampling a clip of any length with the networks of the method (X-Dyna spec 8.3, 8.4).

The latents that go round are the clip's frames, [1, c, F, h, w] in sampler units. The clean reference is no
part of them: it is put in front of every window, and what the UNet predicts for it is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor

from ..video_core.deep import DeepFeatures
from ..video_core.fast import EXACT, Fast, guided_during
from ..video_core.guidance import Denoiser, Together, for_branches
from ..video_core.placement import fits
from ..video_core.progress import NOWHERE, Progress
from ..video_core.samplers import OnStep, sample
from ..video_core.savings import FEED_FORWARD_VALUES, at_once, set_savings
from ..video_core.schedule import Schedule, leading_timesteps, linear_schedule
from ..video_core.solvers import solver_named
from ..video_core.storage import IN_MEMORY, Storage
from ..video_core.thrift import Way, thrifty
from ..video_core.windows import (
    Fuse,
    WindowDenoiser,
    Windows,
    WindowsAt,
    open_windows,
    uniform_windows,
    windowed,
)
from .controlnet import ControlNet, Residuals
from .frames import ControlImages
from .reuse import EVERYTHING, HINT_BYTES, EmbeddedImages, FrameResiduals, OncePerFrame, Reuse
from .transformer import Strengths
from .unet import XDynaUNet

PIXELS_PER_LATENT = 8

WINDOW_TENSORS, FEED_FORWARD_TENSORS, INNER_TENSORS = 20.8, 16.6, 17.5
"""Tensors of a whole window at the finest level (pictures x h x w x channels) that are alive at once at most,
ControlNet residuals among them; and in its feed-forwards, beside the inner activations of the values that go
through at a time (``LayerSavings``). Counted at full size with an attention that keeps no scores.
"""

CONTROL_VALUES = 2**8
"""A ControlNet's pictures go through it as many places (h x w) at a time as ``LayerSavings.group`` has values,
divided by this: 2**16, enough to fill a GPU.
"""


@dataclass(frozen=True)
class Span:
    """How strongly a condition acts, and during which part of a run.

    strength: 0 leaves the condition out, 1 is the original. start, end: shares of the steps that run; a
    step belongs to the span in which it begins.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"A strength is 0 (left out), 1 (as published) or between; got {self.strength}.")
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(
                f"A condition acts from start to end, 0 to 1 of the steps; got {self.start} to {self.end}."
            )

    def at(self, progress: float) -> float:
        """The strength of the step that begins at this share of the run."""
        return self.strength if self.start <= progress < self.end else 0.0


@dataclass(frozen=True)
class Control:
    """A ControlNet, the clip it looks at (one image per frame of the latents), and when it acts."""

    network: ControlNet
    images: ControlImages
    span: Span = Span()


@dataclass(frozen=True)
class Conditions:
    """All that the networks are told about a clip.

    reference: [1, c, 1, h, w], latents of the reference picture in sampler units, never noised.
    context: [branches, text + image tokens, dim], branches (uncond, cond), or (cond,) for a single-branch
        run; the image tokens last.
    controls: pose, face, both or none; their residuals are added up.
    adapter, image_prompt: when the Dynamics-Adapter (the reference frame) and the image tokens act.
    """

    reference: Tensor
    context: Tensor
    controls: tuple[Control, ...] = ()
    adapter: Span = Span()
    image_prompt: Span = Span()

    def to(self, device: torch.device | str) -> Conditions:
        """The same with its tensors there (control clips stay bytes on the CPU until they are needed)."""
        return replace(self, reference=self.reference.to(device), context=self.context.to(device))

    def check(self, frames: int, height: int, width: int) -> None:
        """Raise ValueError unless these are the conditions of latents [1, c, frames, height, width]."""
        if tuple(self.reference.shape[2:]) != (1, height, width):
            raise ValueError(
                f"The reference has latents {list(self.reference.shape)} and the clip {height} x {width}; "
                "encode the reference at the size of the clip."
            )
        for control in self.controls:
            images, size = len(control.images), tuple(control.images.frames.shape[1:3])
            wanted = PIXELS_PER_LATENT * height, PIXELS_PER_LATENT * width
            if images != frames or size != wanted:
                raise ValueError(
                    f"A control clip has {images} images of {size[1]} x {size[0]} pixels, the video {frames} "
                    f"frames of {wanted[1]} x {wanted[0]}; give one image per frame, of that size."
                )


@dataclass(frozen=True)
class SampleSettings:
    """How a clip is denoised; the defaults are the published ones.

    steps: of the whole schedule. strength: the share of it that runs, from its end (X-Dyna spec 8.1).
    guidance: 7.5; below 1 the conditional branch runs alone. F (quirk 3): the original stops with an error.
    both_at_one: K, guidance of exactly 1 runs both branches, as published; False runs the conditional one,
        which gives the same up to rounding at half the cost.
    window, overlap: frames of a context window, and frames that neighbours share.
    loop: K, windows wrap from the last frames to the first as if it were a loop (X-Dyna spec 8.4); False
        keeps the two ends apart.
    batch: windows per call of the network. fuse: "uniform" as published, or "pyramid".
    together: both branches of guidance in one call, as published; False takes less memory; "auto" by what is free.
    reuse: what is computed once where the original computes it again; changes no result beyond rounding.
    fast: what makes the result sooner and a little different.
    """

    steps: int = 25
    strength: float = 1.0
    guidance: float = 7.5
    both_at_one: bool = True
    window: int = 16
    overlap: int = 4
    loop: bool = True
    batch: int = 1
    fuse: Fuse = "uniform"
    together: Together = True
    reuse: Reuse = Reuse()
    fast: Fast = EXACT

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"Guidance is a number from 0 up; {self.guidance} was given.")

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch is needed."""
        return self.guidance > 1 or (self.guidance == 1 and self.both_at_one)

    def timesteps(self, schedule: Schedule | None = None) -> list[int]:
        """The timesteps that run, descending; ValueError where the strength leaves none."""
        return leading_timesteps(self.steps, self.strength, (schedule or linear_schedule()).train_steps)

    def windows(self, frames: int, offset: int) -> Windows:
        """The context windows of one step. K (quirk 7): only the offset moves the seams from step to step."""
        if self.loop:
            return uniform_windows(frames, self.window, self.overlap, offset=offset)
        return open_windows(frames, self.window, self.overlap, offset=offset)

    def windows_at(self, frames: int, offsets: Sequence[int], schedule: Schedule | None = None) -> WindowsAt:
        """The windows of a clip by timestep. offsets: one per step that runs."""
        timesteps = self.timesteps(schedule)
        if len(offsets) < len(timesteps):
            raise ValueError(
                f"{len(timesteps)} steps run and there are {len(offsets)} window offsets; draw one per step."
            )
        turned = dict(zip(timesteps, offsets, strict=False))
        return lambda t: self.windows(frames, turned[t])


def control_residuals(
    controls: Sequence[Control], text: Tensor, progress: Mapping[int, float], hint_bytes: int = 0
) -> FrameResiduals:
    """The sum over ControlNets for frames of the clip (X-Dyna spec 6); None where none acts.

    text: [rows, text tokens, dim]. K (quirk 4): both branches see the same images. hint_bytes: what may be
    kept of each ControlNet's embedded images.
    """
    embedded = [EmbeddedImages(control.network, control.images, hint_bytes) for control in controls]

    def residuals(latents: Tensor, t: int, frames: list[int], row: int) -> Residuals | None:
        total = None
        for control, images in zip(controls, embedded, strict=True):
            strength = control.span.at(progress[t])
            if strength == 0:
                continue
            hints = images.at(frames, latents.device)
            chunk = at_once(control.network.savings.group, CONTROL_VALUES * latents[0, 0, 0].numel())
            own = control.network(latents, t, text[row : row + 1], hints, strength=strength, chunk=chunk)
            total = own if total is None else total + own
        return total

    return residuals


def branch_denoiser(
    unet: XDynaUNet,
    conditions: Conditions,
    timesteps: Sequence[int],
    *,
    together: bool = True,
    reuse: Reuse = EVERYTHING,
    windows_at: WindowsAt | None = None,
    deep: DeepFeatures | None = None,
) -> WindowDenoiser:
    """The networks under the conditions of one clip, as a denoiser of its windows.

    timesteps: those that run, which the conditions' spans are counted in. together: see SampleSettings.
    windows_at: the windows of every step, all of which will be asked for, so that a ControlNet need not see a
    frame twice. UNet and conditions must be on the device where the latents will be.
    deep: what the UNet's coarse levels made, for the steps between whole ones. Where memory runs out: see
    ``thrifty``.
    """
    networks = (unet, *(control.network for control in conditions.controls))
    progress = {t: index / len(timesteps) for index, t in enumerate(timesteps)}
    set_savings(unet, reuse.layers)
    context = unet.project_context(conditions.context) if reuse.context else conditions.context
    branches = list(range(len(conditions.context)))

    def working(way: Way) -> WindowDenoiser:
        for network in networks:
            set_savings(network, way.layers)
        calls = [branches] if way.together else [[branch] for branch in branches]
        controlled = _controlled(unet, conditions, progress, calls, reuse, windows_at)

        def denoise(latents: Tensor, t: int, windows: Windows) -> Tensor:
            strengths = Strengths(conditions.adapter.at(progress[t]), conditions.image_prompt.at(progress[t]))
            latents, predictions = latents.to(conditions.reference.device), []
            for call in calls:
                rows = [branch for branch in call for _ in windows]
                own = context.rows(rows) if reuse.context else context[rows]
                views = latents if reuse.prefix else for_branches(latents, len(rows))
                residuals = controlled(latents, t, windows, call)
                added = () if residuals is None else (residuals.down, residuals.mid)
                reference = conditions.reference.to(views).expand(len(views), -1, -1, -1, -1)
                sample = torch.cat([reference, views], dim=2)
                kept = None if deep is None else deep.at(t, call, windows)
                predictions.append(unet(sample, t, own, *added, strengths=strengths, deep=kept)[:, :, 1:])
            return rearrange(torch.cat(predictions), "(b w) c f h x -> b w c f h x", w=len(windows))

        return denoise

    return thrifty(working, Way(together, reuse.layers))


def _controlled(
    unet: XDynaUNet,
    conditions: Conditions,
    progress: Mapping[int, float],
    calls: Sequence[Sequence[int]],
    reuse: Reuse,
    windows_at: WindowsAt | None,
) -> Callable[[Tensor, int, Windows, Sequence[int]], Residuals | None]:
    """(latents of W windows [W, c, f, h, w], timestep, the windows, branches) -> residuals of W rows, or of W
    for each branch where the branches' texts differ.
    """
    text = conditions.context[:, : -unet.config.image_tokens]
    one_for_all = reuse.branches and all(torch.equal(text[0], other) for other in text[1:])
    rows_of = [[0] if one_for_all else list(call) for call in calls]
    residuals = control_residuals(conditions.controls, text, progress, HINT_BYTES if reuse.hints else 0)
    if reuse.frames and windows_at is not None:
        asked = Counter(row for rows in rows_of for row in rows)

        def uses(t: int, row: int) -> Counter[int]:
            return Counter(asked[row] * [frame for window in windows_at(t) for frame in window])

        residuals = OncePerFrame(residuals, uses)

    def controlled(latents: Tensor, t: int, windows: Windows, call: Sequence[int]) -> Residuals | None:
        clip = rearrange(latents, "w c f h x -> 1 c (w f) h x")
        frames = [frame for window in windows for frame in window]
        made = [residuals(clip, t, frames, row) for row in ([0] if one_for_all else call)]
        if made[0] is None:
            return None
        return reduce(Residuals.beside, [own.as_windows(len(windows)) for own in made])

    return controlled


def clip_denoiser(
    denoise: WindowDenoiser,
    settings: SampleSettings,
    windows_at: WindowsAt,
    on_window: Callable[[int, int], None] | None = None,
    timesteps: Sequence[int] = (),
    alone: WindowDenoiser | None = None,
    storage: Storage = IN_MEMORY,
) -> Denoiser:
    """A denoiser of windows becomes one of the clip: averaged over windows, then guided (X-Dyna spec 8.3).

    timesteps, alone: where guidance acts in a part of the steps only, see ``fast.guided_during``. storage: where
    predictions of the clip lie.
    """

    def of_clip(denoise: WindowDenoiser) -> Denoiser:
        how = {"batch": settings.batch, "fuse": settings.fuse, "on_window": on_window, "storage": storage}
        return windowed(denoise, windows_at, **how)

    predict = of_clip(denoise)
    if not settings.guided:
        return predict
    return guided_during(
        predict, alone and of_clip(alone), settings.guidance, timesteps, settings.fast, storage
    )


def sample_clip(
    denoise: WindowDenoiser,
    latents: Tensor,
    settings: SampleSettings,
    offsets: Sequence[int],
    *,
    schedule: Schedule | None = None,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
    progress: Progress = NOWHERE,
    alone: WindowDenoiser | None = None,
    storage: Storage = IN_MEMORY,
) -> Tensor:
    """Latents [1, c, F, h, w] of noised latents [1, c, F, h, w], F >= 1, float32 on their device.

    denoise: gives (uncond, cond) where the settings are guided, else (cond,). offsets: one per step that
    runs (``ClipDraws.offsets``). Callbacks and progress: see ``samplers.sample`` and ``windows.windowed``.
    alone: gives (cond,), for the steps without guidance of ``settings.fast``. storage: where what has the size of
    the clip lies.
    """
    schedule, fast = schedule or linear_schedule(), settings.fast
    windows_at = settings.windows_at(latents.shape[2], offsets, schedule)
    timesteps = settings.timesteps(schedule)

    predict = clip_denoiser(denoise, settings, windows_at, on_window, timesteps, alone, storage)
    return sample(
        predict,
        latents,
        schedule,
        timesteps,
        solver=solver_named(fast.solver),
        on_step=on_step,
        progress=progress,
        keep_every=fast.reuse_every,
        storage=storage,
    )


def working_bytes(unet: XDynaUNet, height: int, width: int, frames: int, settings: SampleSettings) -> int:
    """Memory that one call of the networks needs beside their weights, for latents of that size."""
    branches = 2 if settings.guided and settings.together is True else 1
    tokens = branches * settings.batch * (1 + min(frames, settings.window)) * height * width
    values = tokens * unet.config.block_out_channels[0]
    inner = INNER_TENSORS * min(values, FEED_FORWARD_VALUES)
    held = max(WINDOW_TENSORS * values, FEED_FORWARD_TENSORS * values + inner)
    return int(held * unet.dtype.itemsize)


def settled(
    settings: SampleSettings, unet: XDynaUNet, height: int, width: int, frames: int, free: int | None
) -> SampleSettings:
    """The settings with ``together`` decided by the memory that is free where the network lies (None: not known)."""
    if settings.together != "auto":
        return settings
    both = replace(settings, together=True)
    return replace(
        settings, together=free is None or fits(working_bytes(unet, height, width, frames, both), free)
    )
