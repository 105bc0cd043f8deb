"""Poses: found, aligned to a body, drawn as the networks know them, exchanged and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..app import poses as sources
from ..app.outputs import DEFAULT_FPS
from ..app.state import PoseCache, place
from ..pose_align.pose import PoseSequence
from ..video_core.images import unit
from . import host, images, paths, sockets
from .api import InputImpl, advanced, chosen, io, schema, ui

DETECTORS = {"auto": "auto", "dwpose": "dwpose", "mediapipe": "mediapipe", paths.DEMO: sources.DEMO}
DEVICES = ("auto", "cuda", "directml", "coreml", "cpu")
NUMBERED = "by number"
PERSONS = ("largest", "leftmost", "rightmost", "centre", NUMBERED)
STYLES = ("unianimate", "xdyna")
FIDELITIES = ("robust", "original")
DIALECTS = ("aux", "core", "openpose")
FORMATS = {".npz": ".npz", ".json": ".json", "OpenPose .json": "_openpose.json"}
"""What the list offers -> how the file's name ends."""

FILE_KINDS = (".npz", ".json")


class LoadPoseDetector(io.ComfyNode):
    """A pose backend, and what it runs on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadPoseDetector",
            display_name="Load pose detector",
            menu="pose",
            description="Loads DWPose (two ONNX files; several people) or MediaPipe (no files; one person). The "
            "embedded demo knows its own drawn pictures only.",
            inputs=[
                io.Combo.Input(
                    "detector",
                    options=list(DETECTORS),
                    default="auto",
                    tooltip="auto takes DWPose where its files are found (yolox_l.onnx and dw-ll_ucoco_384.onnx in "
                    "models/dwpose, or where controlnet_aux keeps them), else MediaPipe.",
                ),
                io.Combo.Input(
                    "device",
                    options=list(DEVICES),
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
        loaded = _detector(chosen(DETECTORS, detector, "detector"), device)
        return io.NodeOutput(loaded, f"{loaded.name} on {loaded.provider}")

    @classmethod
    def fingerprint_inputs(cls, detector: str, device: str) -> str:
        return _detector(DETECTORS.get(detector, detector), device).identity


def _detector(name: str, device: str) -> sources.LateDetector:
    return sources.LateDetector(name, tuple(paths.folders("dwpose")), device)


class ExtractPose(io.ComfyNode):
    """IMAGE or VIDEO -> one person's poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ExtractPose",
            display_name="Extract pose",
            menu="pose",
            description="Finds one person in every frame and follows that person through time. A VIDEO is read "
            "as a stream and never held whole. What was found before is taken from a cache.",
            inputs=[
                sockets.PoseDetector.Input("detector", tooltip="From Load pose detector."),
                _person_input(),
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
                _number_input(),
                io.Image.Input("images", optional=True, tooltip="Frames or a single picture."),
                io.Video.Input(
                    "video", optional=True, tooltip="Used instead of images where both are given."
                ),
                sockets.VideoInfo.Input(
                    "video_info",
                    optional=True,
                    tooltip="From VideoHelperSuite's loaders, with images: their loaded frame rate is used instead "
                    "of fps.",
                ),
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="One person through time."),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the poses."),
                io.Int.Output(display_name="frames", tooltip="Number of frames."),
                io.Image.Output(display_name="preview", tooltip="A few of the skeletons, side by side."),
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
        number: int,
        images: Tensor | None = None,
        video: Any = None,
        video_info: Any = None,
    ) -> io.NodeOutput:
        person, fps = _person(person, number), _rate(fps, video_info)
        settings = sources.PoseSettings(person, fill_gaps, smooth, interval, max_frames or None)
        poses = _found(detector, settings, images, video, fps)
        glance = unit([sources.at_a_glance(poses)])
        return io.NodeOutput(poses, poses.fps or fps, len(poses), glance)


def _rate(fps: float, video_info: Any) -> float:
    """Frames per second of images."""
    return float(images.frame_rate(fps, video_info))


def _found(
    detector: Any, settings: sources.PoseSettings, frames: Tensor | None, video: Any, fps: float
) -> PoseSequence:
    """The poses of a VIDEO or of IMAGE frames, from the cache where they were found before."""
    if video is None and frames is None:
        raise ValueError("Extract pose has nothing to look at: connect images or video.")
    clip = images.clip_of(frames, fps) if video is None else video
    source = images.Components(clip) if video is None else images.video_source(video)
    step = host.progress(source.count)
    return sources.find_in_video(
        source,
        detector,
        settings,
        cache=PoseCache.at(place(paths.user_folder())),
        content=images.content_of(clip),
        on_frame=lambda done, total: step(done, total),
    )


def _person_input() -> io.Input:
    return io.Combo.Input(
        "person",
        options=list(PERSONS),
        default=PERSONS[0],
        tooltip="Whom to follow where several people are seen: by size, by place, or by number from the left.",
    )


def _number_input() -> io.Input:
    return advanced(
        io.Int.Input,
        "number",
        default=0,
        min=0,
        max=99,
        tooltip="Used by number: 0 is the leftmost of those who are there most of the time.",
    )


def _person(person: str, number: int) -> str | int:
    """The choice as ``track`` takes it."""
    return number if chosen({name: name for name in PERSONS}, person, "person") == NUMBERED else person


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
        aligned, report = align(driving, target, fidelity=fidelity, median=median)
        picture = unit([report.picture()])
        return io.NodeOutput(aligned, target, report.text(), picture, ui=ui.PreviewImage(picture))


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
                    "height", default=0, min=0, max=8192, step=8, tooltip="Goes with the width: both 0, or none."
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
            search_aliases=["skeleton", "pose image", "openpose", "render keypoints"],
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

        published = chosen(drawing.STYLES, style, "style")
        if (width == 0) != (height == 0):
            raise ValueError(f"Width and height are both 0 or both given; {width} and {height} were.")
        drawn = published.replace(
            hands=published.hands and hands,
            feet=published.feet and feet,
            head=published.head and head,
            face=face,
            jpeg_quality=drawing.ORIGINAL_JPEG_QUALITY if jpeg else published.jpeg_quality,
        )
        size = (width, height) if width else None
        frames = drawing.draw_frames(poses, drawn, size, scale_strokes=scale_strokes)
        return io.NodeOutput(unit(host.counted(frames, len(poses))))


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
            search_aliases=["openpose json", "export keypoints", "sdpose"],
        )

    @classmethod
    def execute(cls, poses: PoseSequence, dialect: str, real_scores: bool) -> io.NodeOutput:
        from ..pose_align.interchange import to_openpose

        frames = to_openpose(poses, dialect=dialect, real_scores=real_scores)
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
                _person_input(),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second, which the format does not hold; our own keep theirs.",
                ),
                _number_input(),
                *(
                    advanced(
                        io.Int.Input,
                        side,
                        default=0,
                        min=0,
                        max=16384,
                        tooltip=f"{side.capitalize()} of the video, where the keypoints do not say it; else 0.",
                    )
                    for side in ("width", "height")
                ),
            ],
            outputs=[
                sockets.Poses.Output(display_name="poses", tooltip="One person through time."),
                io.String.Output(display_name="notes", tooltip="What was missing, swapped or guessed."),
            ],
            search_aliases=["openpose json", "sdpose", "import keypoints"],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, keypoints: Any, person: str, fps: float, number: int, width: int, height: int
    ) -> io.NodeOutput:
        from ..pose_align.interchange import from_openpose

        canvas = (width, height) if width and height else None
        imported = from_openpose(keypoints, choose=_person(person, number), canvas=canvas)
        poses = imported.poses if imported.poses.fps else replace(imported.poses, fps=fps)
        return io.NodeOutput(poses, "\n".join(imported.notes))


class SavePose(io.ComfyNode):
    """Poses -> a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "SavePose",
            display_name="Save pose",
            menu="pose",
            description="Keeps poses exactly, as a small .npz or a readable .json, or as OpenPose JSON for others.",
            inputs=[
                sockets.Poses.Input("poses", tooltip="One person through time."),
                io.String.Input(
                    "filename_prefix", default="poses/pose", tooltip="Name below the output folder."
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default=next(iter(FORMATS)),
                    tooltip=".npz is smaller, .json readable; both are taken by Load pose and the command line.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Full path of the file.")],
            is_output_node=True,
            search_aliases=["export keypoints", "openpose json", "npz"],
        )

    @classmethod
    def execute(cls, poses: PoseSequence, filename_prefix: str, format: str) -> io.NodeOutput:
        from ..pose_align.interchange import save_openpose, save_poses

        spot, ending = paths.save_place(filename_prefix), chosen(FORMATS, format, "format")
        file = spot.folder / f"{spot.name}{ending}"
        save = save_poses if ending in FILE_KINDS else save_openpose
        save(poses, file)
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
            search_aliases=["open pose file", "openpose json", "npz"],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from ..demo.inputs import driving_poses
        from ..pose_align.interchange import load_poses

        poses = driving_poses() if file == paths.DEMO else load_poses(paths.input_file(file))
        return io.NodeOutput(poses, poses.fps or DEFAULT_FPS)

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return file if file == paths.DEMO else paths.input_stamp(file)


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
            search_aliases=["example", "test clip", "sample inputs"],
        )

    @classmethod
    def execute(cls, frames: int) -> io.NodeOutput:
        from ..demo import inputs
        from ..video_core.images import read_picture
        from ..video_core.video import open_video

        return io.NodeOutput(
            unit([read_picture(inputs.REFERENCE)]),
            unit(open_video(inputs.DRIVING).frames(max_frames=frames)),
            InputImpl.VideoFromFile(str(inputs.DRIVING)),
            inputs.driving_poses()[:frames],
            inputs.reference_pose(),
            inputs.FPS,
        )


NODES = (
    LoadPoseDetector, ExtractPose, AlignPose, DrawPose, PoseToKeypoints, KeypointsToPose, SavePose, LoadPose,
    DemoInputs,
)  # fmt: skip
