from abc import ABC, abstractmethod
from io import BytesIO

from .._util.video_types import VideoCodec, VideoContainer


class VideoInput(ABC):
    @abstractmethod
    def get_components(self): ...

    @abstractmethod
    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None): ...

    def get_stream_source(self):
        """Encodes the clip first: what a class without a file of its own falls back to."""
        buffer = BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def get_dimensions(self):
        images = self.get_components().images
        return images.shape[2], images.shape[1]

    def get_duration(self):
        components = self.get_components()
        return float(components.images.shape[0] / components.frame_rate)
