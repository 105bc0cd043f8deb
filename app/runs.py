"""One animation after the other, with networks and detector loaded once and only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import animate, networks
from . import poses as pose_sources
from .networks import System
from .state import PoseCache

if TYPE_CHECKING:
    from ..pose_align.detector import PoseDetector

Bar = Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]]
"""(total, what) -> a ``with`` block that gives ``at(done)``; ``at`` may raise to stop."""


@dataclass(frozen=True)
class Choices:
    """Everything about a run that is not an input or an output; None is the system's published value.

    weights: "demo", or "files" (``given`` by part, else published names in ``folders``).
    mode: UniAnimate's short, windows, continuation, or auto (short up to one window). windows: context size.
    """

    system: System = "unianimate"
    weights: str = "files"
    given: dict[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    detector: str = "auto"
    preparation: animate.Preparation = animate.Preparation()
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    order: str = "per_frame"
    window: int | None = None
    overlap: int | None = None
    batch: int = 1
    mode: str = "auto"
    first_frame: bool = False
    noise_prior: int | None = None
    prompt: str = ""
    negative: str = ""
    face: bool = False
    pose_strength: float = 1.0
    face_strength: float = 1.0
    reference_strength: float = 1.0
    image_strength: float = 1.0
    loop: bool = True
    fps: float | None = None
    codec: str | None = None
    strip: bool = False


@dataclass(frozen=True)
class Result:
    """What a run left: the video (a PNG for one frame), its contact sheet, frames, and the report's text."""

    video: Path
    sheet: Path
    frames: int
    report: str


def _known(**values: Any) -> dict[str, Any]:
    """The values that were chosen."""
    return {name: value for name, value in values.items() if value is not None}


@dataclass
class Runner:
    """Runs animations with one set of networks. bar: shows progress. cache: of poses, or None."""

    choices: Choices
    bar: Bar
    cache: PoseCache | None = None

    @cached_property
    def device(self):
        from ..video_core.placement import choose_device

        return choose_device(self.choices.device)

    @cached_property
    def loaded(self) -> tuple[Any, tuple]:
        """(the system's networks, features of prompt and negative prompt; () for UniAnimate)."""
        from ..video_core.placement import choose_dtype

        c = self.choices
        dtype = choose_dtype(c.precision, self.device)
        files = (
            networks.demo_files(c.system)
            if c.weights == "demo"
            else networks.find_files(c.system, c.given, c.folders)
        )
        if c.system == "unianimate":
            return networks.load_unianimate(files, dtype), ()
        loaded, *prompts = networks.load_xdyna(files, dtype, (c.prompt, c.negative), face=c.face)
        return loaded, tuple(prompts)

    @cached_property
    def _detector(self) -> PoseDetector:
        return pose_sources.open_detector(self.choices.detector, self.choices.folders, self.choices.device)

    def detector(self) -> PoseDetector:
        """The pose detector, loaded at the first call."""
        return self._detector

    def prepare(self, source: animate.Source) -> animate.Prepared:
        """Inputs read and poses aligned, with a progress bar for the frames."""
        with self.bar(None, "poses") as at:
            return animate.prepare(
                source, self.choices.preparation, self.detector, cache=self.cache, on_frame=at
            )

    def frames(self, source: animate.Source, prepared: animate.Prepared) -> Iterator[np.ndarray]:
        """Frames uint8 RGB of the choices' system, with a progress bar for the steps."""
        from ..video_core.placement import running_on

        placed = running_on(self.device)
        models, prompts = self.loaded
        how = self.choices.preparation
        with self.bar(None, self.choices.system) as at:
            steps = count(1)

            def on_step(done, total, latents, x0):
                at(next(steps))

            if self.choices.system == "unianimate":
                settings = self.unianimate_settings(prepared.frames)
                yield from animate.unianimate(models, prepared, how, settings, placed, on_step)
            else:
                settings = self.xdyna_settings()
                faces = self._faces(source, prepared, settings.size) if self.choices.face else None
                yield from animate.xdyna(
                    models, prompts, prepared, how, settings, placed, faces=faces, on_step=on_step
                )

    def skeletons(self, prepared: animate.Prepared) -> Sequence[np.ndarray]:
        """The pictures that the network is shown, for contact sheets."""
        if self.choices.system == "unianimate":
            size = self.unianimate_settings(prepared.frames).size
            return animate.unianimate_skeletons(prepared, self.choices.preparation, size)[0]
        return animate.xdyna_skeletons(prepared, self.choices.preparation, self.xdyna_settings().size)

    def unianimate_settings(self, frames: int):
        """``unianimate_core.pipeline.Settings`` of these choices for a clip of so many frames."""
        from ..unianimate_core.noise import NoiseSettings
        from ..unianimate_core.pipeline import Settings
        from ..unianimate_core.sample import SampleSettings

        c = self.choices
        kept = _known(steps=c.steps, guidance=c.guidance, window=c.window, overlap=c.overlap)
        window = kept.get("window", SampleSettings.window)
        mode = ("short" if frames <= window else "windows") if c.mode == "auto" else c.mode
        sampling = SampleSettings(mode=mode, batch=c.batch, **kept)
        flow = "long" if mode == "windows" else "short"
        noise = NoiseSettings(prior=c.noise_prior, flow=flow, order=c.order)
        return Settings(
            first_frame=c.first_frame, noise=noise, sampling=sampling, **_known(seed=c.seed, size=c.size)
        )

    def xdyna_settings(self):
        """``xdyna_core.pipeline.Settings`` of these choices."""
        from ..xdyna_core.pipeline import Settings
        from ..xdyna_core.sample import SampleSettings, Span

        c = self.choices
        kept = _known(steps=c.steps, guidance=c.guidance, window=c.window, overlap=c.overlap)
        spans = {
            "pose": c.pose_strength,
            "face": c.face_strength,
            "adapter": c.reference_strength,
            "image_prompt": c.image_strength,
        }
        return Settings(
            order=c.order,
            sampling=SampleSettings(batch=c.batch, loop=c.loop, **kept),
            **{name: Span(strength) for name, strength in spans.items()},
            **_known(seed=c.seed, size=c.size),
        )

    def _faces(self, source: animate.Source, prepared: animate.Prepared, size: tuple[int, int]):
        from ..video_core.video import open_video

        how = self.choices.preparation.poses
        video = open_video(source.face or source.driving)
        return animate.xdyna_faces(prepared, video.frames(how.interval, prepared.frames), size)

    def run(self, source: animate.Source, target: Path, overwrite: bool = False) -> Result:
        """One animation to ``target``, its contact sheet beside it.

        An error or a stop keeps the frames so far as ``<name>.partial<suffix>``; NaN keeps the last latents.
        """
        prepared = self.prepare(source)
        return self.write(source, prepared, target, overwrite)

    def write(
        self, source: animate.Source, prepared: animate.Prepared, target: Path, overwrite: bool = False
    ) -> Result:
        """The frames of a prepared animation as a video, and the contact sheet."""
        from ..video_core.samplers import NonFiniteError

        kept: list[np.ndarray] = []
        skeletons = self.skeletons(prepared)
        frames = animate.kept_for_sheet(self.frames(source, prepared), kept)
        if self.choices.strip:
            frames = animate.strip(prepared, skeletons, frames)
        try:
            video = save_clip(
                frames,
                target,
                prepared,
                self.choices,
                None if prepared.drawings else source.driving,
                overwrite,
            )
        except NonFiniteError as error:
            raise ValueError(f"{error} {_keep_latents(error, target)}") from error
        sheet = target.with_name(f"{target.stem}_sheet.png")
        save_picture(animate.sheet(prepared, skeletons, kept), sheet)
        return Result(video, sheet, len(kept), prepared.report.text() if prepared.report else "")


def save_clip(
    frames: Iterator[np.ndarray],
    target: Path,
    prepared: animate.Prepared,
    choices: Choices,
    sound_of: Path | None,
    overwrite: bool,
) -> Path:
    """Frames to a video with the driving video's speed and sound; a single frame to a PNG."""
    from ..video_core.video import write_video

    fps = choices.fps or prepared.fps or 8.0
    if prepared.frames == 1 and target.suffix:
        target = target.with_suffix(".png")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} exists already; choose another name, or allow it to be overwritten.")
        save_picture(next(frames), target)
        return target
    whole = choices.preparation.poses.interval == 1 and choices.fps is None
    audio = _sound(sound_of) if whole and sound_of is not None else None
    return write_video(frames, target, fps, codec=choices.codec, audio=audio, overwrite=overwrite).path


def save_picture(picture: np.ndarray, path: Path) -> None:
    """uint8 RGB [H, W, 3] to a PNG, written aside and renamed."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.part")
    Image.fromarray(picture).save(aside, format="PNG")
    aside.replace(path)


def _sound(source: Path):
    from ..video_core.video import open_video

    return None if pose_sources.is_pose_file(source) else open_video(source).audio()


def _keep_latents(error, target: Path) -> str:
    from ..video_core.weights import save_checkpoint

    if error.latents is None:
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = save_checkpoint(target.with_name(f"{target.stem}.latents.safetensors"), {"latents": error.latents})
    return f"The last finite latents, after {error.done} steps, are in {kept}."
