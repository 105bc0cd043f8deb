"""What the two systems are told, and how each makes a clip of what was prepared: one page, twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .animate import Preparation, Prepared, Size, unianimate_skeletons, xdyna_skeletons
from .networks import System, XDynaNetworks

if TYPE_CHECKING:
    from torch import Tensor

    from ..unianimate_core.pipeline import Models as UniAnimateModels
    from ..unianimate_core.pipeline import Settings as UniAnimateSettings
    from ..video_core.fast import Fast
    from ..video_core.guidance import Together
    from ..video_core.placement import Placed
    from ..video_core.progress import Journal
    from ..video_core.samplers import OnStep
    from ..video_core.storage import Storage
    from ..xdyna_core.face import FaceMaps
    from ..xdyna_core.pipeline import Settings as XDynaSettings


@dataclass(frozen=True)
class Sampling:
    """What both systems are told; None is the system's published value.

    size: (width, height) in pixels. order: of random draws, "per_frame" or "original".
    window, overlap: frames of a context window, and of what neighbours share. batch: windows per call.
    fuse: "uniform" or "pyramid". together: both branches of guidance in one call, "auto" where memory allows.
    solver and what follows: see ``video_core.fast``.
    """

    size: Size | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    order: Literal["per_frame", "original"] = "per_frame"
    window: int | None = None
    overlap: int | None = None
    batch: int = 1
    fuse: Literal["uniform", "pyramid"] = "uniform"
    together: Together | None = None
    solver: str = "ddim"
    guided_from: float = 0.0
    guided_until: float = 1.0
    reuse_every: int = 1
    compile: bool = False

    def fast(self) -> Fast:
        """What makes the result sooner and a little different."""
        from ..video_core.fast import Fast

        return Fast(self.solver, self.guided_from, self.guided_until, self.reuse_every, self.compile)

    def chosen(self, *names: str) -> dict[str, Any]:
        """Those of the values that are not left to the system."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Clip:
    """A clip in the making.

    skeletons: what the network is shown, uint8 RGB [h, w, 3] each. frames: the result, uint8 RGB [H, W, 3],
    made while they are asked for.
    """

    skeletons: Sequence[np.ndarray]
    frames: Iterator[np.ndarray]


@dataclass(frozen=True)
class UniAnimate:
    """UniAnimate's own choices.

    mode: "short", "windows", "continuation", or "auto": in one piece up to the length of a window.
    first_frame: the reference is frame 0 itself. noise_prior: 0 to 999, None is the published one.
    """

    system: ClassVar[System] = "unianimate"
    title: ClassVar[str] = "UniAnimate"
    face: ClassVar[bool] = False
    mode: Literal["auto", "short", "windows", "continuation"] = "auto"
    first_frame: bool = False
    noise_prior: int | None = None

    def settings(self, sampling: Sampling, frames: int) -> UniAnimateSettings:
        """The core's settings for a clip of so many frames."""
        from ..unianimate_core.noise import NoiseSettings
        from ..unianimate_core.pipeline import Settings
        from ..unianimate_core.sample import SampleSettings

        own = sampling.chosen("steps", "guidance", "window", "overlap", "batch", "fuse", "together")
        short = frames <= own.get("window", SampleSettings.window)
        mode = ("short" if short else "windows") if self.mode == "auto" else self.mode
        flow = "long" if mode == "windows" else "short"
        return Settings(
            first_frame=self.first_frame,
            noise=NoiseSettings(prior=self.noise_prior, flow=flow, order=sampling.order),
            sampling=SampleSettings(mode=mode, fast=sampling.fast(), **own),
            **sampling.chosen("seed", "size"),
        )

    def clip(
        self,
        networks: UniAnimateModels,
        prepared: Prepared,
        how: Preparation,
        settings: UniAnimateSettings,
        placed: Placed,
        on_step: OnStep | None = None,
        journal: Journal | None = None,
        storage: Storage | None = None,
    ) -> Clip:
        """See ``Clip``. storage: where what has the length of the clip lies; None is in memory."""
        from ..unianimate_core.pipeline import Inputs, animate
        from ..video_core.progress import NOWHERE
        from ..video_core.storage import IN_MEMORY

        skeletons, own = unianimate_skeletons(prepared, how, settings.size)
        inputs = Inputs(prepared.reference, own, skeletons)
        followed = {"on_step": on_step, "journal": journal or NOWHERE, "storage": storage or IN_MEMORY}
        return Clip(skeletons, _as_bytes(animate(networks, inputs, settings, placed, **followed)))


@dataclass(frozen=True)
class XDyna:
    """X-Dyna's own choices.

    face: whether the driving face's expressions are followed. prompt, negative: texts, usually empty.
    strengths: 1 is as published, 0 leaves the condition out; ``reference`` is the Dynamics-Adapter's,
    ``image`` the image prompt's. loop: windows wrap from the last frames to the first, as published.
    """

    system: ClassVar[System] = "xdyna"
    title: ClassVar[str] = "X-Dyna"
    face: bool = False
    prompt: str = ""
    negative: str = ""
    pose_strength: float = 1.0
    face_strength: float = 1.0
    reference_strength: float = 1.0
    image_strength: float = 1.0
    loop: bool = True

    def settings(self, sampling: Sampling, frames: int) -> XDynaSettings:
        """The core's settings for a clip of so many frames."""
        from ..xdyna_core.pipeline import Settings
        from ..xdyna_core.sample import SampleSettings, Span

        own = sampling.chosen("steps", "guidance", "window", "overlap", "batch", "fuse", "together")
        return Settings(
            pose=Span(self.pose_strength),
            face=Span(self.face_strength),
            adapter=Span(self.reference_strength),
            image_prompt=Span(self.image_strength),
            order=sampling.order,
            sampling=SampleSettings(loop=self.loop, fast=sampling.fast(), **own),
            **sampling.chosen("seed", "size"),
        )

    def clip(
        self,
        networks: XDynaNetworks,
        prepared: Prepared,
        how: Preparation,
        settings: XDynaSettings,
        placed: Placed,
        on_step: OnStep | None = None,
        journal: Journal | None = None,
        storage: Storage | None = None,
    ) -> Clip:
        """See ``Clip``. storage: where what has the length of the clip lies; None is in memory."""
        from ..video_core.progress import NOWHERE
        from ..video_core.storage import IN_MEMORY
        from ..xdyna_core.pipeline import Inputs, animate

        skeletons = xdyna_skeletons(prepared, how, settings.size)
        prompt, negative = (networks.features(text) for text in (self.prompt, self.negative))
        inputs = Inputs(prepared.reference, skeletons, face_maps(prepared, settings.size), prompt, negative)
        followed = {"on_step": on_step, "journal": journal or NOWHERE, "storage": storage or IN_MEMORY}
        return Clip(skeletons, _as_bytes(animate(networks.models, inputs, settings, placed, **followed)))


def face_maps(prepared: Prepared, size: Size) -> FaceMaps | None:
    """S-Face maps of the driving frames, laid over the reference's face; None where none are followed."""
    from ..video_core.reels import PictureReel
    from ..video_core.video import open_video
    from .faces import maps_on_reference

    faces = prepared.faces
    if faces is None:
        return None
    frames = open_video(faces.video).frames(prepared.interval, prepared.frames)
    new_reel = partial(PictureReel, prepared.clips)
    return maps_on_reference(frames, faces.driving, faces.target, size, new_reel)


def _as_bytes(chunks: Iterator[Tensor]) -> Iterator[np.ndarray]:
    """Frames float [f, H, W, 3], some at a time -> uint8 RGB [H, W, 3], one by one."""
    from ..video_core.images import to_bytes

    for chunk in chunks:
        yield from to_bytes(chunk)
