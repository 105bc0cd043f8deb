from abc import ABC, abstractmethod

from . import _io as io
from . import _ui as ui
from ._input.video_types import VideoInput
from ._input_impl.video_types import VideoFromComponents, VideoFromFile
from ._util.video_types import VideoCodec, VideoComponents, VideoContainer


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self): ...


class Input:
    Video = VideoInput


class InputImpl:
    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    VideoCodec = VideoCodec
    VideoContainer = VideoContainer
    VideoComponents = VideoComponents


__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]
