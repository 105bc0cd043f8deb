import json
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import torch

from .._input.video_types import VideoInput
from .._util.video_types import VideoCodec, VideoComponents, VideoContainer


class VideoFromFile(VideoInput):
    def __init__(self, file):
        self._file = file

    def get_stream_source(self):
        if isinstance(self._file, BytesIO):
            self._file.seek(0)
        return self._file

    def get_dimensions(self):
        with av.open(self.get_stream_source()) as container:
            stream = container.streams.video[0]
            return stream.width, stream.height

    def get_components(self):
        with av.open(self.get_stream_source()) as container:
            rate = container.streams.video[0].average_rate
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        with av.open(self.get_stream_source()) as container:
            audio = _sound(container)
        images = torch.from_numpy(np.stack(frames)).float() / 255
        return VideoComponents(images=images, frame_rate=Fraction(rate), audio=audio)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        VideoFromComponents(self.get_components()).save_to(path, format, codec, metadata)


class VideoFromComponents(VideoInput):
    """Like core's: mp4 with H.264 alone, which takes neither odd sizes nor four channels."""

    def __init__(self, components):
        self._components = components

    def get_components(self):
        return self._components

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        images, rate = self._components.images, Fraction(round(self._components.frame_rate * 1000), 1000)
        options = {"options": {"movflags": "use_metadata_tags"}} | (
            {"format": "mp4"} if hasattr(path, "write") else {}
        )
        with av.open(path, mode="w", **options) as output:
            output.metadata.update({key: json.dumps(value) for key, value in (metadata or {}).items()})
            stream = output.add_stream("h264", rate=rate)
            stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "yuv420p"
            for image in images:
                picture = (image * 255).clamp(0, 255).byte().cpu().numpy()
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))


def _sound(container):
    if not container.streams.audio:
        return None
    rate = container.streams.audio[0].rate
    parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return {"waveform": torch.from_numpy(np.concatenate(parts, axis=1))[None], "sample_rate": rate}
