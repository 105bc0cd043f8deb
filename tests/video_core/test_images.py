"""Pictures: resizing as the models were trained, bytes and floats; formats are tried in test_decode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xdyna_unianimate.video_core.images import VideoError, one_line, read_picture, resize, to_bytes, unit

from .media import quadrants


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
def test_resizing_is_pil_s(filter: str) -> None:
    """UniAnimate spec 2.1: antialiased, straight to the size, proportions not kept."""
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    expected = Image.fromarray(picture).resize((32, 64), Image.Resampling[filter.upper()])
    assert np.array_equal(resize(picture, (32, 64), filter), np.asarray(expected))
    assert resize(picture, (70, 50), filter) is picture


def test_floats_become_bytes_by_truncation() -> None:
    """K: UniAnimate spec 2.5 and X-Dyna spec 9.6; values outside 0..1 are clamped."""
    levels = torch.tensor([0.0, 0.999 / 255, 1 / 255, 1.999 / 255, 0.5, 1.0, 1.7, -0.3])
    (frame,) = to_bytes(levels.expand(3, 1, -1).permute(1, 2, 0)[None])
    assert frame.dtype == np.uint8
    assert frame[0, :, 0].tolist() == [0, 0, 1, 1, 127, 255, 255, 0]


def test_bytes_become_floats() -> None:
    pictures = [quadrants(8, 6), quadrants(8, 6, 100)]
    frames = unit(pictures)
    assert frames.shape == (2, 6, 8, 3) and frames.dtype == torch.float32
    assert torch.equal(frames, torch.from_numpy(np.stack(pictures)).float() / 255)


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    picture = np.dstack([quadrants(), np.zeros((48, 64), np.uint8)])
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), quadrants())


def test_unreadable_pictures_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in (tmp_path / "a.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(VideoError) as caught:
            read_picture(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("a\nb"), "a"), (ValueError(""), "ValueError"), ("done.", "done")]
)
def test_one_line(error: object, line: str) -> None:
    assert one_line(error) == line
