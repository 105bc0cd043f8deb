"""The README's gallery, as small as it can be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from xdyna_unianimate.app.gallery import Gallery, gallery_frames, main

ROOT = Path(__file__).parents[2]


def test_a_row_for_each_clip_and_a_column_for_each_answer() -> None:
    frames = list(gallery_frames(Gallery(clips=(0,), frames=2, steps=1)))
    assert len(frames) == 2
    height, width = frames[0].shape[:2]
    assert width > 6 * 128 and 192 < height < 240
    assert (frames[0] != frames[1]).any()


@pytest.mark.slow
def test_the_command_writes_an_animation(tmp_path: Path) -> None:
    main(["--output", str(tmp_path / "gallery.webp"), "--frames", "2", "--steps", "1"])
    with Image.open(tmp_path / "gallery.webp") as picture:
        assert picture.n_frames == 2


def test_the_one_in_the_readme_loads_quickly() -> None:
    file = ROOT / "docs" / "gallery.webp"
    assert "docs/gallery.webp" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert file.stat().st_size < 1_000_000
