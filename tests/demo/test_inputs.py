"""The shipped inputs: drawn again they are the same, poses and pictures belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.pose_align.align import Source, align
from xdyna_unianimate.pose_align.interchange import load_poses
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_video


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for _ in range(2):  # the second time over the first, as in the project's own folder
        inputs.draw_inputs(folder)
    return folder


def test_drawn_again_they_are_the_shipped_ones(drawn: Path) -> None:
    """Pictures within a grey level, video within what another build of the codec changes."""
    again = read_picture(drawn / inputs.REFERENCE.name).astype(int)
    assert np.abs(again - read_picture(inputs.REFERENCE)).max() <= 2
    for name in (inputs.REFERENCE_POSE, inputs.DRIVING_POSES):
        assert np.allclose(load_poses(drawn / name.name).points, load_poses(name).points, atol=1e-6)
    old, new = open_video(inputs.DRIVING), open_video(drawn / inputs.DRIVING.name)
    for shipped, frame in zip(old.frames(), new.frames(), strict=True):
        assert np.abs(shipped.astype(int) - frame).mean() < 3


def test_pictures_and_poses_belong_together() -> None:
    video, poses = open_video(inputs.DRIVING), inputs.driving_poses()
    assert len(list(video.frames())) == len(poses) == inputs.FRAMES
    assert video.size == poses.canvas == inputs.CANVAS
    assert float(video.fps) == poses.fps == inputs.FPS
    assert read_picture(inputs.REFERENCE).shape == (inputs.CANVAS[1], inputs.CANVAS[0], 3)
    assert inputs.reference_pose().canvas == inputs.CANVAS
    assert len(inputs.reference_pose()) == 1


def test_the_two_figures_have_bodies_that_alignment_must_change() -> None:
    """Everything is seen, so everything is measured; the puppets' proportions differ."""
    _, report = align(inputs.driving_poses(), inputs.reference_pose())
    assert {ratio.source for ratio in report.ratios} == {Source.MEASURED}
    assert max(abs(ratio.value - 1) for ratio in report.limbs) > 0.1


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in inputs.FOLDER.iterdir()) < 500_000


def test_the_truth_is_the_drawn_figure_in_the_drawn_dance() -> None:
    truth = inputs.draw_truth(3)
    assert truth.shape == (3, inputs.CANVAS[1], inputs.CANVAS[0], 3)
    reference = read_picture(inputs.REFERENCE)
    corner = np.s_[:40, :40]
    assert np.abs(truth[0][corner].astype(int) - reference[corner]).max() <= 1
    assert (truth[0] != truth[2]).any()
