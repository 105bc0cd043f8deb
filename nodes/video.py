"""Clips to files: the one encoder node, with sound and the workflow inside, and a player on the node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..video_core.video import CODECS, Written, write_video
from . import host, images, paths, sockets
from .api import InputImpl, Types, advanced, chosen, io, schema, ui

FORMATS = {
    "mp4 (h264)": "h264",
    "mp4 (h265)": "h265",
    "webm (vp9)": "vp9",
    "webm (av1)": "av1",
    "gif": "gif",
    "webp": "webp",
    "png sequence": "png",
}
"""What the list offers -> the codec's name."""

PLAYED = (".mp4", ".webm")
"""File types that the page gives to its video player; it shows the others as pictures."""


class EncodeVideo(io.ComfyNode):
    """IMAGE frames, a frame rate and sound -> a file in the output folder, and the same as VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EncodeVideo",
            display_name="Encode video",
            menu="video",
            description="Saves frames as mp4, webm, gif, webp or a folder of PNGs, with sound and the "
            "workflow inside, and shows the result. Takes any size; a cancel keeps the frames so far.",
            inputs=[
                io.Image.Input("images", tooltip="The frames, in order."),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second of the clip.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="mp4 (h264)",
                    tooltip="mp4 (h264) plays everywhere; gif, webp and PNGs have no sound.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/xdyna_unianimate",
                    tooltip="Name below the output folder; may hold folders, %width%, %height% and %year%.",
                ),
                io.Boolean.Input(
                    "save_workflow",
                    default=True,
                    tooltip="Store the workflow in the file, so that dropping it on the page brings it back "
                    "(mp4, webm and the first PNG).",
                ),
                advanced(
                    io.Int.Input,
                    "crf",
                    default=-1,
                    min=-1,
                    max=63,
                    tooltip="Quality of mp4 and webm: lower is better and larger; -1 is the usual one.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="Sound, cut where the frames end."),
                sockets.VideoInfo.Input(
                    "video_info",
                    optional=True,
                    tooltip="From VideoHelperSuite's loaders: its loaded frame rate is used instead of fps.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The clip for other nodes, such as Save Video."
                ),
                io.String.Output(
                    display_name="path", tooltip="Full path of the file, or of the folder of PNGs."
                ),
            ],
            needs=("av",),
            is_output_node=True,
            search_aliases=["save video", "video combine", "mp4", "webm", "gif", "export"],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        fps: float,
        format: str,
        filename_prefix: str,
        save_workflow: bool,
        crf: int,
        audio: Any = None,
        video_info: Any = None,
    ) -> io.NodeOutput:
        clip = _clip(images, fps, audio, video_info)
        metadata = host.workflow_metadata(cls.hidden) if save_workflow else {}
        written, place = _save(clip, filename_prefix, format, crf, metadata)
        return io.NodeOutput(_for_core(clip), str(written.path), ui=_shown(written, place))


def _clip(frames: Tensor, fps: float, audio: Any, video_info: Any) -> Types.VideoComponents:
    return Types.VideoComponents(
        images=images.rgb(frames),
        audio=audio if images.sound_of(audio) else None,
        frame_rate=images.frame_rate(fps, video_info),
    )


def _for_core(clip: Types.VideoComponents) -> InputImpl.VideoFromComponents:
    """The clip with even sides: core's own encoder takes no others."""
    return InputImpl.VideoFromComponents(replace(clip, images=images.even(clip.images)))


def _save(
    clip: Types.VideoComponents, prefix: str, format: str, crf: int, metadata: dict[str, str]
) -> tuple[Written, paths.SavePlace]:
    codec = chosen(FORMATS, format, "format")
    height, width = clip.images.shape[1:3]
    place = paths.save_place(prefix, width, height)
    written = write_video(
        _counted(clip.images),
        place.folder / f"{place.name}{CODECS[codec].suffix if codec in CODECS else ''}",
        clip.frame_rate,
        codec=codec,
        crf=None if crf < 0 else crf,
        audio=images.sound_of(clip.audio),
        metadata=metadata,
    )
    return written, place


def _counted(frames: Tensor) -> Iterator[np.ndarray]:
    """The frames, the bar moving and the cancel button working while they are written."""
    step = host.progress(len(frames))
    for done, frame in enumerate(images.to_uint8(frames), start=1):
        yield frame
        step(done)


def _shown(written: Written, place: paths.SavePlace) -> ui.PreviewVideo | ui.SavedImages:
    file, subfolder = written.path, place.subfolder
    if file.is_dir():
        file, subfolder = min(file.iterdir()), str(Path(subfolder) / file.name)
    saved = [ui.SavedResult(file.name, subfolder, io.FolderType.output)]
    return ui.PreviewVideo(saved) if file.suffix in PLAYED else ui.SavedImages(saved, file.suffix == ".webp")


NODES = (EncodeVideo,)
