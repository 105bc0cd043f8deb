"""One animation after the other, with networks and detector loaded once and only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import networks
from .animate import Preparation, Prepared, Source, prepare
from .grids import contact_sheet, sheet_rows
from .jobs import key_of_job
from .networks import Weights
from .outputs import (
    Output,
    Result,
    beside,
    free_path,
    keep_latents,
    remembering,
    save_clip,
    save_picture,
    sound_of,
)
from .poses import LateDetector
from .state import CLIPS, PoseCache, Run, Runs, place
from .systems import Clip, Sampling, UniAnimate, XDyna

if TYPE_CHECKING:
    import torch

    from ..video_core.storage import OnDisk, Storage

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
"""(what) -> a ``with`` block that gives ``at(done, total)``; ``at`` may raise to stop."""


@dataclass(frozen=True)
class Request:
    """One animation: by which system, from what, how."""

    system: UniAnimate | XDyna
    source: Source
    weights: Weights = Weights()
    preparation: Preparation = Preparation()
    sampling: Sampling = Sampling()
    output: Output = Output()

    def key(self) -> dict[str, Any]:
        """Every choice that decides the result, the inputs' bytes excepted, as plain values."""
        files = networks.find_files(self.system.system, self.weights)
        chosen = {
            name: asdict(getattr(self, name)) for name in ("system", "preparation", "sampling", "output")
        }
        del chosen["output"]["overwrite"]
        return {**chosen, "by": self.system.system, "weights": files.stamps()}


@dataclass
class Session:
    """Runs requests. bar: shows progress. cache: of poses, None keeps none. runs: where long runs are kept, so
    that one that was cut off is gone on with; None keeps none. clips: folder for what of a clip is too long for
    memory, while it is made; None is the place of all state.

    The networks of the last request stay loaded, those of one system at a time.
    """

    bar: Bar
    detector: LateDetector = field(default_factory=LateDetector)
    device: str = "auto"
    precision: str = "auto"
    cache: PoseCache | None = None
    runs: Runs | None = None
    clips: Path | None = None
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def _device(self) -> torch.device:
        from ..video_core.placement import choose_device

        return choose_device(self.device)

    @property
    def clips_folder(self) -> Path:
        """The folder that ``clips`` means."""
        return self.clips or place() / CLIPS

    @cached_property
    def _disk(self) -> OnDisk:
        from ..video_core.storage import OnDisk

        return OnDisk(self.clips_folder)

    def storage(self, frames: int) -> Storage:
        """Where the tensors and poses of a clip of so many frames lie while it is made."""
        from ..video_core.storage import IN_MEMORY, LONG_CLIP

        return self._disk if frames > LONG_CLIP else IN_MEMORY

    def run(self, request: Request, target: Path, truth: Sequence[np.ndarray] | None = None) -> Result:
        """One animation to ``target``, its contact sheet beside it, with the true frames where they are known.

        Either gets a number where a file of its name is there that may not be overwritten.

        An error or a stop keeps the frames so far as ``<name>.partial<suffix>``; NaN keeps the last latents.
        """
        self.check(request)
        return self.write(request, self.prepare(request), target, truth)

    def check(self, request: Request) -> None:
        """Raise, before anything is loaded or looked at, what is known to go wrong at the end."""
        from ..video_core.images import check_sides

        size = request.system.settings(request.sampling, 1).size
        multiple = networks.size_multiple(request.system.system, request.weights)
        check_sides(size, multiple, request.system.title)

    def prepare(self, request: Request) -> Prepared:
        """Inputs read and poses aligned; those of a long clip lie on disk."""
        with self.bar("poses") as at:
            prepared = prepare(
                request.source,
                request.preparation,
                self.detector,
                face=request.system.face,
                cache=self.cache,
                on_frame=at,
                clips=self.clips_folder,
            )
        storage = self.storage(prepared.frames)
        return prepared.lying(storage) if storage is self._disk else prepared

    def networks(self, request: Request) -> Any:
        """The request's networks, loaded unless they are already; others are let go before."""
        from ..video_core.placement import FP8, choose_dtype

        key = f"{request.system.system} {request.system.face} {request.weights}"
        if key not in self._loaded:
            self._loaded.clear()
            dtype = choose_dtype(self.precision, self._device)
            self._loaded[key] = networks.load(
                request.system.system,
                request.weights,
                dtype,
                face=request.system.face,
                fp8=self.precision == FP8,
            )
        return self._loaded[key]

    def kept(self, request: Request) -> Run | None:
        """What is kept of a request's run, by everything that decides its latents."""
        from ..video_core.placement import FP8, choose_dtype

        if self.runs is None:
            return None
        choices = {name: value for name, value in request.key().items() if name != "output"}
        computed = str(choose_dtype(self.precision, self._device))
        by = [str(self._device), computed, self.detector.identity, self.precision == FP8]
        return self.runs.run(key_of_job(request.source, choices), by)

    def clip(
        self,
        request: Request,
        prepared: Prepared,
        on_step: Callable[..., None] | None = None,
        kept: Run | None = None,
    ) -> Clip:
        """The clip of a prepared request, which is made while its frames are asked for."""
        from ..video_core.placement import running_on

        settings = request.system.settings(request.sampling, prepared.frames)
        placed = running_on(self._device)
        loaded = self.networks(request)
        storage = self.storage(prepared.frames)
        if kept is not None:
            kept.storage = storage
        how = {"on_step": on_step, "journal": kept, "storage": storage}
        return request.system.clip(loaded, prepared, request.preparation, settings, placed, **how)

    def write(
        self, request: Request, prepared: Prepared, target: Path, truth: Sequence[np.ndarray] | None = None
    ) -> Result:
        """The clip of a prepared request as a file, and the contact sheet: reference, skeleton, result, truth."""
        from ..video_core.samplers import NonFiniteError

        rows = sheet_rows(prepared.frames)
        shown: dict[int, np.ndarray] = {}
        kept = self.kept(request)
        with self.bar(request.system.system) as at:
            clip = self.clip(request, prepared, lambda done, total, *_: at(done, total), kept)
            frames = remembering(clip.frames, rows, shown)
            if request.output.strip:
                frames = beside(frames, prepared.reference, clip.skeletons)
            try:
                video = save_clip(
                    frames,
                    prepared.frames,
                    target,
                    request.output,
                    fps=prepared.fps,
                    sound=sound_of(request.source.driving, request.source.face, folder=self.clips_folder),
                    notes={"made by": "xdyna-unianimate", **_settings(request)},
                )
            except NonFiniteError as error:
                raise ValueError(f"{error} {keep_latents(error, target)}".strip()) from error
        columns = {
            "reference": [prepared.reference],
            "skeleton": [clip.skeletons[row] for row in rows],
            "result": [shown[row] for row in rows],
        }
        if truth is not None:
            columns["truth"] = [truth[row] for row in rows]
        result = finished(video, contact_sheet(columns), prepared, request.output)
        if kept is not None:
            kept.clean()
        return result


def finished(video: Path, sheet: np.ndarray, prepared: Prepared, output: Output) -> Result:
    """What a run left, its contact sheet saved beside the video."""
    stem = video.name if video.is_dir() else video.stem
    place = free_path(video.parent, f"{stem}_sheet", ".png", output.overwrite)
    report = "" if prepared.report is None else prepared.report.text()
    return Result(video, save_picture(sheet, place, output.overwrite), prepared.frames, report)


def _settings(request: Request) -> dict[str, Any]:
    """The request's choices without paths, for the file's own notes."""
    return {
        "system": request.system.system,
        **asdict(request.system),
        **asdict(request.sampling),
        "align": request.preparation.align,
        "poses": asdict(request.preparation.poses),
    }
