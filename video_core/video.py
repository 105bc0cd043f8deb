"""Reading and writing video: the public names of ``decode``, ``encode`` and what they share."""

from __future__ import annotations

from .decode import Audio, VideoSource, open_frames, open_video
from .encode import CODECS, Written, write_video
from .images import VideoError

__all__ = [
    "CODECS",
    "Audio",
    "VideoError",
    "VideoSource",
    "Written",
    "open_frames",
    "open_video",
    "write_video",
]
