"""Checkpoints of any kind to safetensors, without running anything from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .outputs import refuse_existing

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def convert(
    source: Path, target: Path | None = None, dtype: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write the tensors of a .pth, .ckpt, .bin or .pt file as ``.safetensors``, one in memory at a time.

    target: None is beside the source. dtype: fp16, bf16 or fp32 for floating tensors, None keeps them.
    Returns {"file", "tensors", "bytes"}. Raises CheckpointError or ValueError with a sentence, and leaves no
    file, where a tensor cannot be written or does not fit into the dtype.
    """
    from ..video_core.placement import DTYPES
    from ..video_core.weights import Renamed, open_checkpoint, save_checkpoint

    target = target or source.with_suffix(".safetensors")
    refuse_existing(target, overwrite)
    if target.suffix.lower() != ".safetensors":
        raise ValueError(f"{target} should end in .safetensors.")
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"'{dtype}' is no precision; choose {', '.join(DTYPES)}.")
    checkpoint = open_checkpoint(source)
    if dtype is None:
        save_checkpoint(target, checkpoint, checkpoint.metadata)
    else:
        table = {name: (name, _caster(source, name, DTYPES[dtype])) for name in checkpoint}
        save_checkpoint(target, Renamed(checkpoint, table), checkpoint.metadata)
    return {"file": str(target), "tensors": len(checkpoint), "bytes": target.stat().st_size}


def _caster(source: Path, name: str, dtype: torch.dtype) -> Any:
    from ..video_core.weights import shown

    def cast(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        converted = tensor.to(dtype)
        if converted.isinf().any() and not tensor.isinf().any():
            raise ValueError(
                f"{source}: {shown(name)} holds values up to {tensor.abs().max():.3g}, more than {dtype} can; "
                "take bf16 or fp32."
            )
        return converted

    return cast
