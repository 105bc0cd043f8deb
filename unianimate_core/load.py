"""A checkpoint file to a network that is ready to run."""

from __future__ import annotations

import os

import torch

from ..video_core.weights import built, common_dtype, load_exactly, open_checkpoint, read_config
from .config import UniAnimateConfig
from .keys import RELEASE_FILE, network_tensors
from .unet import UniAnimateUNet


def load_unet(
    path: str | os.PathLike[str], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> UniAnimateUNet:
    """The network of a checkpoint (.safetensors, .pth, .ckpt, .pt, .bin), in eval mode, without gradients.

    dtype: of the weights, and so of the computation; None = the file's, float32 where it mixes several.
    A file may carry its architecture as metadata ``config`` (``UniAnimateConfig.to_json``); without it, it is
    the release's. Memory: the network and an eighth of the file. Raises CheckpointError with a sentence for
    another model's file, for names or shapes that do not fit, for fp8, damaged or unsafe files.
    """
    checkpoint = open_checkpoint(path)
    tensors = network_tensors(checkpoint)
    unet = built(UniAnimateUNet, read_config(checkpoint, UniAnimateConfig()), checkpoint)
    load_exactly(unet, tensors, source=f"UniAnimate ({RELEASE_FILE})", dtype=dtype or common_dtype(tensors))
    return unet.eval().requires_grad_(False).to(device)
