"""What the demo says of itself, on clips with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.app import demo
from xdyna_unianimate.app.animate import Source
from xdyna_unianimate.app.outputs import Result
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.demo.architectures import RESOLUTION
from xdyna_unianimate.video_core.images import read_picture, resize
from xdyna_unianimate.video_core.video import write_video

FRAMES = 4
DRAWN = demo.source(None, None)


def result_of(frames: list[np.ndarray], folder: Path) -> Result:
    made = [resize(frame, RESOLUTION, "bicubic") for frame in frames]
    return Result(write_video(made, folder / "made.mp4", 12, crf=8).path, folder, len(made), "")


def test_the_truth_itself_and_a_copy_of_the_reference(tmp_path: Path) -> None:
    truth = demo.numbers_of(DRAWN, result_of(list(inputs.draw_truth(FRAMES)), tmp_path))
    assert truth["result"]["psnr"] > 30 and truth["result"]["ssim"] > 0.95
    assert truth["result"]["joints_5"] == truth["result"]["joints_10"] == 100
    (tmp_path / "made.mp4").unlink()
    copy = demo.numbers_of(DRAWN, result_of([read_picture(inputs.REFERENCE)] * FRAMES, tmp_path))
    assert copy["result"] == pytest.approx(copy["copy of the reference"], abs=8)
    assert copy["copy of the reference"] == truth["copy of the reference"]
    assert truth["copy of the reference"]["psnr"] < truth["result"]["psnr"] - 8
    line = demo.line_of("xdyna", truth)
    assert (
        line.startswith("xdyna against the true rendering (a copy of the reference): PSNR ")
        and "100 % (" in line
    )


def test_nothing_is_said_where_the_truth_is_not_known(tmp_path: Path) -> None:
    result = result_of(list(inputs.draw_truth(2)), tmp_path)
    for other in (Source(tmp_path / "a.png", inputs.DRIVING), Source(inputs.REFERENCE, tmp_path / "b.mp4")):
        assert demo.numbers_of(other, result) is None
    wide = write_video([np.zeros((96, 192, 3), np.uint8)] * 2, tmp_path / "strip.mp4", 12).path
    assert demo.numbers_of(DRAWN, Result(wide, wide, 2, "")) is None
