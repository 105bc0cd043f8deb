"""Names that overwrite nothing; clips, pictures and latents that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xdyna_unianimate.app import outputs
from xdyna_unianimate.app.outputs import Output
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.samplers import NonFiniteError
from xdyna_unianimate.video_core.video import open_video
from xdyna_unianimate.video_core.weights import open_checkpoint


def pictures(count: int):
    return iter([np.full((16, 24, 3), 40 * i, np.uint8) for i in range(count)])


@pytest.mark.parametrize(
    ("codec", "suffix"), [(None, ".mp4"), ("h264", ".mp4"), ("vp9", ".webm"), ("gif", ".gif"), ("png", "")]
)
def test_a_codec_has_its_suffix(codec: str | None, suffix: str) -> None:
    assert outputs.suffix_of(codec) == suffix


def test_an_unknown_codec_is_a_sentence_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no codec 'divx'; choose one of h264, .*png"):
        outputs.suffix_of("divx")


def test_a_free_name_is_never_an_existing_file(tmp_path: Path) -> None:
    assert outputs.free_path(tmp_path, "a", ".mp4").name == "a.mp4"
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a_2.mp4").touch()
    assert outputs.free_path(tmp_path, "a", ".mp4").name == "a_3.mp4"
    assert outputs.free_path(tmp_path, "a", ".mp4", overwrite=True).name == "a.mp4"


def test_a_target_is_the_file_asked_for_or_named_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out.d"
    folder.mkdir()
    assert outputs.target_of(tmp_path / "mine.gif", "stem", Output()) == tmp_path / "mine.gif"
    assert outputs.target_of(folder, "stem", Output(codec="vp9")) == folder / "stem.webm"
    (tmp_path / "mine.gif").touch()
    with pytest.raises(ValueError, match=r"mine\.gif exists already"):
        outputs.target_of(tmp_path / "mine.gif", "stem", Output())
    assert outputs.target_of(tmp_path / "mine.gif", "stem", Output(overwrite=True)).name == "mine.gif"
    assert outputs.target_of(tmp_path / "new", "stem", Output(codec="png")) == tmp_path / "new" / "stem"


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = outputs.save_picture(next(pictures(1)), tmp_path / "deep" / "a.png")
    assert read_picture(file).shape == (16, 24, 3)
    assert outputs.save_picture(next(pictures(1)), file).name == "a_2.png"
    with pytest.raises(ValueError, match="exists already"):
        outputs.check_picture(file, False)
    with pytest.raises(ValueError, match=r"should end in \.png or \.jpg"):
        outputs.save_picture(next(pictures(1)), tmp_path / "a.doc")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        outputs.save_picture(next(pictures(1)), file, overwrite=True)
    assert {entry.name for entry in file.parent.iterdir()} == {"a.png", "a_2.png"}


@pytest.mark.parametrize("suffix", outputs.PICTURES)
def test_every_kind_of_picture_that_is_offered_is_written(tmp_path: Path, suffix: str) -> None:
    assert read_picture(outputs.save_picture(next(pictures(1)), tmp_path / f"a{suffix}")).shape == (16, 24, 3)


@pytest.mark.parametrize("suffix", [".mpg", ".hdf", ".xbm", ".pdf", ".eps", ""])
def test_a_picture_that_pillow_cannot_write_is_told_before(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="should end in"):
        outputs.check_picture(tmp_path / f"a{suffix}", overwrite=True)


@pytest.mark.parametrize(
    ("asked", "driving", "written"), [(None, None, 8), (None, 12.5, 12.5), (20.0, 12.5, 20)]
)
def test_a_clip_has_the_speed_of_its_source_unless_told(
    tmp_path: Path, asked: float | None, driving: float | None, written: float
) -> None:
    output = Output(fps=asked)
    file = outputs.save_clip(pictures(3), 3, tmp_path / "a.mp4", output, fps=driving)
    assert float(open_video(file).fps) == written


def test_a_single_frame_becomes_a_picture_under_a_free_name(tmp_path: Path) -> None:
    for name in ("a.png", "a_2.png"):
        assert outputs.save_clip(pictures(1), 1, tmp_path / "a.mp4", Output()).name == name


def test_a_name_that_another_process_took_meanwhile_gets_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes lie between the choice of a name and the first frame."""
    chosen = outputs.free_path(tmp_path, "my.photo", ".mp4")
    for name in ("my.photo.mp4", "my.photo_2.mp4"):
        assert outputs.save_clip(pictures(3), 3, chosen, Output()).name == name
    folder = outputs.free_path(tmp_path, "my.photo", "")
    for count, name in ((3, "my.photo"), (1, "my.photo_2")):
        assert outputs.save_clip(pictures(count), count, folder, Output(codec="png")).name == name
    save = Image.Image.save

    def meanwhile(*words: object, **others: object) -> None:
        (tmp_path / "sheet.png").touch()
        save(*words, **others)

    monkeypatch.setattr(Image.Image, "save", meanwhile)
    assert outputs.save_picture(next(pictures(1)), tmp_path / "sheet.png").name == "sheet_2.png"
    assert not (tmp_path / "sheet.png").read_bytes()


def test_the_last_finite_latents_are_kept(tmp_path: Path) -> None:
    latents = torch.randn(1, 4, 2, 3, 3)
    for name in ("a.latents.safetensors", "a.latents_2.safetensors"):
        said = outputs.keep_latents(NonFiniteError("NaN.", latents, 7), tmp_path / "a.mp4")
        assert "after 7 steps" in said
        assert torch.equal(open_checkpoint(tmp_path / name)["latents"], latents)
    assert outputs.keep_latents(NonFiniteError("NaN.", None, 0), tmp_path / "a.mp4") == ""


def test_sound_is_looked_for_where_there_can_be_any(tmp_path: Path) -> None:
    assert outputs.sound_of(None, inputs.DRIVING, inputs.DRIVING_POSES, tmp_path) is None


def test_the_strip_stands_beside() -> None:
    reference, skeletons = np.full((8, 8, 3), 255, np.uint8), list(pictures(2))
    [first, second] = outputs.beside(pictures(2), reference, skeletons)
    assert first.shape == (16, 72, 3)
    assert (first[:, :24] == 255).all()
    assert np.array_equal(second[:, 24:48], skeletons[1])
    assert np.array_equal(second[:, 48:], skeletons[1])


def test_remembering_passes_everything_on() -> None:
    kept: dict[int, np.ndarray] = {}
    assert len(list(outputs.remembering(pictures(5), [0, 3], kept))) == 5
    assert {number: int(frame[0, 0, 0]) for number, frame in kept.items()} == {0: 0, 3: 120}
