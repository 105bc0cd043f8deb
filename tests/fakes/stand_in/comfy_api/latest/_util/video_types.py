from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from torch import Tensor


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]

    @classmethod
    def get_extension(cls, value):
        return "mp4"


@dataclass
class VideoComponents:
    images: Tensor
    frame_rate: Fraction
    audio: dict | None = None
    metadata: dict | None = None
