"""Start options: the few that the pack or the stand-ins read."""

import enum
from types import SimpleNamespace


class LatentPreviewMethod(enum.Enum):
    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"


args = SimpleNamespace(
    base_directory=None,
    disable_metadata=False,
    preview_method=LatentPreviewMethod.NoPreviews,
    preview_size=512,
)
