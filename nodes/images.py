"""Between ComfyUI's sockets and the layouts of the cores: IMAGE, LATENT, AUDIO, VIDEO, frame rates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..app import state
from ..video_core.decode import Audio, VideoSource, open_video
from .api import Input, Types


def rgb(image: Tensor, what: str = "images") -> Tensor:
    """IMAGE [F, H, W, 1, 3 or 4] -> float32 [F, H, W, 3]: grey repeated, alpha dropped as in core.

    A view where that is possible: a long clip is not held twice.
    """
    _check(image, what)
    colour = image.expand(-1, -1, -1, 3) if image.shape[-1] == 1 else image[..., :3]
    return colour.float()


def _check(image: Tensor, what: str) -> None:
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{what}: expected pictures [frames, height, width, 3]; got {list(image.shape)}.")
    if image.shape[0] == 0:
        raise ValueError(f"{what}: there are no frames. Connect at least one picture.")


def even(image: Tensor) -> Tensor:
    """IMAGE with even sides: an odd one repeats its last row or column, as our encoder does."""
    bottom, right = (side % 2 for side in image.shape[1:3])
    if not bottom and not right:
        return image
    return F.pad(image.movedim(-1, 1), (0, right, 0, bottom), mode="replicate").movedim(1, -1)


def to_uint8(image: Tensor, what: str = "images") -> Iterator[np.ndarray]:
    """IMAGE -> RGB uint8 [H, W, 3], frame by frame, so that a long clip is never held twice.

    Clamped and rounded, so that what came from 8 bits comes back unchanged; the way back is
    ``video_core.images.unit``. Raises ValueError at once where there is no picture: ``next`` finds one.
    """
    _check(image, what)
    return ((rgb(frame[None])[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy() for frame in image)


def samples_of(latent: Mapping[str, Any]) -> Tensor:
    """LATENT -> its samples, unscaled, [F, 4, h, w]; those of video models, [1, 4, F, h, w], are split."""
    samples = latent["samples"]
    if samples.ndim == 5 and samples.shape[0] == 1:
        samples = rearrange(samples, "1 c f h w -> f c h w")
    if samples.ndim != 4 or samples.shape[1] != 4 or samples.shape[0] == 0:
        raise ValueError(
            "latent: expected samples [frames, 4, height/8, width/8] of a Stable Diffusion autoencoder, "
            f"got {list(latent['samples'].shape)}."
        )
    return samples


def latent_of(samples: Tensor) -> dict[str, Tensor]:
    """Unscaled samples [F, 4, h, w] -> LATENT, float32 on the CPU."""
    return {"samples": samples.float().cpu()}


def sound_of(audio: Mapping[str, Any] | None) -> Audio | None:
    """AUDIO -> its first entry's sound; None where there is none.

    Some packs give a lazy mapping that raises when its file has no sound, so it is only ever indexed.
    """
    if audio is None:
        return None
    try:
        waveform, rate = audio["waveform"], int(audio["sample_rate"])
    except (KeyError, OSError, RuntimeError, ValueError):
        return None
    return Audio(waveform[0].float().cpu().numpy(), rate) if waveform.numel() else None


def frame_rate(fps: float, video_info: Mapping[str, Any] | None = None) -> Fraction:
    """The widget's frame rate, unless a VHS_VIDEOINFO says with how many the frames were loaded."""
    loaded = float((video_info or {}).get("loaded_fps") or 0)
    return Fraction(loaded if loaded > 0 else fps).limit_denominator(1001)


class Components(VideoSource):
    """A VIDEO made of tensors, read like one in a file."""

    def __init__(self, components: Any) -> None:
        self._images, self._audio = components.images, components.audio
        height, width = rgb(self._images, "video").shape[1:3]
        self.name, self.size, self.count = "the video", (width, height), len(self._images)
        self.fps = Fraction(components.frame_rate)

    def _pictures(self) -> Iterator[Tensor]:
        yield from self._images

    def _rgb(self, picture: Tensor) -> np.ndarray:
        return next(to_uint8(picture[None]))

    def audio(self, folder: Path | None = None) -> Audio | None:
        return sound_of(self._audio)


def video_source(video: Any) -> VideoSource:
    """What a VIDEO socket carries, read as a stream: from its file, or from its tensors where it has none.

    Core's own stream for the latter would first encode the clip (lossy, and impossible for odd sizes).
    """
    if not _has_file(video):
        return Components(video.get_components())
    start, duration = _trimmed(video)
    return open_video(video.get_stream_source(), start=start, duration=duration)


def clip_of(frames: Tensor, fps: float) -> Types.VideoComponents:
    """IMAGE frames -> what a VIDEO is made of, without sound."""
    return Types.VideoComponents(images=rgb(frames), audio=None, frame_rate=frame_rate(fps))


def content_of(video: Any) -> str:
    """64 hex digits that tell a VIDEO, or what one is made of, from any other: for caches."""
    if _has_file(video):
        file = video.get_stream_source()
        content = file.getvalue() if isinstance(file, BytesIO) else state.content_of(Path(file))
        return state.key_of(content, *_trimmed(video))
    components = video.get_components() if hasattr(video, "get_components") else video
    digest = hashlib.sha256(str(components.frame_rate).encode())
    for frame in to_uint8(components.images):
        digest.update(f"{frame.shape}".encode() + frame.tobytes())
    return digest.hexdigest()


def _has_file(video: Any) -> bool:
    stream = getattr(type(video), "get_stream_source", None)
    return stream is not None and stream is not Input.Video.get_stream_source


def _trimmed(video: Any) -> tuple[float, float]:
    """Start and duration in seconds of the part that is meant; duration 0 is to the end."""
    window = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0, 0)
    return float(window[0]), float(window[1])
