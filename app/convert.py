"""Checkpoints of any kind to safetensors, without running anything from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def convert(
    source: Path, target: Path | None = None, dtype: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write the tensors of a .pth, .ckpt, .bin or .pt file as ``.safetensors``.

    target: None is beside the source. dtype: fp16, bf16 or fp32 for floating tensors, None keeps them.
    Returns {"file", "tensors", "bytes"}. Raises CheckpointError or ValueError with a sentence.
    """
    from ..video_core.placement import DTYPES
    from ..video_core.weights import open_checkpoint, save_checkpoint

    target = target or source.with_suffix(".safetensors")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists already; choose another name, or allow it to be overwritten.")
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"'{dtype}' is no precision; choose {', '.join(DTYPES)}.")
    checkpoint = open_checkpoint(source)
    tensors = checkpoint if dtype is None else {n: _cast(checkpoint[n], DTYPES[dtype]) for n in checkpoint}
    save_checkpoint(target, tensors, checkpoint.metadata)
    return {"file": str(target), "tensors": len(tensors), "bytes": target.stat().st_size}


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
