"""Sockets to core layouts and back, with the shapes and oddities that other packs send."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.video_core.images import unit


@pytest.fixture
def images(comfy):
    from xdyna_unianimate.nodes import images

    return images


def test_grey_is_repeated_and_alpha_dropped(images):
    picture = torch.rand(2, 3, 5, 4)
    assert torch.equal(images.rgb(picture), picture[..., :3])
    grey = images.rgb(picture[..., :1])
    assert grey.shape == (2, 3, 5, 3) and torch.equal(grey[..., 2], picture[..., 0])


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 2), (4, 4, 3)])
def test_what_is_no_picture_is_a_sentence_before_the_first_is_asked_for(images, shape):
    """An empty batch: ``next`` found nothing, and ComfyUI showed an error without any text."""
    with pytest.raises(ValueError, match="^reference: (there are no frames|expected pictures)"):
        images.to_uint8(torch.zeros(shape), "reference")


def test_an_ordinary_clip_is_not_copied(images):
    clip = torch.rand(2, 4, 6, 3)
    assert images.even(images.rgb(clip)).data_ptr() == clip.data_ptr()


def test_values_outside_the_range_and_half_precision_are_taken(images):
    picture = torch.tensor([-0.5, 0.2, 7.0]).half().reshape(1, 1, 1, 3)
    assert next(images.to_uint8(picture)).flatten().tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("size", "expected"), [((3, 5), (4, 6)), ((4, 5), (4, 6)), ((1, 1), (2, 2)), ((4, 6), (4, 6))]
)
def test_odd_sides_repeat_their_last_row_and_column(images, size, expected):
    picture = torch.rand(2, *size, 3)
    padded = images.even(picture)
    assert padded.shape[1:3] == expected
    rows, columns = (torch.arange(n).clamp(max=side - 1) for n, side in zip(expected, size, strict=True))
    assert torch.equal(padded, picture[:, rows][:, :, columns])


@pytest.mark.parametrize("shape", [(3, 5, 3), (1, 3, 5, 2), (1, 3, 5, 6)])
def test_other_shapes_are_refused_with_the_shape(images, shape):
    with pytest.raises(
        ValueError, match=rf"reference: expected pictures .* got \[{', '.join(map(str, shape))}\]"
    ):
        images.rgb(torch.zeros(shape), "reference")


def test_no_frames_is_a_sentence(images):
    with pytest.raises(ValueError, match="driving: there are no frames"):
        images.rgb(torch.zeros(0, 4, 4, 3), "driving")


def test_uint8_survives_both_ways_exactly(images):
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 16, 8, 3)
    image = unit(pixels)
    assert image.dtype == torch.float32 and image.max() <= 1
    assert np.array_equal(np.stack(list(images.to_uint8(image))), pixels)


def test_frames_come_one_at_a_time(images):
    frames = images.to_uint8(torch.zeros(1000, 2, 2, 3))
    assert next(frames).shape == (2, 2, 3)


def test_latents_keep_their_frames_in_the_batch(images):
    samples = torch.randn(5, 4, 6, 7)
    assert torch.equal(images.samples_of({"samples": samples, "batch_index": [0]}), samples)
    video = samples.movedim(0, 1)[None]
    assert torch.equal(images.samples_of({"samples": video}), samples)
    back = images.latent_of(samples.double())
    assert back["samples"].dtype == torch.float32 and back["samples"].shape == samples.shape


@pytest.mark.parametrize("shape", [(1, 16, 3, 8, 8), (2, 4, 3, 8, 8), (1, 16, 8, 8), (0, 4, 8, 8)])
def test_latents_of_other_models_are_refused(images, shape):
    with pytest.raises(ValueError, match="Stable Diffusion autoencoder"):
        images.samples_of({"samples": torch.zeros(shape)})


class LazySound:
    """A mapping as VideoHelperSuite gives it: not a dict, and it raises when there is no sound after all."""

    def __init__(self, content: dict | None) -> None:
        self.content = content

    def __getitem__(self, key):
        if self.content is None:
            raise RuntimeError("no audio stream")
        return self.content[key]


def test_sound_is_read_by_key_alone(images):
    content = {"waveform": torch.ones(1, 2, 100), "sample_rate": 44100}
    for audio in (content, LazySound(content)):
        sound = images.sound_of(audio)
        assert (sound.samples.shape, sound.samples.dtype, sound.rate) == ((2, 100), np.float32, 44100)


@pytest.mark.parametrize(
    "audio", [None, LazySound(None), {"waveform": torch.zeros(1, 2, 0), "sample_rate": 8000}]
)
def test_no_sound_is_none(images, audio):
    assert images.sound_of(audio) is None


def test_the_rate_the_frames_were_loaded_with_wins(images):
    assert images.frame_rate(25.0) == 25
    assert images.frame_rate(25.0, {"source_fps": 60.0, "loaded_fps": 8.0}) == 8
    assert images.frame_rate(25.0, {"loaded_fps": 0}) == 25
    assert images.frame_rate(24000 / 1001) == Fraction(24000, 1001)


def components(frames: int = 6, height: int = 5, width: int = 7, **more):
    """Frames of one grey each, brighter with time."""
    from xdyna_unianimate.nodes.api import Types

    grey = torch.arange(frames, dtype=torch.float32).reshape(frames, 1, 1, 1) * 32 / 255
    pictures = grey.expand(frames, height, width, 3)
    return Types.VideoComponents(images=pictures, frame_rate=Fraction(8), **more)


def greys(source, **chosen) -> list[int]:
    return [int(round(frame.mean() / 32)) for frame in source.frames(**chosen)]


def test_a_video_of_tensors_is_read_as_it_is_and_not_encoded(images):
    from xdyna_unianimate.nodes.api import InputImpl

    sound = {"waveform": torch.ones(1, 1, 50), "sample_rate": 8000}
    source = images.video_source(InputImpl.VideoFromComponents(components(audio=sound)))
    assert (source.size, source.fps, source.count) == ((7, 5), 8, 6)
    assert greys(source) == list(range(6)) and greys(source, interval=2, start=1) == [1, 3, 5]
    assert source.audio().samples.shape == (1, 50)
    silent = images.video_source(InputImpl.VideoFromComponents(components()))
    assert silent.audio() is None


@pytest.mark.parametrize("kind", [str, lambda path: BytesIO(Path(path).read_bytes())])
def test_a_video_in_a_file_is_read_there(images, tmp_path, kind):
    from xdyna_unianimate.nodes.api import InputImpl

    file = str(tmp_path / "clip.mp4")
    InputImpl.VideoFromComponents(components(height=32, width=48)).save_to(file)
    source = images.video_source(InputImpl.VideoFromFile(kind(file)))
    assert (source.size, source.fps) == ((48, 32), 8)
    assert greys(source) == list(range(6))


def test_a_trimmed_video_keeps_its_part(images, tmp_path):
    from xdyna_unianimate.nodes.api import InputImpl

    file = str(tmp_path / "clip.mp4")
    InputImpl.VideoFromComponents(components(height=32, width=48)).save_to(file)

    class Trimmed:
        """As newer versions of core give it."""

        def get_stream_source(self):
            return file

        def get_active_trim_window(self):
            return 0.25, 0.375

    assert greys(images.video_source(Trimmed())) == [2, 3, 4]
