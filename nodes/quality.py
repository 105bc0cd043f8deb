"""Results in numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ..pose_align.pose import PoseSequence
from . import host, images, paths, sockets
from .api import advanced, io, schema, ui


class EvaluateResult(io.ComfyNode):
    """A finished clip and what it was made from -> numbers, a plot, and whether conditions hold."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EvaluateResult",
            display_name="Evaluate result",
            menu="quality",
            description="Measures a result: whether it follows the poses, looks like the reference, flickers, "
            "shows its window borders, and how close it is to a true video. What cannot be measured with what "
            "is connected is left out, and the report says why.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of the result."),
                io.String.Input(
                    "conditions",
                    default="",
                    multiline=True,
                    tooltip="One per line, like psnr>=23 or flicker<=4; a number that was not measured fulfils none.",
                ),
                io.Boolean.Input(
                    "stop_if_missed", default=False, tooltip="Stop with an error where a condition does not hold."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="quality/result",
                    tooltip="Name of the CSV, JSON and PNG below the output folder; empty writes none.",
                ),
                advanced(
                    io.Int.Input, "window_size", default=0, min=0, max=4096,
                    tooltip="Frames of the windows that the result was made in, for the seam score; 0 is one piece.",
                ),
                advanced(
                    io.Int.Input, "window_overlap", default=8, min=0, max=4095,
                    tooltip="Frames that neighbouring windows share.",
                ),
                sockets.Poses.Input(
                    "poses", optional=True, tooltip="The aligned poses that the result was made from."
                ),
                sockets.PoseDetector.Input(
                    "detector", optional=True, tooltip="Finds the pose in the result again, from Load pose detector."
                ),
                io.Image.Input("reference", optional=True, tooltip="The picture that was animated."),
                sockets.Poses.Input(
                    "reference_pose", optional=True, tooltip="Its pose, for the colours of body and clothes."
                ),
                io.Image.Input("truth", optional=True, tooltip="The frames that the result should equal."),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="For the similarity of embeddings to the reference's."
                ),
                advanced(
                    io.Int.Input, "segments", optional=True, default=0, min=0, max=4096,
                    tooltip="Frames of the segments that the result was made in by the mode continuation, for the seam "
                    "score, instead of window_size; 0 is none.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="A line for every number, then notes."),
                io.Boolean.Output(display_name="passed", tooltip="Whether all conditions hold."),
                io.Image.Output(display_name="plot", tooltip="A curve over the frames for every number."),
                io.String.Output(display_name="csv", tooltip="A row per frame."),
                io.String.Output(display_name="json", tooltip="All numbers, notes and missed conditions."),
            ],
            is_output_node=True,
            needs=("cv2",),
            search_aliases=["psnr", "ssim", "metrics", "flicker", "quality"],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        images: Tensor,
        conditions: str,
        stop_if_missed: bool,
        filename_prefix: str,
        window_size: int,
        window_overlap: int,
        poses: PoseSequence | None = None,
        detector: Any = None,
        reference: Tensor | None = None,
        reference_pose: PoseSequence | None = None,
        truth: Tensor | None = None,
        clip_vision: Any = None,
        segments: int = 0,
    ) -> io.NodeOutput:
        from ..app import scores as writing
        from ..app.evaluate import Inputs, Tools, evaluate, made_in
        from ..video_core.images import unit

        thresholds = [writing.Threshold.parse(line) for line in conditions.splitlines() if line.strip()]
        windows = (window_size, window_overlap) if window_size else None
        inputs = Inputs(
            result=_frames(images, "images"),
            truth=None if truth is None else _frames(truth, "truth"),
            reference=None if reference is None else next(_frames(reference[:1], "reference")()),
            reference_pose=reference_pose,
            wanted=poses,
            windows=made_in(len(images), windows, segments or None),
        )
        tools = Tools(detector, None if clip_vision is None else _embedding(clip_vision))
        found = evaluate(inputs, tools, host.progress(len(images)))
        missed = [sentence for threshold in thresholds if (sentence := threshold.failure(found.summary))]
        if filename_prefix:
            spot = paths.save_place(filename_prefix)
            writing.write(found, spot.folder, {"failures": missed}, spot.name)
        if missed and stop_if_missed:
            raise ValueError(f"The result misses its conditions. {' '.join(missed)}")
        report = "\n".join([found.text(), *missed])
        numbers = json.dumps({**found.as_dict(), "failures": missed})
        return io.NodeOutput(
            report, not missed, unit([writing.plot(found)]), writing.as_csv(found), numbers,
            ui=ui.PreviewText(report),
        )  # fmt: skip


def _frames(clip: Tensor, what: str) -> Callable:
    """IMAGE as a clip that can be read again and again."""
    shown = images.rgb(clip, what)
    return lambda: images.to_uint8(shown)


def _embedding(clip_vision: Any) -> Callable[[np.ndarray], np.ndarray]:
    """CLIP_VISION, core's or ours -> embeddings of uint8 pictures [H, W, 3]."""
    from ..video_core.images import unit

    def embed(picture: np.ndarray) -> np.ndarray:
        return clip_vision.encode_image(unit([picture])).image_embeds[0].float().numpy(force=True)

    return embed


NODES = (EvaluateResult,)
