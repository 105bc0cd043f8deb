"""Poses: found, aligned to a body, drawn as the networks know them, exchanged and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..app import poses as sources
from ..app.state import PoseCache, key_of, place
from ..pose_align.pose import PoseSequence
from . import host, images, paths, sockets
from .api import InputImpl, advanced, io, schema, ui

DETECTORS = {"auto": "auto", "dwpose": "dwpose", "mediapipe": "mediapipe", paths.DEMO: sources.DEMO}
PERSONS = ("largest", "leftmost", "rightmost", "centre", "first")
STYLES = ("unianimate", "xdyna")
FIDELITIES = ("robust", "original")
DIALECTS = ("aux", "core", "openpose")
FILE_KINDS = (".npz", ".json")


def _chosen(options: Any, value: str, what: str) -> str:
    if value not in options:
        raise ValueError(f"{what} is one of {', '.join(options)}; {value!r} was given.")
    return value


class LoadPoseDetector(io.ComfyNode):
    """A pose backend, and what it runs on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadPoseDetector",
            display_name="Load pose detector",
            menu="pose",
            description="Loads DWPose (two ONNX files) or MediaPipe (no files). The embedded demo knows its own "
            "drawn pictures only.",
            inputs=[
                io.Combo.Input(
                    "detector",
                    options=list(DETECTORS),
                    default="auto",
                    tooltip="auto takes DWPose where its files are found, else MediaPipe.",
                ),
                io.Combo.Input(
                    "device",
                    options=["auto", "cuda", "directml", "coreml", "cpu"],
                    default="auto",
                    tooltip="Where DWPose's networks run; MediaPipe runs on the CPU.",
                ),
            ],
            outputs=[
                sockets.PoseDetector.Output(display_name="detector", tooltip="For Extract pose."),
                io.String.Output(display_name="backend", tooltip="Its name and what it runs on."),
            ],
            search_aliases=["dwpose", "mediapipe", "openpose"],
        )

    @classmethod
    def execute(cls, detector: str, device: str) -> io.NodeOutput:
        name = DETECTORS[_chosen(DETECTORS, detector, "The detector")]
        loaded = sources.open_detector(name, paths.folders("dwpose"), device)
        return io.NodeOutput(loaded, f"{loaded.name} on {loaded.provider}")


class ExtractPose(io.ComfyNode):
    """IMAGE or VIDEO -> one person's poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ExtractPose",
            display_name="Extract pose",
            menu="pose",
            description="Finds one person in every frame and follows that person through time. A VIDEO is read "
            "as a stream. Poses found before are taken from a cache.",
            inputs=[
                sockets.PoseDetector.Input("detector", tooltip="From Load pose detector."),
                io.Combo.Input(
                    "person",
                    options=list(PERSONS),
                    default="largest",
                    tooltip="Whom to follow where several people are seen; first is whoever the detector lists "
                    "first in each frame.",
                ),
                io.Int.Input(
                    "fill_gaps",
                    default=5,
                    min=0,
                    max=120,
                    tooltip="Joints lost for at most this many frames are filled in.",
                ),
                io.Boolean.Input(
                    "smooth", default=False, tooltip="One-Euro filter: less jitter, a little delay."
                ),
                io.Int.Input(
                    "interval", default=1, min=1, max=64, tooltip="Use every n-th frame of the clip."
                ),
                io.Int.Input(
                    "max_frames", default=0, min=0, max=100_000, tooltip="At most so many frames; 0 is all."
                ),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second of images; a video brings its own.",
                ),
                io.Image.Input("images", optional=True, tooltip="Frames or a single picture."),
                io.Video.Input(
                    "video", optional=True, tooltip="Used instead of images where both are given."
                ),
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="One person through time."),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the poses."),
                io.Int.Output(display_name="frames", tooltip="Number of frames."),
            ],
            needs=("cv2", "av"),
            search_aliases=["dwpose", "keypoints", "skeleton"],
        )

    @classmethod
    def execute(
        cls,
        detector: Any,
        person: str,
        fill_gaps: int,
        smooth: bool,
        interval: int,
        max_frames: int,
        fps: float,
        images: Tensor | None = None,
        video: Any = None,
    ) -> io.NodeOutput:
        settings = sources.PoseSettings(person, fill_gaps, smooth, interval, max_frames or None)
        if video is not None:
            poses = _of_video(detector, settings, video)
        elif images is not None:
            poses = _of_images(detector, settings, images, fps)
        else:
            raise ValueError("Extract pose has nothing to look at: connect images or video.")
        return io.NodeOutput(poses, poses.fps or fps, len(poses))


def _of_video(detector: Any, settings: sources.PoseSettings, video: Any) -> PoseSequence:
    source = images.video_source(video)
    return sources.find_in_video(
        source, detector, settings, on_frame=_step(source.count // settings.interval)
    )


def _of_images(detector: Any, settings: sources.PoseSettings, clip: Tensor, fps: float) -> PoseSequence:
    stop = settings.interval * settings.max_frames if settings.max_frames else None
    chosen = clip[slice(0, stop, settings.interval)]
    cache = PoseCache.at(place(paths.user_folder()))
    key = key_of("images", chosen.numpy(force=True), vars(settings), detector.name, fps)
    known = cache.find(key)
    if known is not None:
        return known
    frames = images.to_uint8(images.rgb(chosen))
    found = sources.find(frames, detector, settings, fps=fps / settings.interval, on_frame=_step(len(chosen)))
    cache.store(key, found)
    return found


def _step(total: int) -> sources.OnFrame:
    """ComfyUI's bar for frames; raises its interrupt."""
    on_step = host.progress(max(total, 1))
    return lambda done, total=None: on_step(done, total)


class AlignPose(io.ComfyNode):
    """Driving poses fitted to the reference's body."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "AlignPose",
            display_name="Align pose",
            menu="pose",
            description="Fits the driving skeleton to the reference's proportions and place, and reports for "
            "every limb the ratio, where it came from and from which frame.",
            inputs=[
                sockets.Poses.Input("driving", tooltip="The motion."),
                sockets.Poses.Input(
                    "reference", tooltip="The pose of the reference picture; its first frame."
                ),
                io.Combo.Input(
                    "fidelity",
                    options=list(FIDELITIES),
                    default="robust",
                    tooltip="robust masks hidden joints and borrows ratios; original is the published rule, "
                    "frame 0 and all.",
                ),
                io.Boolean.Input(
                    "median",
                    default=False,
                    tooltip="Ratios as the median over all frames, not of one (robust).",
                ),
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="Aligned, in pixels of the reference."),
                sockets.Poses.Output(display_name="reference", tooltip="The reference's pose, one frame."),
                io.String.Output(display_name="report", tooltip="A line for every limb."),
                io.Image.Output(display_name="picture", tooltip="The report as a picture."),
            ],
            needs=("cv2",),
            search_aliases=["retarget", "proportions"],
        )

    @classmethod
    def execute(
        cls, driving: PoseSequence, reference: PoseSequence, fidelity: str, median: bool
    ) -> io.NodeOutput:
        from ..pose_align.align import align

        target = reference[0:1]
        aligned, report = align(
            driving, target, fidelity=_chosen(FIDELITIES, fidelity, "Fidelity"), median=median
        )
        return io.NodeOutput(aligned, target, report.text(), _image(report.picture()[None]))


def _image(pictures: np.ndarray) -> Tensor:
    """uint8 RGB [F, H, W, 3] -> IMAGE."""
    from ..video_core.images import unit

    return unit(list(pictures))


class DrawPose(io.ComfyNode):
    """Poses -> the pictures a network is shown."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        parts = {"hands": True, "feet": True, "head": True, "face": False}
        return schema(
            "DrawPose",
            display_name="Draw pose",
            menu="pose",
            description="Draws skeletons pixel for pixel as UniAnimate knows them (colour channels reversed, as "
            "in its training), or as X-Dyna does (no head, no feet).",
            inputs=[
                sockets.Poses.Input("poses", tooltip="Aligned poses, usually."),
                io.Combo.Input(
                    "style", options=list(STYLES), default="unianimate", tooltip="Whose skeleton to draw."
                ),
                io.Int.Input(
                    "width", default=0, min=0, max=8192, step=8,
                    tooltip="0: 512 x 768 for UniAnimate, as published; the poses' own canvas for X-Dyna.",
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=8192, step=8, tooltip="0 with a width of 0: see there."
                ),
                io.Boolean.Input(
                    "scale_strokes", default=False, tooltip="Strokes grow with the canvas instead of keeping pixels."
                ),
                io.Boolean.Input(
                    "jpeg", default=False, tooltip="Through the JPEG files of the original, as in its training."
                ),
                *(
                    advanced(
                        io.Boolean.Input, name, default=default,
                        tooltip=f"Draw the {name}, where the style has them; X-Dyna's leaves out head and feet.",
                    )
                    for name, default in parts.items()
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="One skeleton per frame.")],
            needs=("cv2",),
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        poses: PoseSequence,
        style: str,
        width: int,
        height: int,
        scale_strokes: bool,
        jpeg: bool,
        hands: bool,
        feet: bool,
        head: bool,
        face: bool,
    ) -> io.NodeOutput:
        from ..pose_align import draw as drawing

        chosen = drawing.STYLES[_chosen(STYLES, style, "The style")]
        if (width == 0) != (height == 0):
            raise ValueError(f"Width and height are both 0 or both given; {width} and {height} were.")
        chosen = replace(
            chosen,
            hands=chosen.hands and hands,
            feet=chosen.feet and feet,
            head=chosen.head and head,
            face=face,
            jpeg_quality=drawing.ORIGINAL_JPEG_QUALITY if jpeg else chosen.jpeg_quality,
        )
        size = (width, height) if width else None
        return io.NodeOutput(_image(drawing.draw(poses, chosen, size, scale_strokes=scale_strokes)))


class PoseToKeypoints(io.ComfyNode):
    """Our poses -> POSE_KEYPOINT for other packs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "PoseToKeypoints",
            display_name="Pose to POSE_KEYPOINT",
            menu="pose",
            description="For the nodes of other packs. Everything of ours travels along, so that coming back "
            "loses nothing.",
            inputs=[
                sockets.Poses.Input("poses", tooltip="One person through time."),
                io.Combo.Input(
                    "dialect",
                    options=list(DIALECTS),
                    default="aux",
                    tooltip="aux: controlnet_aux; core: ComfyUI's SDPose nodes, with feet; openpose: OpenPose's files.",
                ),
                io.Boolean.Input(
                    "real_scores",
                    default=False,
                    tooltip="Confidences as detected; controlnet_aux drops every point below 1, so off is 0 or 1.",
                ),
            ],
            outputs=[sockets.PoseKeypoint.Output(display_name="keypoints", tooltip="One dict per frame.")],
            search_aliases=["openpose json"],
        )

    @classmethod
    def execute(cls, poses: PoseSequence, dialect: str, real_scores: bool) -> io.NodeOutput:
        from ..pose_align.interchange import to_openpose

        chosen = _chosen(DIALECTS, dialect, "The dialect")
        frames = to_openpose(poses, dialect=chosen, real_scores=real_scores)
        return io.NodeOutput(frames, ui={"openpose_json": [json.dumps(frames)]})


class KeypointsToPose(io.ComfyNode):
    """POSE_KEYPOINT of other packs -> our poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "KeypointsToPose",
            display_name="POSE_KEYPOINT to pose",
            menu="pose",
            description="Reads both dialects, in pixels or from 0 to 1; puts each hand at the nearer wrist and "
            "says what it had to guess.",
            inputs=[
                sockets.PoseKeypoint.Input("keypoints", tooltip="From controlnet_aux, SDPose or an editor."),
                io.Combo.Input(
                    "person", options=list(PERSONS[:-1]), default="largest", tooltip="Whom to take of several."
                ),
                io.Float.Input(
                    "fps", default=8.0, min=0.1, max=240.0, step=0.01,
                    tooltip="Frames per second, which the format does not hold.",
                ),
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="One person through time."),
                io.String.Output(display_name="notes", tooltip="What was missing, swapped or guessed."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, keypoints: Any, person: str, fps: float) -> io.NodeOutput:
        from ..pose_align.interchange import from_openpose

        imported = from_openpose(keypoints, choose=_chosen(PERSONS, person, "The person"), fps=fps)
        return io.NodeOutput(imported.poses, "\n".join(imported.notes))


class SavePose(io.ComfyNode):
    """Poses -> a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "SavePose",
            display_name="Save pose",
            menu="pose",
            description="Keeps poses exactly, as a small .npz or a readable .json.",
            inputs=[
                sockets.Poses.Input("poses", tooltip="One person through time."),
                io.String.Input(
                    "filename_prefix", default="poses/pose", tooltip="Name below the output folder."
                ),
                io.Combo.Input(
                    "format",
                    options=list(FILE_KINDS),
                    default=".npz",
                    tooltip=".npz is smaller, .json readable.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Full path of the file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, poses: PoseSequence, filename_prefix: str, format: str) -> io.NodeOutput:
        from ..pose_align.interchange import save_poses

        spot = paths.save_place(filename_prefix)
        file = spot.folder / f"{spot.name}{_chosen(FILE_KINDS, format, 'The format')}"
        save_poses(poses, file)
        return io.NodeOutput(str(file), ui=ui.PreviewText(f"{len(poses)} frames in {file}"))


class LoadPose(io.ComfyNode):
    """A pose file of the input folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadPose",
            display_name="Load pose",
            menu="pose",
            description="Reads a pose file of ours, or OpenPose JSON, from the input folder; "
            f"{paths.DEMO} is the drawn clip's.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[paths.DEMO, *paths.input_files(FILE_KINDS)],
                    default=paths.DEMO,
                    tooltip="A .npz or .json file of ComfyUI's input folder.",
                )
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="One person through time."),
                io.Float.Output(display_name="fps", tooltip="Frames per second; 8 where the file has none."),
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from ..demo.inputs import driving_poses
        from ..pose_align.interchange import load_poses

        poses = driving_poses() if file == paths.DEMO else load_poses(paths.input_file(file))
        return io.NodeOutput(poses, poses.fps or 8.0)

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        if file == paths.DEMO:
            return file
        state = paths.input_file(file).stat()
        return f"{file} {state.st_size} {state.st_mtime_ns}"


class DemoInputs(io.ComfyNode):
    """The drawn picture and clip that ship with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "DemoInputs",
            display_name="Demo inputs",
            menu="pose",
            description="A drawn reference, a drawn driving clip of somebody else, and the exact poses of both, so "
            "that every workflow runs before anything is downloaded.",
            inputs=[io.Int.Input("frames", default=16, min=1, max=24, tooltip="Frames of the driving clip.")],
            outputs=[
                io.Image.Output(display_name="reference", tooltip="Whom to animate."),
                io.Image.Output(display_name="driving", tooltip="The driving clip's frames."),
                io.Video.Output(display_name="video", tooltip="The whole driving clip as a video."),
                sockets.Poses.Output(display_name="driving poses", tooltip="Exact poses of those frames."),
                sockets.Poses.Output(display_name="reference pose", tooltip="The reference's exact pose."),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the clip."),
            ],
            needs=("av",),
        )

    @classmethod
    def execute(cls, frames: int) -> io.NodeOutput:
        from ..demo import inputs
        from ..video_core.images import read_picture
        from ..video_core.video import open_video

        clip = np.stack(list(open_video(inputs.DRIVING).frames(max_frames=frames)))
        reference = read_picture(inputs.REFERENCE)[None]
        return io.NodeOutput(
            _image(reference),
            _image(clip),
            InputImpl.VideoFromFile(str(inputs.DRIVING)),
            inputs.driving_poses()[:frames],
            inputs.reference_pose(),
            inputs.FPS,
        )


NODES = (
    LoadPoseDetector, ExtractPose, AlignPose, DrawPose, PoseToKeypoints, KeypointsToPose, SavePose, LoadPose,
    DemoInputs,
)  # fmt: skip
