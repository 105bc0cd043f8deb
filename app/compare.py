"""Both systems on the same aligned poses, as one labelled grid video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from ..pose_align.draw import XDYNA, draw_frames
from .animate import Prepared
from .grids import at_height, contact_sheet, grid_frames, sheet_rows
from .outputs import Result, remembering, save_clip, sound_of
from .runs import Request, Session, finished

WHOLE = XDYNA.replace(head=True, feet=True)
"""The skeleton as a person best reads it; each network is shown its own."""


def compare(session: Session, requests: Sequence[Request], target: Path) -> Result:
    """Reference, skeleton and one column per request: the grid in ``target``, each clip in a file beside it.

    requests: of the same source and preparation. Poses are read and aligned once; the systems run one after
    the other, and the grid is put together from their files, so that no clip is held in memory.
    """
    first = max(requests, key=lambda request: request.system.face)
    owns = [target.with_name(f"{target.stem}_{one.system.system}{target.suffix}") for one in requests]
    for request in requests:
        session.check(request)
    prepared = session.prepare(first)
    clips = {
        request.system.title: session.write(request, prepared, own).video
        for request, own in zip(requests, owns, strict=True)
    }
    return _grid(first, prepared, clips, target)


def _grid(request: Request, prepared: Prepared, clips: Mapping[str, Path], target: Path) -> Result:
    """The finished clips (title -> file) beside what they were made from."""
    from ..video_core.video import open_video

    videos = {title: open_video(file) for title, file in clips.items()}
    height = max(video.size[1] for video in videos.values())
    columns: dict[str, Iterable[np.ndarray]] = {
        "reference": repeat(at_height(prepared.reference, height)),
        "skeleton": _skeletons(prepared, height),
        **{title: video.frames() for title, video in videos.items()},
    }
    rows = sheet_rows(prepared.frames)
    kept: dict[str, dict[int, np.ndarray]] = {label: {} for label in columns}
    grid = grid_frames({label: remembering(column, rows, kept[label]) for label, column in columns.items()})
    sound = sound_of(request.source.driving, request.source.face, folder=prepared.clips)
    video = save_clip(grid, prepared.frames, target, request.output, fps=prepared.fps, sound=sound)
    sheet = contact_sheet({label: list(frames.values()) for label, frames in kept.items()})
    return finished(video, sheet, prepared, request.output)


def _skeletons(prepared: Prepared, height: int) -> Iterator[np.ndarray]:
    """The aligned skeletons, or the ready-made ones, uint8 RGB of that height."""
    if prepared.aligned is None:
        return (at_height(frame, height) for frame in prepared.drawings.frames)
    width = max(1, round(prepared.aligned.canvas[0] * height / prepared.aligned.canvas[1]))
    return draw_frames(prepared.aligned, WHOLE, (width, height), scale_strokes=True)
