"""Pictures made anew from our own results: the README's, the workflows' thumbnails, those of the nodes' pages.

``python -m xdyna_unianimate.app.pictures`` makes all of them with the embedded weights, without ComfyUI;
``... pictures aligned``, ``thumbnails`` or ``pages`` only those.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..demo import inputs
from ..pose_align.align import align
from ..pose_align.draw import STYLES, XDYNA, draw
from ..pose_align.pose import PoseSequence
from . import demo
from .evaluate import Inputs, evaluate
from .faces import maps_on_reference
from .grids import contact_sheet, grid_frames, overlaid
from .outputs import Output, save_picture
from .poses import LateDetector
from .runs import Request, Session
from .scores import plot
from .systems import UniAnimate, XDyna

ROOT = Path(__file__).parents[1]
ALIGNED = ROOT / "docs" / "aligned.jpg"
WORKFLOWS = ROOT / "workflows"
PAGES = ROOT / "web" / "docs" / "pictures"

THUMBNAIL = 512
"""Side of a thumbnail in pixels; the page's template browser shows squares, and JPEG alone."""

GROUND = 24
SKELETON = XDYNA.replace(head=True, feet=True)


@dataclass(frozen=True)
class Shown:
    """What a workflow file makes, with its own settings: by which systems, of how many frames."""

    systems: tuple[UniAnimate | XDyna, ...]
    frames: int = 16
    steps: int = 20
    seed: int = 7
    window: int | None = None
    overlap: int | None = None


SHOWN: Mapping[str, Shown] = {
    "unianimate_short": Shown((UniAnimate(mode="short"),)),
    "unianimate_long": Shown((UniAnimate(mode="windows"),), frames=24, window=16, overlap=4),
    "xdyna_pose": Shown((XDyna(),), window=16, overlap=4),
    "xdyna_pose_face": Shown((XDyna(face=True),), window=16, overlap=4),
    "compare_systems": Shown((UniAnimate(mode="short"), XDyna())),
}
"""The workflows that end in a network's result."""


def aligned_poses(rows: int = 3) -> np.ndarray:
    """uint8 RGB: reference, driving frame, its skeleton, and the skeleton aligned to the reference's body."""
    from ..video_core.images import read_picture
    from ..video_core.video import open_frames

    reference, driving = read_picture(inputs.REFERENCE), list(open_frames(inputs.DRIVING))
    poses, target = inputs.driving_poses(), inputs.reference_pose()
    aligned, _ = align(poses, target)
    on_reference = [np.maximum(reference // 3, skeleton) for skeleton in _skeletons(aligned)]
    clips = {
        "reference": [reference],
        "driving video": driving,
        "its skeleton": _skeletons(poses),
        "aligned to the reference": on_reference,
    }
    return contact_sheet(clips, rows)


def thumbnails(folder: Path = WORKFLOWS, shown: Mapping[str, Shown] = SHOWN) -> list[Path]:
    """Write ``<workflow>.jpg`` of every workflow's result into the folder, over those that are there."""
    session = _session()
    sheets = {name: contact_sheet(_clips_of(session, how), 2) for name, how in shown.items()}
    sheets["pose_align"] = aligned_poses(rows=2)
    return [
        save_picture(squared(sheet), folder / f"{name}.jpg", overwrite=True) for name, sheet in sheets.items()
    ]


def pages(folder: Path = PAGES, shown: Mapping[str, Shown] = SHOWN) -> list[Path]:
    """Write the pictures of the nodes' pages into the folder, over those that are there."""
    session = _session()
    clips = {name: _clips_of(session, shown[name]) for name in ("unianimate_short", "xdyna_pose")}
    drawn = {
        **_pose_pictures(),
        "face_maps": _face_maps(),
        "unianimate_sampler": contact_sheet(clips["unianimate_short"], 3, height=192),
        "xdyna_sampler": contact_sheet(clips["xdyna_pose"], 3, height=192),
        "grid_compare": _grid(*clips.values()),
        "evaluate_result": _measured(clips["unianimate_short"]["result"]),
    }
    return [save_picture(picture, folder / f"{name}.jpg", overwrite=True) for name, picture in drawn.items()]


def squared(picture: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """uint8 [side, side, 3]: the whole picture uint8 [H, W, 3], as large as it fits, on a dark ground."""
    import cv2

    scale = side / max(picture.shape[:2])
    height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
    fitted = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    whole = np.full((side, side, 3), GROUND, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = fitted
    return whole


def requests_of(how: Shown) -> list[Request]:
    """A workflow's runs on the drawn inputs, one per system."""
    asked = {"steps": how.steps, "seed": how.seed, "max_frames": how.frames}
    base = demo.request("unianimate", demo.source(None, None), Output(), **asked)
    sampling = replace(base.sampling, window=how.window, overlap=how.overlap)
    return [replace(base, system=system, sampling=sampling) for system in how.systems]


def _session() -> Session:
    return Session(lambda what: nullcontext(lambda done, total=None: None), LateDetector("demo"))


def _clips_of(session: Session, how: Shown) -> dict[str, Sequence[np.ndarray]]:
    """Reference, skeleton, and what each system made of them: label -> frames uint8 RGB."""
    requests = requests_of(how)
    prepared = session.prepare(max(requests, key=lambda request: request.system.face))
    clips: dict[str, Sequence[np.ndarray]] = {
        "reference": [prepared.reference],
        "skeleton": draw(prepared.aligned, SKELETON, prepared.aligned.canvas, scale_strokes=True),
    }
    for request in requests:
        label = request.system.title if len(requests) > 1 else "result"
        clips[label] = list(session.clip(request, prepared).frames)
    return clips


def _drawn_inputs() -> tuple[np.ndarray, list[np.ndarray], PoseSequence, PoseSequence]:
    """Reference, driving frames, driving poses, and these aligned to the reference's."""
    from ..video_core.images import read_picture
    from ..video_core.video import open_frames

    poses = inputs.driving_poses()
    aligned, _ = align(poses, inputs.reference_pose())
    return read_picture(inputs.REFERENCE), list(open_frames(inputs.DRIVING)), poses, aligned


def _pose_pictures(height: int = 224) -> dict[str, np.ndarray]:
    """What the pose nodes' pages show: the inputs, what is found in them, the alignment, both styles."""
    reference, driving, poses, aligned = _drawn_inputs()
    found = list(overlaid(driving, _skeletons(poses)))
    moments = [0, 5, 10, 15]
    styles = {
        name: draw(aligned[5:6], style, aligned.canvas, scale_strokes=True) for name, style in STYLES.items()
    }
    _, report = align(poses, inputs.reference_pose())
    return {
        "demo_inputs": contact_sheet(
            {"reference": [reference], **{f"driving {i}": [driving[i]] for i in moments}}, 1, height
        ),
        "extract_pose": contact_sheet({f"frame {i}": [found[i]] for i in moments}, 1, height),
        "align_pose": report.picture(height=512),
        "draw_pose": contact_sheet(styles, 1, height),
    }


def _face_maps(height: int = 224, frame: int = 5) -> np.ndarray:
    """The driving frame, both maps in the reference's place, and the reference."""
    reference, driving, poses, aligned = _drawn_inputs()
    maps = maps_on_reference(iter(driving), poses, aligned, inputs.CANVAS)
    local, whole = (list(clip)[frame] for clip in (maps.local, maps.whole))
    clips = {"driving": driving[frame], "local": local, "whole": whole, "reference": reference}
    return contact_sheet({label: [picture] for label, picture in clips.items()}, 1, height)


def _grid(one: Mapping[str, Sequence[np.ndarray]], other: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
    """A frame of a grid of both systems' results."""
    length = len(one["result"])
    clips = {"reference": [one["reference"][0]] * length, "skeleton": one["skeleton"]}
    frames = list(grid_frames({**clips, "UniAnimate": one["result"], "X-Dyna": other["result"]}))
    return frames[length // 2]


def _measured(result: Sequence[np.ndarray]) -> np.ndarray:
    """The plot of a result's quality, with the poses it follows, its reference and its true video."""
    reference, _, _, aligned = _drawn_inputs()
    truth = inputs.draw_truth(len(result))
    given = Inputs(
        lambda: iter(result), lambda: iter(truth), reference, inputs.reference_pose(), aligned[: len(result)]
    )
    return plot(evaluate(given))


def _skeletons(poses) -> np.ndarray:
    return draw(poses, XDYNA, poses.canvas, scale_strokes=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The module as a command."""
    parser = argparse.ArgumentParser(prog="pictures", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "aligned", "thumbnails", "pages"), default="all")
    what = parser.parse_args(arguments).what
    if what in ("all", "aligned"):
        save_picture(aligned_poses(), ALIGNED, overwrite=True)
    if what in ("all", "thumbnails"):
        thumbnails()
    if what in ("all", "pages"):
        pages()


if __name__ == "__main__":
    main()
