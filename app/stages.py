"""What a run makes of networks, stage by stage, so that one call of each can be counted or measured.

The networks are built from their architecture alone: without numbers on the meta device, with random ones elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from math import ceil
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..video_core.deep import Deep, DeepFeatures
from .costs import META, Seconds, timed, with_numbers
from .systems import Sampling, UniAnimate, XDyna

if TYPE_CHECKING:
    from ..pose_align.draw import Style
    from ..video_core.windows import Windows
    from ..xdyna_core.controlnet import Residuals
    from .animate import Preparation, Size

RELEASE_ENCODERS = {"unianimate": 1_069_750_000, "xdyna": 868_800_000}
"""Parameters beside those that denoise: autoencoder, CLIP towers, Resampler (cost tables of both systems)."""

RELEASE_TOWER = 632_077_057
"""Parameters of the largest of them, CLIP's image tower."""

ENCODER_BYTES = 4
"""They run in float32."""

DECODED_AT_ONCE = 2
"""Frames in one pass of the autoencoder (``Vae.decode``)."""

CLIP_COPIES, RUN_COPIES = 2, 4
"""Tensors of latents at a time: of the clip, and of what is sampled in one run."""

STATE_TENSORS = {"ddim": 1, "dpmpp_2m": 2, "unipc": 4}
"""Tensors of the clip's latents in the state of a resumable run: the latents, and what the solver remembers."""


@dataclass(frozen=True)
class Asked:
    """What is to be estimated. frames: of the clip. demo: with the embedded weights, else the releases'.

    dtype: in which the networks that denoise compute. fp8: whether their large weights are stored in eight bits.
    tiled: whether frames are decoded in tiles, which a run does by itself where memory runs out.
    """

    system: UniAnimate | XDyna
    sampling: Sampling
    frames: int
    demo: bool
    device: torch.device
    dtype: torch.dtype
    fp8: bool = False
    tiled: bool = False

    @property
    def settings(self) -> Any:
        """The core's settings for the clip."""
        return self.system.settings(self.sampling, self.frames)


@dataclass(frozen=True)
class Stage:
    """A call that a run makes ``times`` times. networks: whose weights it needs.

    working: memory beside the weights by the core's own formula; 0 where there is none. beside: bytes that are held
    where the networks run, from one call to the next. waiting: bytes of the clip that wait where its latents do.
    """

    networks: tuple[nn.Module, ...]
    call: Callable[[], Any] = field(repr=False)
    times: float
    working: int = 0
    beside: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Stages:
    """What both systems have."""

    asked: Asked

    @property
    def latent(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        width, height = self.asked.settings.size
        return height // 8, width // 8

    def network(self, make: Callable[[], nn.Module], where: torch.device, own: bool = False) -> nn.Module:
        """A network there; on the meta device it has no numbers. own: in its own precision, float32."""
        from ..video_core.fp8 import store_in_eight_bits

        with META:
            network = make().requires_grad_(False)
        if not own:
            network.to(self.asked.dtype)
            if self.asked.fp8:
                store_in_eight_bits(network)
        return network if where.type == "meta" else with_numbers(network, where)

    def config(self, default: Any, demo: str, *keys: str) -> Any:
        """The architecture of the embedded file of that name, or the release's."""
        from ..demo import checkpoints
        from ..video_core.weights import open_checkpoint, read_config

        if not self.asked.demo:
            return default
        return read_config(open_checkpoint(getattr(checkpoints, demo)), default, *keys)

    def encoder_bytes(self) -> int:
        """Weights of autoencoder and CLIP, in float32."""
        from .networks import Weights, find_files

        system = self.asked.system.system
        if not self.asked.demo:
            return ENCODER_BYTES * RELEASE_ENCODERS[system]
        parts = find_files(system, Weights(demo=True)).parts
        files = {file for name, file in parts.items() if not name.endswith("-net")}
        # The embedded files are fp16.
        return 2 * sum(file.stat().st_size for file in files)

    def tower_bytes(self) -> int:
        """Weights of the largest of them, which has the device to itself."""
        return self.encoder_bytes() if self.asked.demo else ENCODER_BYTES * RELEASE_TOWER

    def in_memory(self) -> float:
        """The share of what has the length of the clip that is in memory at a time; if below 1 it lies on disk."""
        from ..video_core.storage import LONG_CLIP, STRETCH

        frames = self.asked.frames
        return 1.0 if frames <= LONG_CLIP else STRETCH / frames

    def in_one_piece(self) -> bool:
        """Whether what is sampled in one run is one window."""
        return self.at_once() == self.asked.frames

    def of_run(self) -> int:
        """Frames that are sampled in one run."""
        return self.at_once() if self.in_one_piece() else self.asked.frames

    def copies(self) -> float:
        """Tensors of the clip's latents at a time: draws and noise, and of what is sampled in one run its state, the
        sums of both branches, and what guidance makes of them.
        """
        return CLIP_COPIES + RUN_COPIES * self.of_run() / self.asked.frames

    def branches(self) -> int:
        """Of guidance, in any step."""
        return 2 if self.branch_steps()[0] else 1

    def branch_steps(self) -> tuple[int, int]:
        """Steps with both branches of guidance, and steps with one."""
        how = self.asked.settings.sampling
        steps = len(how.timesteps())
        both = sum(how.fast.guides(step, steps) for step in range(steps)) if how.guided else 0
        return both, steps - both

    def calls_per_step(self) -> dict[int, int]:
        """Branches in a call -> how often a window is called so in a run."""
        both, alone = self.branch_steps()
        return {2: both, 1: alone} if self.asked.settings.sampling.together else {1: alone + 2 * both}

    def stages(self, where: torch.device) -> list[Stage]:
        """All that a run makes of networks, there."""
        with torch.no_grad(), where:
            return [*self.conditions(where), *self.denoising(where), *self.pictures(where)]

    def pictures(self, where: torch.device) -> list[Stage]:
        """The autoencoder: the reference, then the frames that go through it at once."""
        from ..video_core.vae import Vae, VaeConfig

        config = self.config(VaeConfig(), "VAE", "vae_config", "config")
        vae = self.network(partial(Vae, config), where, own=True)
        height, width = self.latent
        vae.network.use_tiling = self.asked.tiled
        at_once = 1 if self.asked.tiled else min(DECODED_AT_ONCE, self.asked.frames)
        reference, latents = torch.randn(1, 3, 8 * height, 8 * width), torch.randn(at_once, 4, height, width)
        return [
            Stage((vae,), partial(vae.moments, reference), 1),
            Stage((vae,), partial(vae.restore, latents), self.asked.frames / at_once),
        ]

    def with_memory(self, stage: Stage, working: int, held: int = 0) -> Stage:
        """A stage of denoising. held: beside it; deep features, which are of one branch so far, belong there too where
        the clip is one window, else they wait.
        """
        one, deep = self.in_one_piece(), self.branches() * stage.waiting
        return replace(stage, working=working, beside=held + one * deep, waiting=(not one) * deep)

    def drawing(self) -> Seconds:
        """Time of drawing all skeletons."""
        from ..demo import inputs
        from .animate import Preparation, Skeletons

        poses = inputs.driving_poses()[:1]
        style, canvas, times = self.drawn(Preparation())
        one = Skeletons(poses, style, canvas)
        return timed(lambda: one[0], torch.device("cpu"), 0.05) * (times * self.asked.frames)


class UniAnimateStages(Stages):
    def at_once(self) -> int:
        """Frames that go through the network at once."""
        how = self.asked.settings.sampling
        if how.mode == "continuation":
            return max(map(len, how.parts(self.asked.frames)))
        return len(how.windows(self.asked.frames)[0])

    def in_one_piece(self) -> bool:
        """See ``Stages``; segments are."""
        return self.asked.settings.sampling.mode != "windows" or super().in_one_piece()

    def windows(self) -> float:
        """Windows of a step of the whole clip."""
        how, frames = self.asked.settings.sampling, self.asked.frames
        if how.mode == "continuation":
            return sum(map(len, how.parts(frames))) / self.at_once()
        return len(how.windows(frames))

    def feature_bytes(self) -> int:
        """Of the features of all poses, which lie where the clip's latents do."""
        from ..unianimate_core.config import UniAnimateConfig

        height, width = self.latent
        channels = self.config(UniAnimateConfig(), "UNIANIMATE").concat_dim
        return self.asked.frames * channels * height * width * self.asked.dtype.itemsize

    def map_bytes(self) -> int:
        """No maps of faces are shown to it."""
        return 0

    def state_bytes(self, clip: int, states: int) -> float:
        """On disk at most: so many states, or one while a part is finished, beside the parts that are."""
        how, frame = self.asked.settings.sampling, clip / self.asked.frames
        *earlier, longest = sorted(map(len, how.parts(self.asked.frames)))
        state = STATE_TENSORS[how.fast.solver] * longest * frame
        return sum(earlier) * frame + max(states * state, state + longest * frame)

    def drawn(self, how: Preparation) -> tuple[Style, Size | None, float]:
        """Style, canvas, and how often a frame is drawn."""
        from ..pose_align.draw import UNIANIMATE

        return how.style(UNIANIMATE), None, 1

    @property
    def unet(self) -> Callable[[], nn.Module]:
        from ..unianimate_core.config import UniAnimateConfig
        from ..unianimate_core.unet import UniAnimateUNet

        return partial(UniAnimateUNet, self.config(UniAnimateConfig(), "UNIANIMATE"))

    def conditions(self, where: torch.device) -> list[Stage]:
        """The tower of the poses."""
        from ..unianimate_core.pipeline import FRAMES_AT_ONCE

        unet, (height, width) = self.network(self.unet, where), self.latent
        frames = min(FRAMES_AT_ONCE, self.asked.frames)
        poses = torch.zeros(1, 3, frames, 8 * height, 8 * width, dtype=torch.uint8)
        return [Stage((unet,), partial(unet.encode_poses, poses), self.asked.frames / frames)]

    def denoising(self, where: torch.device) -> list[Stage]:
        """The network under one branch or both, in whole steps and in those that reuse deep features."""
        from ..unianimate_core.sample import working_bytes

        how, unet = self.asked.settings.sampling, self.network(self.unet, where)
        frames, (height, width) = self.at_once(), self.latent
        text, image = torch.zeros(1, 77, unet.config.context_dim), torch.zeros(1, 1, unet.config.context_dim)
        told = unet.encode_conditions(zero_y=text, image=image)
        told = replace(told, context=unet.project_context(told.context))
        batch = min(how.batch, ceil(self.windows()))
        pose = torch.randn(batch, unet.config.concat_dim, frames, height, width, dtype=self.asked.dtype)
        told, latents = replace(told, pose=pose), torch.randn(batch, 4, frames, height, width)

        def call(branches: int, deep: Deep | None = None) -> Tensor:
            if branches == 1:
                return unet.denoise(latents, 5, told, deep)
            return unet.denoise_branches(latents, 5, [told] * branches, deep)

        windows, calls = [list(range(frames))] * batch, self.windows() / batch
        size = height, width, self.asked.frames
        own = _steps(
            call, (unet,), self.calls_per_step(), how.fast.reuse_every, windows, calls, self.of_run()
        )
        return [self.with_memory(stage, working_bytes(unet, *size, how)) for stage in own]


class XDynaStages(Stages):
    def at_once(self) -> int:
        """Frames that go through the network at once."""
        return min(self.asked.frames, self.asked.settings.sampling.window)

    def feature_bytes(self) -> int:
        """Nothing else has the length of the clip."""
        return 0

    def map_bytes(self) -> int:
        """Of both maps of all faces, in RAM."""
        from ..video_core.reels import HELD

        height, width = self.latent
        return min(6 * 64 * height * width * self.asked.frames, 2 * HELD) if self.asked.system.face else 0

    def hints(self) -> tuple[int, int]:
        """Control images of a ControlNet whose embeddings are kept, and bytes of one."""
        from ..xdyna_core.config import ControlNetConfig
        from ..xdyna_core.reuse import HINT_BYTES, HINT_FRAMES

        height, width = self.latent
        channels = self.config(ControlNetConfig(), "XDYNA_POSE").block_out_channels[0]
        each = channels * height * width * self.asked.dtype.itemsize
        return min(HINT_BYTES // each, HINT_FRAMES, self.asked.frames), each

    def embeddings(self) -> float:
        """How often a frame is embedded, on average: once where that is kept, else in every step."""
        kept = self.hints()[0] / self.asked.frames
        return kept + (1 - kept) * sum(self.branch_steps())

    def hint_bytes(self) -> int:
        """Of all embeddings that are kept."""
        kept, each = self.hints()
        return len(self.kinds) * kept * each

    def of_window(self, added: Residuals) -> Residuals:
        """A copy of what ControlNets added, which stands for what a step makes anew; where there are several windows
        with the copies of ``OncePerFrame``: those that windows to come ask for, and the window's own.
        """
        frames = list(range(self.at_once() * self.batch))
        made = added.frames(frames)
        if self.in_one_piece():
            return made
        made.frames(frames[: 2 * self.asked.settings.sampling.overlap])
        return made.frames(frames)

    def shared_bytes(self, added: Residuals) -> int:
        """Of what ControlNets added to a call's frames and windows to come ask for again: overlaps at both ends."""
        how, frames = self.asked.settings.sampling, self.at_once() * self.batch
        if len(how.windows(self.asked.frames, 0)) == 1:
            return 0
        each = sum(tensor.nbytes for tensor in (*added.down, added.mid)) // frames
        return min(2 * how.overlap, frames) * each

    def state_bytes(self, clip: int, states: int) -> float:
        """Of so many states on disk."""
        return states * STATE_TENSORS[self.asked.settings.sampling.fast.solver] * clip

    def drawn(self, how: Preparation) -> tuple[Style, Size | None, float]:
        """Style, canvas, and how often a frame is drawn: for the clip's range, and to be embedded."""
        from ..pose_align.draw import XDYNA

        return how.style(XDYNA), self.asked.settings.size, 1 + self.embeddings()

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """Embedded file and channels of every ControlNet."""
        return [("XDYNA_POSE", 3), *([("XDYNA_FACE", 6)] if self.asked.system.face else [])]

    def control(
        self, kind: int, where: torch.device
    ) -> tuple[nn.Module, Tensor, Callable[[Tensor], Residuals]]:
        """A ControlNet, the control images of a call of the UNet, and its call with their embedding."""
        from ..video_core.savings import at_once
        from ..xdyna_core.config import ControlNetConfig
        from ..xdyna_core.controlnet import ControlNet
        from ..xdyna_core.sample import CONTROL_VALUES

        (name, channels), (height, width) = self.kinds[kind], self.latent
        config = self.config(ControlNetConfig(conditioning_channels=channels), name)
        control, frames = self.network(partial(ControlNet, config), where), self.at_once() * self.batch
        text = torch.zeros(1, 77, config.cross_attention_dim, dtype=self.asked.dtype)
        latents = torch.randn(1, 4, frames, height, width)
        chunk = at_once(control.savings.group, CONTROL_VALUES * height * width)
        images = torch.zeros(frames, channels, 8 * height, 8 * width)
        return control, images, lambda hints: control(latents, 5, text, hints, chunk=chunk)

    @property
    def batch(self) -> int:
        """Windows in a call."""
        how = self.asked.settings.sampling
        return min(how.batch, len(how.windows(self.asked.frames, 0)))

    def conditions(self, where: torch.device) -> list[Stage]:
        """The control images' embedding, and the ControlNets, which see a frame once per step."""
        steps, times = sum(self.branch_steps()), self.asked.frames / (self.at_once() * self.batch)
        found = []
        for kind in range(len(self.kinds)):
            control, images, call = self.control(kind, where)
            found.append(Stage((control,), partial(control.embed, images), times * self.embeddings()))
            found.append(Stage((control,), partial(call, control.embed(images)), times * steps))
        return found

    def denoising(self, where: torch.device) -> list[Stage]:
        """The UNet under one branch or both, in whole steps and in those that reuse deep features."""
        from ..xdyna_core.config import XDynaConfig
        from ..xdyna_core.sample import working_bytes
        from ..xdyna_core.unet import XDynaUNet

        how, batch = self.asked.settings.sampling, self.batch
        unet = self.network(partial(XDynaUNet, self.config(XDynaConfig(), "XDYNA")), where)
        frames, (height, width), config = self.at_once(), self.latent, unet.config
        text = torch.zeros(2, 77 + config.image_tokens, config.cross_attention_dim, dtype=self.asked.dtype)
        context, sample = unet.project_context(text), torch.randn(batch, 4, 1 + frames, height, width)
        controls = [self.control(kind, where) for kind in range(len(self.kinds))]
        added = reduce(add, [call(net.embed(images)) for net, images, call in controls])

        def call(branches: int, deep: Deep | None = None) -> Tensor:
            rows = [branch for branch in range(branches) for _ in range(batch)]
            own = self.of_window(added).as_windows(batch)
            return unet(sample, 5, context.rows(rows), own.down, own.mid, deep=deep)

        networks = (unet, *(net for net, _, _ in controls))
        windows = [list(range(frames))] * batch
        calls = len(how.windows(self.asked.frames, 0)) / batch
        size = height, width, self.asked.frames
        own = _steps(
            call, networks, self.calls_per_step(), how.fast.reuse_every, windows, calls, self.of_run()
        )
        held = self.hint_bytes() + self.shared_bytes(added)
        return [self.with_memory(stage, working_bytes(unet, *size, how), held) for stage in own]


def _steps(
    call: Callable[[int, Deep | None], Tensor],
    networks: tuple[nn.Module, ...],
    steps: Mapping[int, int],
    every: int,
    windows: Windows,
    calls: float,
    frames: int,
) -> Iterator[Stage]:
    """Whole steps, and those that take deep features from them, with the bytes of a branch's features of the clip.
    steps: with so many branches in a call.
    """
    for branches, count in steps.items():
        whole = ceil(count / every)
        if whole:
            yield Stage(networks, partial(call, branches), whole * calls)
        if count > whole:
            deep, known = DeepFeatures([1, 0], 2), range(branches)
            call(branches, deep.at(1, known, windows))
            again = partial(call, branches, deep.at(0, known, windows))
            waiting = deep.kept[0, 0].nbytes * (1 + frames)
            yield Stage(networks, again, (count - whole) * calls, waiting=waiting)


OF_SYSTEM = {"unianimate": UniAnimateStages, "xdyna": XDynaStages}


def stages_of(asked: Asked) -> Stages:
    """Those of the request's system."""
    return OF_SYSTEM[asked.system.system](asked)
