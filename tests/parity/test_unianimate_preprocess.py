"""UniAnimate's choice of frames and preparation of pictures, equal to the golden tensors (spec 2.1)."""

from __future__ import annotations

import re

import pytest
from einops import rearrange
from xdyna_unianimate.unianimate_core.frames import choose_frames
from xdyna_unianimate.video_core.clip import squashed_pixels
from xdyna_unianimate.video_core.images import resize, unit

from .golden import Golden, cases, count, holding

SYSTEM, FILES = "unianimate", "preprocess"


@pytest.mark.parametrize(("file", "case"), cases(SYSTEM, FILES))
def test_choice_of_frames(file: str, case: str) -> None:
    golden = Golden(SYSTEM, file)
    row, poses = golden.meta["cases"][case], len(golden["pose_rgb"])
    length, interval = re.search(r"\.max(\d+|None)\.interval(\d+)", case).groups()
    settings = {"length": None if length == "None" else int(length), "interval": int(interval)}
    original = choose_frames(poses, **settings, fidelity="original")
    robust = choose_frames(poses, **settings)
    if "reference_raises" in row:  # F: the long flow stops; ours has the short flow's rule
        assert len(original) == settings["length"]
    else:
        assert original == row["pose_index_per_output_frame (-1 = all-zero padding)"]
        assert len(original) == row["frames_out"]
    assert robust == list(range(0, poses, settings["interval"]))[: settings["length"]]
    count(golden)


@pytest.mark.parametrize("file", holding(SYSTEM, FILES, "image_rgb", "ref_pose_rgb", "dwpose"))
def test_pictures(file: str) -> None:
    golden = Golden(SYSTEM, file)
    size = tuple(golden.meta["resolution_WH"])
    reference, poses = golden["image_rgb"].numpy(), golden["pose_rgb"].numpy()

    fitted = rearrange(unit([resize(reference, size, "bilinear")]), "1 h w c -> c h w")
    golden.check("ref_frame0", fitted)
    golden.check("random_ref_frame0", fitted)
    golden.check("ref_normalised_frame0", (fitted - 0.5) / 0.5)
    golden.check("vit_frame", squashed_pixels(reference)[0])
    pose = unit([resize(golden["ref_pose_rgb"].numpy(), size, "bilinear")])
    golden.check("random_ref_dwpose0", rearrange(pose, "1 h w c -> c h w"))

    length, interval = map(int, re.search(r"max_frames (\d+), interval (\d+)", golden.meta["about"]).groups())
    chosen = choose_frames(len(poses), length=length, interval=interval)
    clip = unit(resize(poses[i], size, "bilinear") for i in chosen)
    golden.check("dwpose", rearrange(clip, "f h w c -> f c h w"))
