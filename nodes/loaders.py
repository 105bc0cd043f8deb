"""Encoders by our own loaders: autoencoder, text and image tower, as objects that core's nodes take too."""

from __future__ import annotations

from pathlib import Path

from ..demo import checkpoints as demo
from . import encoders, host, paths
from .api import io, schema

VAES = ("vae", "checkpoints", "unianimate", "xdyna")
TEXTS = ("text_encoders", "checkpoints", "unianimate", "xdyna")
VISIONS = ("clip_vision", "unianimate", "xdyna")
"""Model folder ids in which the files of each part are listed."""


def _file(choice: str, folders: tuple[str, ...], embedded: Path) -> Path:
    return embedded if choice == paths.DEMO else paths.locate(choice, *folders)


def _precision() -> io.Input:
    return io.Combo.Input(
        "precision",
        options=list(host.PRECISIONS),
        default="fp32",
        tooltip="Number format; both published systems run their encoders in fp32.",
    )


class LoadVae(io.ComfyNode):
    """An autoencoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadVae",
            display_name="Load VAE (exact)",
            menu="loaders",
            description="Stable Diffusion's autoencoder from a VAE file or a whole checkpoint. With it our nodes "
            "draw from its posterior, as both published systems do; core's VAE gives the mean.",
            inputs=[
                io.Combo.Input(
                    "vae",
                    options=paths.choices(*VAES),
                    default=paths.DEMO,
                    tooltip="UniAnimate: v2-1_512-ema-pruned.ckpt (Open RAIL++-M). X-Dyna: any SD1.5 checkpoint or "
                    "VAE (Open RAIL-M).",
                ),
                _precision(),
            ],
            outputs=[io.Vae.Output(display_name="vae", tooltip="For our nodes and core's.")],
            needs=("diffusers",),
            search_aliases=["vae loader", "autoencoder", "vae"],
        )

    @classmethod
    def execute(cls, vae: str, precision: str) -> io.NodeOutput:
        from ..video_core.vae import load_vae

        return io.NodeOutput(encoders.OurVae(load_vae(_file(vae, VAES, demo.VAE), host.dtype(precision))))

    @classmethod
    def fingerprint_inputs(cls, vae: str, **others: str) -> str:
        return paths.stamp(vae, *VAES)


class LoadClip(io.ComfyNode):
    """A text tower."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadClip",
            display_name="Load CLIP (exact)",
            menu="loaders",
            description="A CLIP text tower: OpenCLIP ViT-H for UniAnimate, SD1.5's for X-Dyna. An empty prompt needs "
            "no vocabulary; for others it is looked for on this machine.",
            inputs=[
                io.Combo.Input(
                    "clip",
                    options=paths.choices(*TEXTS),
                    default=paths.DEMO,
                    tooltip="UniAnimate: open_clip_pytorch_model.bin (MIT). X-Dyna: an SD1.5 checkpoint.",
                ),
                _precision(),
            ],
            outputs=[io.Clip.Output(display_name="clip", tooltip="For CLIP Text Encode and our nodes.")],
            needs=("transformers",),
            search_aliases=["clip loader", "text encoder", "open_clip"],
        )

    @classmethod
    def execute(cls, clip: str, precision: str) -> io.NodeOutput:
        from ..video_core.clip import load_clip_text

        text = load_clip_text(_file(clip, TEXTS, demo.CLIP), host.dtype(precision))
        return io.NodeOutput(encoders.OurClip(text))

    @classmethod
    def fingerprint_inputs(cls, clip: str, **others: str) -> str:
        return paths.stamp(clip, *TEXTS)


class LoadClipVision(io.ComfyNode):
    """An image tower."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadClipVision",
            display_name="Load CLIP vision (exact)",
            menu="loaders",
            description="CLIP ViT-H/14's image tower. Our nodes prepare its pictures as each published system does, "
            "with this one and with core's.",
            inputs=[
                io.Combo.Input(
                    "clip_vision",
                    options=paths.choices(*VISIONS),
                    default=paths.DEMO,
                    tooltip="UniAnimate: open_clip_pytorch_model.bin. X-Dyna: IP-Adapter's image encoder, "
                    "CLIP-ViT-H-14-laion2B-s32B-b79K (MIT).",
                ),
                _precision(),
            ],
            outputs=[
                io.ClipVision.Output(
                    display_name="clip_vision", tooltip="For our conditioning nodes and core's."
                )
            ],
            needs=("transformers",),
            search_aliases=["clip vision loader", "image encoder", "open_clip"],
        )

    @classmethod
    def execute(cls, clip_vision: str, precision: str) -> io.NodeOutput:
        from ..video_core.clip import load_clip_vision

        vision = load_clip_vision(_file(clip_vision, VISIONS, demo.CLIP), host.dtype(precision))
        return io.NodeOutput(encoders.OurVision(vision))

    @classmethod
    def fingerprint_inputs(cls, clip_vision: str, **others: str) -> str:
        return paths.stamp(clip_vision, *VISIONS)


NODES = (LoadVae, LoadClip, LoadClipVision)
