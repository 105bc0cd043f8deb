"""From files to what a system is shown: aligned, drawn in its style, faces laid over the reference's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.app import animate
from xdyna_unianimate.app.animate import (
    Preparation,
    Prepared,
    Source,
    in_crop,
    prepare,
    unianimate_skeletons,
    xdyna_skeletons,
)
from xdyna_unianimate.app.faces import with_faces_of
from xdyna_unianimate.app.poses import PoseSettings
from xdyna_unianimate.app.systems import Sampling, UniAnimate, XDyna, face_maps
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.demo.detector import DemoDetector
from xdyna_unianimate.pose_align.align import align
from xdyna_unianimate.pose_align.draw import UNIANIMATE, XDYNA, draw
from xdyna_unianimate.pose_align.interchange import save_poses
from xdyna_unianimate.pose_align.pose import PoseError
from xdyna_unianimate.pose_align.skeleton import FACE, Joint
from xdyna_unianimate.video_core.storage import OnDisk
from xdyna_unianimate.video_core.video import write_video
from xdyna_unianimate.xdyna_core.face import closest_frame

FIVE = Preparation(PoseSettings(max_frames=5))
DRAWN = Source(inputs.REFERENCE, inputs.DRIVING)
SIZE = (64, 96)


def prepared(source: Source = DRAWN, how: Preparation = FIVE, **options: object) -> Prepared:
    return prepare(source, how, DemoDetector(), **options)


def empty(path: Path) -> Path:
    """A picture that shows nobody."""
    Image.new("RGB", (32, 48), (90, 90, 90)).save(path)
    return path


# ---- preparing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", ["robust", "original"])
def test_poses_are_aligned_to_the_reference(fidelity: str) -> None:
    found = prepared(how=replace(FIVE, align=fidelity))
    aligned, report = align(inputs.driving_poses()[:5], inputs.reference_pose(), fidelity=fidelity)
    assert np.allclose(found.aligned.points, aligned.points)
    assert found.report.text() == report.text()
    assert (found.frames, found.fps) == (5, inputs.FPS)


def test_alignment_can_be_left_out() -> None:
    found = prepared(how=replace(FIVE, align="off"))
    assert np.allclose(found.aligned.points, inputs.driving_poses().points[:5])
    assert found.report is None


def test_a_pose_file_stands_for_the_reference(tmp_path: Path) -> None:
    picture = empty(tmp_path / "nobody.png")
    found = prepared(Source(picture, inputs.DRIVING, reference_pose=inputs.REFERENCE_POSE))
    assert found.aligned.canvas == inputs.CANVAS


def test_nobody_in_the_reference_is_a_sentence_where_poses_are_aligned_to_it(tmp_path: Path) -> None:
    source = Source(empty(tmp_path / "nobody.png"), inputs.DRIVING)
    with pytest.raises(PoseError, match="No person was found in the reference picture"):
        prepared(source)
    assert prepared(source, replace(FIVE, align="off")).reference_pose is None


@pytest.mark.parametrize("part", ["driving", "reference_pose"])
def test_a_pose_file_without_frames_is_a_sentence(tmp_path: Path, part: str) -> None:
    save_poses(inputs.driving_poses()[:0], tmp_path / "none.npz")
    with pytest.raises(PoseError, match=r"none.npz holds no (frames|pose)"):
        prepared(replace(DRAWN, **{part: tmp_path / "none.npz"}))


# ---- skeletons -----------------------------------------------------------------------------------------


def test_unianimates_skeletons_are_the_published_ones() -> None:
    found = prepared()
    frames, own = unianimate_skeletons(found, FIVE, SIZE)
    assert np.array_equal(frames, draw(found.aligned, UNIANIMATE))
    assert np.array_equal(own, draw(inputs.reference_pose(), UNIANIMATE)[0])
    assert frames[0].shape == (768, 512, 3)
    assert np.array_equal(frames[-1], frames[len(frames) - 1])
    with pytest.raises(IndexError):
        frames[len(frames)]


def test_skeletons_can_be_drawn_at_the_videos_size() -> None:
    frames, own = unianimate_skeletons(prepared(), replace(FIVE, published_canvas=False), SIZE)
    assert frames[0].shape == own.shape == (96, 64, 3)


@pytest.mark.parametrize("part", ["hands", "feet", "head"])
def test_parts_can_be_left_out_of_unianimates_and_added_to_xdynas(part: str) -> None:
    found = prepared()
    without = unianimate_skeletons(found, replace(FIVE, **{part: False}), SIZE)[0]
    assert np.count_nonzero(without) < np.count_nonzero(unianimate_skeletons(found, FIVE, SIZE)[0])
    changed = xdyna_skeletons(found, replace(FIVE, **{part: part != "hands"}), SIZE)
    assert not np.array_equal(changed, xdyna_skeletons(found, FIVE, SIZE))


def test_jpeg_is_unianimates_alone() -> None:
    found, coded = prepared(), replace(FIVE, jpeg=True)
    assert not np.array_equal(*(unianimate_skeletons(found, how, SIZE)[0] for how in (FIVE, coded)))
    assert np.array_equal(*(xdyna_skeletons(found, how, SIZE) for how in (FIVE, coded)))


def test_xdynas_skeletons_lie_in_the_references_crop() -> None:
    """X-Dyna cuts the reference to the video's shape; the skeleton must move with the picture."""
    wide = replace(prepared().aligned, canvas=(512, 384))
    inside = in_crop(wide, SIZE)
    assert inside.canvas == (256, 384)
    assert np.allclose(inside.points, wide.points - (128, 0))
    found = replace(prepared(), aligned=wide)
    skeletons = xdyna_skeletons(found, FIVE, SIZE)
    assert np.array_equal(skeletons, draw(inside, XDYNA, SIZE, scale_strokes=True))
    assert skeletons.poses is wide, "a long clip's poses are not held twice"


@pytest.mark.parametrize("system", ["unianimate", "xdyna"])
def test_poses_on_disk_are_given_back_while_skeletons_are_drawn(
    system: str, tmp_path: Path, monkeypatch
) -> None:
    of = {
        "unianimate": lambda clip: unianimate_skeletons(clip, FIVE, SIZE)[0],
        "xdyna": lambda clip: xdyna_skeletons(clip, FIVE, SIZE),
    }[system]
    found, times = prepared(), []
    lying = found.lying(OnDisk(tmp_path))
    monkeypatch.setattr(animate, "POSES_TOUCHED", 2)
    monkeypatch.setattr(OnDisk, "tidy", lambda self: times.append(self))
    assert np.array_equal(list(of(lying)), of(found))
    assert len(times) == 3, "with the pictures 0, 2 and 4"


# ---- faces ---------------------------------------------------------------------------------------------


def test_faces_come_from_the_driving_video_itself() -> None:
    found = prepared(face=True)
    assert found.faces.video == inputs.DRIVING
    maps = face_maps(found, SIZE)
    assert maps.local.shape == maps.whole.shape == (5, 96, 64, 3)
    assert maps.found.all()
    assert face_maps(prepared(), SIZE) is None


def test_faces_have_the_references_size_on_their_own_heads() -> None:
    """F (X-Dyna spec 9.5): alignment leaves the face's size to the figure's ratios; a large head needs more."""
    own = inputs.reference_pose()
    large = own.points.copy()
    large[:, FACE] = own.points[:, Joint.NOSE, None] + 2 * (
        own.points[:, FACE] - own.points[:, Joint.NOSE, None]
    )
    reference = replace(own, points=large)
    aligned, _ = align(inputs.driving_poses()[:5], reference)
    grown = with_faces_of(aligned, reference)
    extents = np.ptp(grown.points[:, FACE], axis=1)
    best = closest_frame(aligned.points[:, FACE], large[0, FACE])
    assert np.allclose(extents[best], np.ptp(large[0, FACE], axis=0), rtol=0.01)
    assert np.allclose(grown.points[:, FACE.start + 30], aligned.points[:, Joint.NOSE])
    assert np.array_equal(grown.points[:, : FACE.start], aligned.points[:, : FACE.start])
    assert np.array_equal(grown.points[:, FACE.stop :], aligned.points[:, FACE.stop :])


def test_faces_come_from_a_video_of_their_own(tmp_path: Path) -> None:
    """Beside drawn skeletons they are laid on the reference's face, beside pose files on the skeleton's."""
    skeletons = tmp_path / "skeletons.mp4"
    write_video(draw(inputs.driving_poses()[:4]), skeletons, 8)
    drawn = prepared(Source(inputs.REFERENCE, skeletons, face=inputs.DRIVING, drawn=True), face=True)
    assert (len(drawn.faces.driving), len(drawn.faces.target)) == (4, 1)
    assert face_maps(drawn, SIZE).found.all()
    posed = prepared(Source(inputs.REFERENCE, inputs.DRIVING_POSES, face=inputs.DRIVING), face=True)
    assert len(posed.faces.target) == 5
    same = face_maps(prepared(face=True), SIZE)
    assert np.array_equal(face_maps(posed, SIZE).whole, same.whole)


def test_faces_are_taken_at_the_interval_of_the_poses() -> None:
    """F (X-Dyna quirk 12): the original's faces play at another speed than its poses."""
    every_third = prepared(how=Preparation(PoseSettings(interval=3, max_frames=3)), face=True)
    maps, all_maps = face_maps(every_third, SIZE), face_maps(prepared(how=Preparation(), face=True), SIZE)
    assert len(maps.local) == 3
    assert np.abs(np.asarray(maps.whole, int) - np.asarray(all_maps.whole)[:9:3]).mean() < 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(inputs.REFERENCE, inputs.DRIVING_POSES), "shows no face to follow; name the video"),
        (
            Source(inputs.REFERENCE, inputs.DRIVING_POSES, face=inputs.REFERENCE),
            "reference.png gives 1 frames for 5 poses",
        ),
    ],
)
def test_a_face_that_cannot_be_followed_is_a_sentence(source: Source, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepared(source, face=True)


# ---- settings ------------------------------------------------------------------------------------------


def test_settings_left_out_are_the_published_ones() -> None:
    from xdyna_unianimate.unianimate_core.pipeline import Settings as UniAnimateSettings
    from xdyna_unianimate.xdyna_core.pipeline import Settings as XDynaSettings

    unianimate = UniAnimate().settings(Sampling(), 32)
    assert replace(unianimate, noise=None) == UniAnimateSettings()
    assert unianimate.noise_used == UniAnimateSettings().noise_used
    assert XDyna().settings(Sampling(), 32) == XDynaSettings()


@pytest.mark.parametrize(
    ("mode", "frames", "becomes", "prior"),
    [
        ("auto", 32, "short", 949),
        ("auto", 33, "windows", 939),
        ("short", 99, "short", 949),
        ("continuation", 99, "continuation", 949),
    ],
)
def test_long_clips_go_by_windows(mode: str, frames: int, becomes: str, prior: int) -> None:
    settings = UniAnimate(mode=mode).settings(Sampling(), frames)
    assert (settings.sampling.mode, settings.noise_used.prior_timestep) == (becomes, prior)


def test_choices_reach_the_cores() -> None:
    sampling = Sampling((64, 96), 3, 1.5, 9, "original", 12, 2, 4, "pyramid")
    for system in (UniAnimate(noise_prior=7), XDyna(loop=False, face_strength=0.5)):
        settings = system.settings(sampling, 40)
        inner = settings.sampling
        assert (settings.size, settings.seed) == ((64, 96), 9)
        assert (inner.steps, inner.guidance, inner.window, inner.overlap) == (3, 1.5, 12, 2)
        assert (inner.batch, inner.fuse) == (4, "pyramid")
    assert UniAnimate(noise_prior=7).settings(sampling, 40).noise_used.prior_timestep == 7
    xdyna = XDyna(loop=False, face_strength=0.5).settings(sampling, 40)
    assert (xdyna.sampling.loop, xdyna.face.strength, xdyna.pose.strength) == (False, 0.5, 1)
