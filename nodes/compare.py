"""Results side by side."""

from __future__ import annotations

from torch import Tensor

from . import host, images
from .api import io, schema

COLUMNS = 6


class GridCompare(io.ComfyNode):
    """Several clips in one, side by side under their labels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        further = [
            io.Image.Input(
                f"images_{number}", optional=True, tooltip=f"Frames of column {number}, or one picture."
            )
            for number in range(2, COLUMNS + 1)
        ]
        return schema(
            "GridCompare",
            display_name="Grid compare",
            menu="video",
            description="Puts clips side by side, one labelled column each, all as high as the first. The grid "
            "is as long as the shortest clip; a single picture stands beside every frame.",
            inputs=[
                io.Image.Input("images_1", tooltip="Frames of the first column, or one picture."),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="One line for each connected column; leave it empty for a grid without labels.",
                ),
                *further,
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames of the grid.")],
            needs=("cv2",),
            search_aliases=["side by side", "contact sheet", "comparison", "image concat"],
        )

    @classmethod
    def execute(
        cls,
        images_1: Tensor,
        labels: str,
        images_2: Tensor | None = None,
        images_3: Tensor | None = None,
        images_4: Tensor | None = None,
        images_5: Tensor | None = None,
        images_6: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..app.grids import grid_frames
        from ..video_core.images import unit

        given = (images_1, images_2, images_3, images_4, images_5, images_6)
        clips = [clip for clip in given if clip is not None]
        length = min((len(clip) for clip in clips if len(clip) > 1), default=1)
        streams = [
            images.to_uint8(clip if len(clip) > 1 else clip.expand(length, -1, -1, -1)) for clip in clips
        ]
        names = _names(labels, len(clips))
        grid = grid_frames(dict(zip(names, streams, strict=True)), labels=bool(labels.strip()))
        return io.NodeOutput(unit(host.counted(grid, length)))


def _names(labels: str, columns: int) -> list[str]:
    """One name per column, those of the lines where there are any."""
    lines = [line.strip() for line in labels.splitlines() if line.strip()]
    names = lines or [str(number) for number in range(columns)]
    if len(set(names)) != columns:
        raise ValueError(
            f"labels: {columns} columns are connected and {len(set(names))} different labels given; write "
            "one line for each column, or none."
        )
    return names


NODES = (GridCompare,)
